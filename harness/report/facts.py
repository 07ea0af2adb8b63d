"""What records and manifest say of training, data and versions, in sentences. Pure."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import TypeVar

from harness.leaderboard.formatting import counted, listed, number, spent
from harness.leaderboard.hints import PROTOCOL
from harness.run_folder.adapter_setting import adapter_in_words
from harness.run_folder.board_key import BoardKey
from harness.run_folder.facts import DataFacts, LossFacts, ModelFacts
from harness.run_folder.manifest import Manifest
from harness.run_folder.record import Record

T = TypeVar("T", bound=Hashable)

PACKAGES = {"harness": "preference-harness", "python": "Python", "torch": "torch", "transformers": "transformers"}
"""What records have the version of, and what it is called."""
MOST_VALUES = 3
"""More values of an option are counted: they were tuned."""


def distinct(values: Iterable[T | None]) -> list[T]:
    """Return the values that are there, each once, in order."""
    return [value for value in dict.fromkeys(values) if value is not None]


def either(words: Sequence[str]) -> str:
    """Return the different ones of these: `a`, `a or b`."""
    return " or ".join(dict.fromkeys(words))


def options(of: Sequence[LossFacts]) -> str:
    """Return the options of a loss in its cells."""
    names = dict.fromkeys(name for loss in of for name in loss.options)
    return ", ".join(f"{name} = {_values([loss.options.get(name) for loss in of])}" for name in names) or "no options"


def _values(values: Sequence[object]) -> str:
    words = list(dict.fromkeys("none" if value is None else str(value) for value in values))
    if len(words) > MOST_VALUES:
        return f"one of {len(words)} values"
    if len(words) > 1:  # tuned: as many digits as boards have
        words = [f"{value:.4g}" if isinstance(value, float) else str(value) for value in dict.fromkeys(values)]
    return " or ".join(words)


def trained_in_words(records: Sequence[Record]) -> list[str]:
    """Return what was trained on what, for how long and how; of records with at least one of a loss."""
    trained = [record for record in records if record.kind == "loss"]
    keys = distinct(record.board for record in trained)
    labels = distinct(record.label for record in trained)
    losses = "loss was" if len(labels) == 1 else "losses were"
    seeds = sorted(distinct(record.seed for record in trained))
    return [
        f"Protocol {either([str(record.protocol) for record in trained])}: {PROTOCOL[0].lower()}{PROTOCOL[1:]}",
        f"{counted(len(labels)).capitalize()} {losses} trained: {listed(labels)}.",
        _models([record.model for record in trained]),
        *(_budget(budget, trained) for budget in distinct(key.budget for key in keys)),
        *distinct(map(_rate, keys)),
        *distinct(map(_setting, keys)),
        f"Seeds of the order of the pairs: {listed([*map(str, seeds)])}.",
    ]


def _models(models: Sequence[ModelFacts]) -> str:
    """Return the start checkpoints; of one that failed less is known than of its other cells."""
    known: dict[str, ModelFacts] = {}
    for model in models:
        if model.name not in known or not known[model.name].fingerprint:
            known[model.name] = model
    words = []
    for name, model in known.items():
        facts = (
            model.id if model.id != name else "",
            f"{model.parameters:,} parameters" if model.parameters else "",
            f"revision {model.revision}" if model.revision else "",
            f"weights {model.fingerprint}" if model.fingerprint else "",
        )
        said = ", ".join(filter(None, facts))
        words.append(f"{name} ({said})" if said else name)
    return f"Start checkpoint{'' if len(words) == 1 else 's'}: {'; '.join(words)}."


def data_in_words(records: Sequence[Record]) -> list[str]:
    """Return which data the scored ones of these records were trained and tested on."""
    return distinct(_data(record.dataset) for record in records if record.scored)


def _data(data: DataFacts) -> str:
    pairs = f", {data.train_pairs:,} training pairs" if data.train_pairs is not None else ""
    words = f"Data: {_named(data.name or 'unnamed', data.source, data.fingerprint)}{pairs}."
    on = data.tested_on
    return words + (f" Tested on: {_named(on.name, on.source, on.fingerprint)}." if on else "")


def _named(name: str, source: str, fingerprint: str) -> str:
    return f"{name}{f' ({source})' if source not in ('', name) else ''}, fingerprint {fingerprint}"


def _budget(budget: str, trained: Sequence[Record]) -> str:
    """Return a budget, and what the cells under it spent."""
    spends = [record.spend for record in trained if record.board.budget == budget and record.scored]
    parts = (
        _between("pairs", [spend.pairs for spend in spends], " pairs"),
        _between("epochs", [spend.epochs for spend in spends], " epochs"),
        _between("steps", [spend.steps for spend in spends], " optimiser steps"),
        _between("tokens", [spend.tokens for spend in spends], " tokens of prompts and responses"),
        _between("flops", [spend.flops for spend in spends], " FLOP"),
    )
    of_cells = ", ".join(filter(None, parts))
    return f"Budget of every loss: {budget}{f'; a cell had {of_cells}' if of_cells else ''}."


def _between(name: str, values: Sequence[float | None], unit: str) -> str:
    """Return the least and the most of what cells spent, once where they are written alike; "" where none is known."""
    known = [value for value in values if value is not None]
    ends = dict.fromkeys([spent(name, min(known)), spent(name, max(known))] if known else [])
    return f"{' to '.join(ends)}{unit.removesuffix('s') if [*ends] == ['1'] else unit}" if ends else ""


def _rate(key: BoardKey) -> str | None:
    """Return the learning rate of a board's cells, or how each loss got its own."""
    if not key.trials:
        rate = number(key.learning_rate, "g", "")
        return f"Learning rate {rate}, the same for all losses." if rate else None
    rates = key.trial_learning_rates
    between = f", at learning rates from {number(rates[0], 'g')} to {number(rates[1], 'g')}" if rates else ""
    return (
        f"Tuned: every loss had {key.trials} trial{'' if key.trials == 1 else 's'} on each model{between}; the best by "
        f"{key.tuned_by} on the development split was trained anew."
    )


