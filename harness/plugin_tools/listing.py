"""The pages of `harness plugins list`, `harness plugins show` and `harness doctor`."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import inspect
import os
import platform
from collections.abc import Mapping

from harness.api import HarnessError, Loss, Selector
from harness.api.option_notes import option_notes
from harness.execute.scorer_choice import choose_scorer
from harness.manager import Manager, datasets, losses, of_one_plugin, owner_of, plugin_manager, resolver, scorers
from harness.run_folder.paths import cache_folder

SELECTORS = "harness_selectors"
NEEDS: Mapping[str, str] = {
    "needs_reference": "reference",
    "needs_reference_tokens": "reference tokens",
    "needs_kl": "mismatched completions",
    "needs_log_sum_sq": "p^2 sums",
    "needs_token_kl": "token KL",
    "needs_reference_entropy": "reference entropy",
    "batch_coupled": "whole step",
    "stateful": "state",
}
"""For each trait, in words: what the harness must provide for the loss."""


def plugin_list() -> str:
    """Return one line per loss under its family, then selectors, data sets, scorers and the broken plugins."""
    manager = plugin_manager()
    known = losses(manager)
    width = max(map(len, known), default=4)
    families: dict[str, list[str]] = {}
    broken = list(manager.broken.values())
    for name, cls in known.items():
        owner = owner_of(manager, name)
        try:
            kind = family(default_loss(manager, name))
        except HarnessError as error:  # its constructor raises: the other losses are still listed
            broken.append(str(error))
            continue
        line = f"{name:<{width}}  {_first_line(cls)}  [{owner.distribution} {owner.version}]"
        families.setdefault(kind, []).append(line)
    lines: list[str] = []
    for kind in sorted(families):
        lines += [f"{kind.capitalize()}:", *families[kind], ""]
    lines += ["Selectors:", *_selector_lines(manager, broken), ""]
    lines += ["Data sets  " + ", ".join(datasets(manager)), "Scorers    " + ", ".join(scorers(manager))]
    return "\n".join(lines + [f"BROKEN  {reason}" for reason in broken])


def _selector_lines(manager: Manager, broken: list[str]) -> list[str]:
    """Return a line per selector: its options with their defaults, what it does, and who brings it."""
    cells: list[tuple[str, str]] = []
    for name, cls in of_one_plugin(manager, SELECTORS).items():
        owner = owner_of(manager, name, SELECTORS)
        try:
            cells.append(
                (str(_default_selector(manager, cls)), f"{_about(cls)}  [{owner.distribution} {owner.version}]")
            )
        except HarnessError as error:
            broken.append(str(error))
    width = max((len(setting) for setting, _ in cells), default=0)
    return [f"{setting:<{width}}  {about}" for setting, about in cells]


def _default_selector(manager: Manager, cls: type[Selector]) -> Selector:
    """Return the selector with its default options; whatever it raises becomes a `HarnessError` naming its owner."""
    try:
        return cls.from_options({})
    except Exception as error:
        owner = owner_of(manager, cls.name, SELECTORS)
        raise HarnessError(
            f"selector '{cls.name}' of {owner.distribution} {owner.version} cannot be built with its defaults: "
            f"{type(error).__name__}: {error}; correct the plugin or uninstall it"
        ) from error


def plugin_page(name: str) -> str:
    """Return all that is known about one loss or, where no loss is called so, one selector."""
    manager = plugin_manager()
    chosen = of_one_plugin(manager, SELECTORS).get(name)
    return _loss_page(manager, name) if chosen is None or name in losses(manager) else _selector_page(manager, chosen)


def _selector_page(manager: Manager, cls: type[Selector]) -> str:
    """Return the docstrings of a selector, its options, and what it needs."""
    owner, notes, selector = owner_of(manager, cls.name, SELECTORS), option_notes(cls), _default_selector(manager, cls)
    lines = [f"{cls.name}  [{owner.distribution} {owner.version}]", "", inspect.getdoc(cls) or "", ""]
    lines.append("Options (default):")
    for field in dataclasses.fields(selector):
        value = getattr(selector, field.name)
        lines.append(f"  {field.name} = {value!r}  {notes.get(field.name, '')}".rstrip())
    needed = [
        *(["scores of both responses"] if cls.needs_scores else []),
        *(["training lists, whose responses it pairs anew"] if cls.needs_lists else []),
        *(["the start checkpoint's log-probs of all candidates"] if cls.needs_logps else []),
        *([f"a probe, trained on {selector.probe_pairs} pairs"] if selector.probe_pairs else []),
    ]
    lines += ["", "Needs: " + (", ".join(needed) or "the training pairs only")]
    return "\n".join([*lines, f"Use: harness run --select {selector}"])


def _loss_page(manager: Manager, name: str) -> str:
    """Return all that is known about one loss: its docstrings, options, family, needs and promises."""
    loss = default_loss(manager, name)
    owner, cls = owner_of(manager, name), type(loss)
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
    """Return the kind of method, such as "pairwise, reference, summed"; a wrapper has that of its base."""
    values = [getattr(loss, field.name) for field in dataclasses.fields(loss)]
    words = [
        loss.comparison,
        "reference" if loss.needs_reference or loss.needs_reference_tokens else "reference-free",
        "averaged" if loss.length_normalised else "summed",
        *(f"around {value.name}" for value in values if isinstance(value, Loss)),
    ]
    return ", ".join(words)


def needs(loss: Loss) -> list[str]:
    """Return what a loss needs beyond the policy's log-probs of the two responses."""
    declared = [words for trait, words in NEEDS.items() if getattr(loss, trait)]
    declared += ["moving reference"] if loss.moving_reference else []
    return declared + [f"column {column}" for column in loss.needs_columns]


