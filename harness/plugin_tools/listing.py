"""Pages about what is installed."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import inspect
import os
import platform
from collections.abc import Mapping

from harness.api import HarnessError, Loss
from harness.api.option_notes import option_notes
from harness.execute.scorer_choice import choose_scorer
from harness.manager import Manager, datasets, loss_owner, losses, plugin_manager, resolver, scorers
from harness.run_folder.paths import cache_folder

NEEDS: Mapping[str, str] = {
    "needs_reference": "reference",
    "needs_reference_tokens": "reference tokens",
    "needs_kl": "mismatched completions",
    "needs_log_sum_sq": "p^2 sums",
    "batch_coupled": "whole step",
    "stateful": "state",
}
"""By trait: what a loss asks the harness for, in words."""


def plugin_list() -> str:
    """Return one line a loss under its family, then the data sets, the scorers and what is broken."""
    manager = plugin_manager()
    known = losses(manager)
    width = max(map(len, known), default=4)
    families: dict[str, list[str]] = {}
    broken = list(manager.broken.values())
    for name, cls in known.items():
        owner = loss_owner(manager, name)
        try:
            kind = family(default_loss(manager, name))
        except HarnessError as error:  # somebody's constructor: it costs its own line
            broken.append(str(error))
            continue
        line = f"{name:<{width}}  {_first_line(cls)}  [{owner.distribution} {owner.version}]"
        families.setdefault(kind, []).append(line)
    lines: list[str] = []
    for kind in sorted(families):
        lines += [f"{kind.capitalize()}:", *families[kind], ""]
    lines += ["Data sets  " + ", ".join(datasets(manager)), "Scorers    " + ", ".join(scorers(manager))]
    return "\n".join(lines + [f"BROKEN  {reason}" for reason in broken])


def plugin_page(name: str) -> str:
    """Return all that is known of one loss."""
    manager = plugin_manager()
    loss = default_loss(manager, name)
    owner, cls = loss_owner(manager, name), type(loss)
    defaults, notes = loss.options(), option_notes(cls)
    about = inspect.getdoc(inspect.getmodule(cls)) or ""
    lines = [f"{name}  [{owner.distribution} {owner.version}]", "", about, "", inspect.getdoc(cls) or "", ""]
    lines.append("Options (default):")
    for field in dataclasses.fields(cls):
        lines.append(f"  {field.name} = {defaults[field.name]!r}  {notes.get(field.name, '')}".rstrip())
    lines += [f"  {option} = {value!r}" for option, value in defaults.items() if "." in option]
    lines += ["", f"Family: {family(loss)}", "Needs: " + (", ".join(needs(loss)) or "policy log-probs only")]
    lines += ["Promises:", *(f"  {text}" for text in _promises(loss))]
    if space := loss.tuning_space():
        ranges = [f"{key} in [{r.low:g}, {r.high:g}]{' (log)' if r.log else ''}" for key, r in space.items()]
        lines.append("Tuning may vary: " + ", ".join(ranges))
    return "\n".join(lines)


def family(loss: Loss) -> str:
    """Return what kind of method it is, such as "pairwise, reference, summed"; a wrapper's is its base's."""
    values = [getattr(loss, field.name) for field in dataclasses.fields(loss)]
    words = [
        loss.comparison,
        "reference" if loss.needs_reference or loss.needs_reference_tokens else "reference-free",
        "averaged" if loss.length_normalised else "summed",
        *(f"around {value.name}" for value in values if isinstance(value, Loss)),
    ]
    return ", ".join(words)


def needs(loss: Loss) -> list[str]:
    """Return what a loss asks for beyond the policy's log-probs of the two responses."""
    declared = [words for trait, words in NEEDS.items() if getattr(loss, trait)]
    return declared + [f"column {column}" for column in loss.needs_columns]


def default_loss(manager: Manager, name: str) -> Loss:
    """Return the loss with its default options. Raises `HarnessError`, with who brings it, whatever it raised."""
    try:
        return resolver(manager)(name, {})
    except HarnessError:
        raise
    except Exception as error:
        owner = loss_owner(manager, name)
        raise HarnessError(
            f"loss '{name}' of {owner.distribution} {owner.version} cannot be built with its defaults: "
            f"{type(error).__name__}: {error}; mend the plugin or uninstall it"
        ) from error


def _promises(loss: Loss) -> list[str]:
    said, domain = [], loss.domain
    if loss.monotone:
        said.append("a likelier chosen or a less likely rejected response never raises the loss")
    if not loss.saturates:
        said.append("a misranked pair always has a gradient")
    said.append(
        f"finite down to {domain.lowest_sum:g} nats a response and {domain.lowest_token:g} nats a token, "
        f"up to {domain.longest} tokens"
    )
    for limit in loss.limits:
        where = [f"{key}={value}" for key, value in (*limit.options.items(), *limit.columns.items())]
        options = ",".join(f"{key}={value}" for key, value in limit.equals_options.items())
        scale = "" if limit.scale == 1 else f"{limit.scale:g} * "
        other = f"{scale}{limit.equals}{':' if options else ''}{options}"
        said.append((f"with {', '.join(where)} it is " if where else "it is ") + other)
    return said


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


def _first_line(cls: type[Loss]) -> str:
    module = inspect.getmodule(cls)
    text = inspect.getdoc(module) or inspect.getdoc(cls) or ""
    return text.strip().splitlines()[0] if text.strip() else ""


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