def _setting(key: BoardKey) -> str | None:
    """Return how the cells of a board were trained; what the key does not say is left out."""
    length = f"texts of at most {key.max_length} tokens" if key.max_length else ""
    parts = (
        adapter_in_words(key.adapter) if key.adapter else "",
        f"precision {key.dtype}" if key.dtype else "",
        f"optimiser {key.optimizer}" if key.optimizer else "",
        f"{key.batch_pairs} pairs per step" if key.batch_pairs else "",
        f"{length}, their prompts of at most {key.max_prompt}" if length and key.max_prompt else length,
        f"from the checkpoint {key.start}" if key.start else "",
    )
    words = "; ".join(filter(None, parts))
    return f"Settings of {f'the {key.preset} preset' if key.preset else 'every loss'}: {words}." if words else None


def versions_in_words(records: Sequence[Record], manifest: Manifest) -> list[str]:
    """Return the versions of the software, and the hardware, that the cells were computed on."""
    found: dict[str, list[str]] = {}
    for name, called in PACKAGES.items():
        found[called] = distinct(getattr(record.environment, name) for record in records)
    for name, version in manifest.versions.items():
        if version is not None and not found.get(name):
            found[name] = [str(version)]
    if manifest.harness and not found[PACKAGES["harness"]]:
        found[PACKAGES["harness"]] = [manifest.harness]
    software = ", ".join(f"{name} {either(versions)}" for name, versions in found.items() if versions)
    return [*([f"Software: {software}."] if software else []), *_hardware(records, manifest)]


def _hardware(records: Sequence[Record], manifest: Manifest) -> Iterator[str]:
    environments = [record.environment for record in records]
    platforms = distinct(environment.platform for environment in environments)
    devices = distinct(environment.device for environment in environments)
    threads = distinct(environment.threads for environment in environments)
    together = max((environment.processes or 1 for environment in environments), default=1)
    beside = max((environment.models_side_by_side for environment in environments), default=1)
    parts = (
        either(platforms),
        f"device {either(devices)}" if devices else "",
        f"{manifest.cpus} CPUs" if manifest.cpus else "",
        f"threads a worker: {either([*map(str, threads)])}" if threads else "",
        f"up to {beside} models side by side" if beside > 1 else "",
        f"{together} processes a cell" if together > 1 else "",
    )
    words = "; ".join(filter(None, parts))
    if words:
        yield f"Hardware: {words}."
