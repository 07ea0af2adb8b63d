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
        for name, asked in selection(text, known)
        for options in crossed(asked, f"loss '{name}'")
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
    """Return the losses that a selection names, each with the options given as text; see `select`.

    Raises `HarnessError` for an unknown name after `-` and an option without a loss before it.
    """
    chosen: list[tuple[str, dict[str, str]]] = []
    removed: list[str] = []
    for item in (part.strip() for part in text.split(",")):
        if not item:
            continue
        name, colon, first = item.partition(":")
        if not colon and "=" in item:
            if not chosen or item.startswith("-"):
                raise HarnessError(f"--plugins got '{item}' in '{text}', expected NAME:option=value before it")
            _set_option(chosen[-1][1], item, chosen[-1][0])
        elif name.startswith("-"):
            removed.append(_known(name[1:], known))
        elif item in ("all", "core"):
            chosen.extend((loss, {}) for loss in (known if item == "all" else CORE))
        else:
            chosen.append((name, {}))
            if colon:
                _set_option(chosen[-1][1], first, name)
    return [(name, options) for name, options in chosen if name not in removed]


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


def identity(loss: str, options: Mapping[str, Any], learning_rate: float | None = None) -> str:
    """Return what tells systems of one label apart: the loss, all its options and, where it has one, its own rate."""
    exact = json.dumps([loss, options], sort_keys=True)
    return exact if learning_rate is None else json.dumps([exact, learning_rate])


def _identity(system: System) -> str:
    return identity(system.loss.name, system.loss.options(), system.learning_rate)


def _known(name: str, known: Sequence[str]) -> str:
    if name not in known:
        raise HarnessError(f"--plugins got '-{name}', expected one of {', '.join(known)}")
    return name


def _set_option(options: dict[str, str], item: str, loss: str) -> None:
    name, equals, value = item.partition("=")
    if not equals or not name.strip():
        raise HarnessError(f"loss '{loss}': got '{item}', expected option=value; for example {loss}:beta=2.5")
    options[name.strip()] = value.strip()
