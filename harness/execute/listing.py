"""Pages about what is installed."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import inspect
import os
import platform
from itertools import pairwise

from harness.api import HarnessError, Loss
from harness.config import cache_folder
from harness.execute.campaign import choose_scorer
from harness.manager import Manager, datasets, loss_owner, losses, plugin_manager, resolver, scorers

TRAITS = ("needs_reference", "needs_reference_tokens", "needs_kl", "needs_log_sum_sq", "batch_coupled")


def plugin_list() -> str:
    """Return one line a loss, then the plugins that failed."""
    manager = plugin_manager()
    known = losses(manager)
    width = max(map(len, known), default=4)
    lines = []
    for name, cls in known.items():
        owner = loss_owner(manager, name)
        lines.append(f"{name:<{width}}  {_first_line(cls)}  [{owner.distribution} {owner.version}]")
    lines += ["", "Data sets  " + ", ".join(datasets(manager)), "Scorers    " + ", ".join(scorers(manager))]
    return "\n".join(lines + [f"BROKEN  {reason}" for reason in manager.broken.values()])


def plugin_page(name: str) -> str:
    """Return all that is known of one loss."""
    manager = plugin_manager()
    cls = type(_default(manager, name))
    loss = _default(manager, name)
    owner = loss_owner(manager, name)
    module = inspect.getmodule(cls)
    needs = [trait for trait in TRAITS if getattr(loss, trait)] + [f"column {column}" for column in loss.needs_columns]
    lines = [
        f"{name}  [{owner.distribution} {owner.version}]",
        "",
        inspect.getdoc(module) or "",
        "",
        inspect.getdoc(cls) or "",
        "",
    ]
    lines.append("Options (default):")
    notes = _field_notes(cls)
    defaults = loss.options()
    for field in dataclasses.fields(cls):
        lines.append(f"  {field.name} = {defaults[field.name]!r}  {notes.get(field.name, '')}".rstrip())
    lines += [f"  {option} = {value!r}" for option, value in defaults.items() if "." in option]
    lines += ["", "Needs: " + (", ".join(needs) or "policy log-probs only")]
    if space := loss.tuning_space():
        ranges = [f"{key} in [{r.low:g}, {r.high:g}]{' (log)' if r.log else ''}" for key, r in space.items()]
        lines.append("Tuning may vary: " + ", ".join(ranges))
    return "\n".join(lines)


def doctor_page() -> str:
    """Return what is installed and what a run would use."""
    packages = ("preference-harness", "torch", "transformers", "datasets", "peft", "bert-score", "ray")
    lines = [f"Python        {platform.python_version()} on {platform.platform()}, {os.cpu_count()} CPUs"]
    for name in packages:
        lines.append(f"{name:<13} {_version(name)}")
    manager = plugin_manager()
    known = scorers(manager)
    for name, source in known.items():
        trouble = source.why_not()
        lines.append(
            f"scorer {name:<13} {'ready, version ' + source.version() if trouble is None else 'no: ' + trouble}"
        )
    lines.append(f"A run scores with {choose_scorer('auto', known)[0].name}.")
    lines.append(f"GPU           {_gpu()}")
    offline = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0")
    lines.append(f"Hub           {'off (HF_HUB_OFFLINE is set)' if offline else _hub()}")
    lines.append(f"Caches        {cache_folder()} (HARNESS_CACHE), hub cache by HF_HOME")
    lines.append(f"Losses        {', '.join(losses(manager))}")
    return "\n".join(lines + [f"BROKEN        {reason}" for reason in manager.broken.values()])


def _default(manager: Manager, name: str) -> Loss:
    return resolver(manager)(name, {})


def _first_line(cls: type[Loss]) -> str:
    module = inspect.getmodule(cls)
    text = inspect.getdoc(module) or inspect.getdoc(cls) or ""
    return text.strip().splitlines()[0] if text.strip() else ""


def _field_notes(cls: type[Loss]) -> dict[str, str]:
    """Return the string under each field, as the source has it."""
    import ast
    import textwrap

    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls)))
    except (OSError, SyntaxError):
        return {}
    body = tree.body[0].body if isinstance(tree.body[0], ast.ClassDef) else []
    notes = {}
    for field, under in pairwise(body):
        match field, under:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                notes[name] = " ".join(text.split())
    return notes


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _gpu() -> str:
    if importlib.util.find_spec("torch") is None:
        raise HarnessError("torch is not installed; install preference-harness again")
    import torch

    return torch.cuda.get_device_name() if torch.cuda.is_available() else "none; training and scoring run on the CPU"


def _hub() -> str:
    import urllib.error
    import urllib.request

    endpoint = os.environ.get("HF_ENDPOINT", "https://huggingface.co")
    try:
        with urllib.request.urlopen(endpoint, timeout=3):
            return f"{endpoint} answers"
    except (urllib.error.URLError, OSError, ValueError) as error:
        return f"{endpoint} does not answer ({error}); local models and data work"
