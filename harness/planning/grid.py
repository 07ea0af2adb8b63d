"""The grid of a run: which losses, with which options, on which models and seeds."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.api import HarnessError, Loss

CORE = ("simpo", "cpo", "ipo", "alphapo", "gapo", "gappo", "dpo")
"""What `--plugins core` selects: the two gap-aware methods, the four they are compared with in print, and DPO."""


OWN_LABEL = re.compile(r"@[0-9a-f]{8}$")
"""What stands behind the name of a loss that no distribution brings; see `own_label`."""


@dataclass(frozen=True, kw_only=True)
class Trial:
    """Where the options of a tuned system come from."""

    system: str
    """Label of the system whose options were sampled."""
    number: int
    """From 0, in the order of the sampler."""
    options: Mapping[str, float]
    """Those that were sampled; the learning rate is the system's."""
    trials: int | None = None
    """How many it was chosen from; None for a trial itself."""
    dev: float | None = None
    """Its value on the dev split, by which it was chosen; None where no trial had one, or it is not chosen yet."""


@dataclass(frozen=True, kw_only=True)
class System:
    """One loss with its options, as one row of a board."""

    loss: Loss
    label: str
    """The loss's name with the options that were given; unique within a run."""
    given: tuple[str, ...] = ()
    """The options that were given: tuning leaves them alone."""
    learning_rate: float | None = None
    """None: the run's."""
    trial: Trial | None = None
    """None: the options are the loss's defaults or were given."""
    source: str = ""
    """The sha256 of the source of the loss, or of one in it, that no distribution brings; empty where all are."""


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One training run and its scores: the unit of resuming."""

    key: str
    """The name of its folder."""
    model: str
    system: System
    seed: int


def select(text: str, known: Sequence[str], resolve: Callable[[str, Mapping[str, Any]], Loss]) -> list[System]:
    """Return the systems that a selection names: `all`, `core`, `simpo,gappo`, `all,-cpo`, `simpo:beta=2.5,dpo`.

    After `NAME:` items of the form `option=value` belong to that loss, up to the next item without `=`. Several values,
    `option=1|2|4`, are a system each; those of several options are crossed.
    Raises `HarnessError` for an unknown name or option, an empty selection or the same system twice.
    """
    systems = [
        System(loss=resolve(name, options), label=label(name, options), given=tuple(sorted(options)))
        for name, options in selection(text, known)
    ]
    if not systems:
        raise HarnessError(
            f"--plugins got '{text}', which selects no loss; expected `all`, `core`, "
            "a list such as simpo,gappo, or all,-cpo"
        )
    seen: dict[str, str] = {}
    for system in systems:
        same = seen.setdefault(identity(system.loss.name, system.loss.options()), system.label)
        if same != system.label or [other.label for other in systems].count(system.label) > 1:
            raise HarnessError(
                f"--plugins got '{text}', in which '{same}' and '{system.label}' are the same; name it once"
            )
    return systems


def selection(text: str, known: Sequence[str]) -> list[tuple[str, dict[str, str]]]:
    """Return the losses that a selection names, each with the options given as text, one value each; see `select`.

    Raises `HarnessError` for an unknown name after `-`, an option without a loss before it and a value that is missing.
    """
    chosen: list[tuple[str, dict[str, str]]] = []
    removed: list[str] = []
    for name, options in with_options(text, "--plugins", "loss", "beta=2.5"):
        if name.startswith("-"):
            if options:
                raise HarnessError(f"--plugins got options of '{name}', which leaves a loss out; name it alone")
            removed.append(_known(name[1:], known))
        elif name in ("all", "core") and not options:
            chosen.extend((loss, {}) for loss in (known if name == "all" else CORE))
        else:
            chosen.append((name, options))
    return [
        (name, options) for name, asked in chosen if name not in removed for options in crossed(asked, f"loss '{name}'")
    ]


def with_options(text: str, flag: str, kind: str, example: str) -> list[tuple[str, dict[str, str]]]:
    """Return the names in a list such as `simpo:beta=2|4,gamma=1,dpo`, each with its options as they are written.

    `flag`, `kind` and `example`, an option with its value, are for messages. Raises `HarnessError` for an option
    without a name before it and one without `=`.
    """
    found: list[tuple[str, dict[str, str]]] = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, colon, option = item.partition(":")
        if colon or "=" not in item:
            found.append((name.strip(), {}))
        elif not found:
            raise HarnessError(f"{flag} got '{item}' in '{text}', expected NAME:option=value before it")
        else:
            option = item
        if colon or option:
            name, options = found[-1]
            key, equals, value = option.partition("=")
            if not equals or not key.strip():
                raise HarnessError(
                    f"{kind} '{name}': got '{option.strip()}', expected option=value; for example {name}:{example}"
                )
            options[key.strip()] = value.strip()
    return found


def crossed(options: Mapping[str, str], whose: str) -> list[dict[str, str]]:
    """Return options with one value each, for every combination of their values, which stand as `1|2|4`.

    Raises `HarnessError`, which begins with `whose`, for a value that is missing or given twice.
    """
    choices = {name: [value.strip() for value in values.split("|")] for name, values in options.items()}
    for name, values in choices.items():
        if len(values) > 1 and (not all(values) or len(set(values)) < len(values)):
            raise HarnessError(
                f"{whose}: got {name}={options[name]}, expected values between the | that are not empty and not alike"
            )
    return [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]


def label(name: str, options: Mapping[str, Any]) -> str:
    """Return the loss's name with the options given, such as `simpo(beta=2.5)`."""
    given = ",".join(f"{option}={value}" for option, value in sorted(options.items()))
    return f"{name}({given})" if given else name


def own_label(name: str, source: str) -> str:
    """Return what boards call a loss that no distribution brings: its name and 8 digits of the hash of its source."""
    return f"{name}@{source[:8]}"


def cells(models: Sequence[str], systems: Sequence[System], seeds: Sequence[int]) -> list[Cell]:
    """Return the grid, model by model, seed by seed."""
    return [
        Cell(key=cell_key(model, system.label, _identity(system), seed), model=model, system=system, seed=seed)
        for model in models
        for seed in seeds
        for system in systems
    ]


def cell_key(model: str, label: str, identity: str, seed: int | None) -> str:
    """Return a folder name that a person can read and that no other cell has; `identity` tells like labels apart."""
    readable = re.sub(r"[^A-Za-z0-9.=-]+", "_", f"{model.rstrip('/').rpartition('/')[2]}--{label}").strip("_")
    exact = hashlib.sha256(json.dumps([model, identity]).encode()).hexdigest()[:6]
    return f"{readable[:80]}--{exact}" + ("" if seed is None else f"--seed{seed}")


def identity(loss: str, options: Mapping[str, Any], learning_rate: float | None = None, source: str = "") -> str:
    """Return what tells systems of one label apart: the loss, all its options and, where there are, rate and source."""
    exact = json.dumps([loss, options, *([source] if source else [])], sort_keys=True)
    return exact if learning_rate is None else json.dumps([exact, learning_rate])


def _identity(system: System) -> str:
    return identity(system.loss.name, system.loss.options(), system.learning_rate, system.source)


def _known(name: str, known: Sequence[str]) -> str:
    if name not in known:
        raise HarnessError(f"--plugins got '-{name}', expected one of {', '.join(known)}")
    return name