def default_loss(manager: Manager, name: str) -> Loss:
    """Return the loss with its default options; whatever it raises becomes a `HarnessError` that names its owner."""
    try:
        return resolver(manager)(name, {})
    except HarnessError:
        raise
    except Exception as error:
        owner = owner_of(manager, name)
        raise HarnessError(
            f"loss '{name}' of {owner.distribution} {owner.version} cannot be built with its defaults: "
            f"{type(error).__name__}: {error}; correct the plugin or uninstall it"
        ) from error


def _promises(loss: Loss) -> list[str]:
    promises, domain = [], loss.domain
    if loss.monotone:
        promises.append("a likelier chosen or a less likely rejected response never raises the loss")
    if not loss.saturates:
        promises.append("a misranked pair always has a gradient")
    promises.append(
        f"finite down to {domain.lowest_sum:g} nats per response and {domain.lowest_token:g} nats per token, "
        f"up to {domain.longest} tokens"
    )
    for limit in loss.limits:
        where = [f"{key}={value}" for key, value in (*limit.options.items(), *limit.columns.items())]
        options = ",".join(f"{key}={value}" for key, value in limit.equals_options.items())
        scale = "" if limit.scale == 1 else f"{limit.scale:g} * "
        other = f"{scale}{limit.equals}{':' if options else ''}{options}"
        promises.append((f"with {', '.join(where)} it is " if where else "it is ") + other)
    return promises


def doctor_page() -> str:
    """Return what is installed here, and which scorer, GPU, hub and caches a run would use."""
    packages = ("preference-harness", "torch", "transformers", "datasets", "peft", "gguf", "bert-score", "ray")
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
    try:
        lines.append(f"A run scores with {choose_scorer('auto', known)[0].name}.")
    except HarnessError as error:
        lines.append(f"A run cannot score: {error}")
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


def _about(cls: type) -> str:
    """Return the first line of the docstring of a class."""
    text = inspect.getdoc(cls) or ""
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
    if not endpoint.startswith(("https://", "http://")):
        return f"HF_ENDPOINT is {endpoint}, expected an address that begins with https://; local models and data work"
    try:
        with urllib.request.urlopen(endpoint, timeout=3):
            return f"{endpoint} answers"
    except (urllib.error.URLError, OSError, ValueError) as error:
        return f"{endpoint} does not answer ({error}); local models and data work"
