"""What a row of a board says besides its measured values: who it is, what it spent, who scored it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from harness.leaderboard.decide.comparable import Group
from harness.run_folder.facts import LossFacts, ScorerFacts
from harness.run_folder.record import Record


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What tuning chose for one system on one model, and from what."""

    options: Mapping[str, Any]
    """The options that were sampled."""
    learning_rate: float
    trial: int
    trials: int | None
    dev: float | None
    """The trial's value on the development split; None where no trial had one."""


@dataclass(frozen=True, kw_only=True)
class RowFacts:
    """What a row says besides its numbers."""

    label: str
    loss: str
    kind: str
    """`loss`, `reference` for a baseline row, `elsewhere` for a checkpoint trained there."""
    options: Mapping[str, Any]
    """Those that are the same on all models of the board."""
    tuned: Mapping[str, Choice] = field(default_factory=dict)
    """What tuning chose, by model."""
    reference_based: bool
    """Whether its reward is relative to a reference: comparable within a prompt only (it leaves out beta log Z(x))."""
    tags: tuple[str, ...]
    """What the loss says of itself, where its record has it."""
    seeds: tuple[int, ...] = ()
    reported_at: tuple[float, ...] = ()
    """The fraction of its budget that each cell is taken at, on a board of points chosen on dev; by model and seed."""
    spend: Mapping[str, float] = field(default_factory=dict)
    """Mean over seeds and models."""
    prepared: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Mean and `n_eff` of each column that the loss prepared from its training pairs, mean over seeds and models.

    n_eff = (sum w)^2 / sum w^2 is the number of equal pairs that a column of weights is worth (Kish 1965).
    """
    scorer: ScorerFacts
    """Names and versions over all cells, and their largest parity."""


def row_facts(group: Group, label: str, models: Sequence[str]) -> RowFacts:
    """Return what a row says besides its numbers; of a system without a record, what its label tells."""
    everywhere = [record for unit, record in group.records.items() if unit.label == label]
    mine = [record for record in everywhere if record.model.name in models]
    loss = (mine or everywhere)[0].loss if everywhere else LossFacts(name=re.split(r"[(@]", label)[0], options={})
    return RowFacts(
        label=label,
        loss=loss.name,
        kind=everywhere[0].kind if everywhere else "loss",
        options=_shared([record.loss.options for record in mine] or [loss.options]),
        tuned={record.model.name: choice for record in mine if (choice := _choice(record))},
        reference_based=loss.reference_based,
        tags=loss.tags,
        seeds=tuple(sorted({record.seed for record in mine if record.seed is not None})),
        reported_at=tuple(record.reported_at for record in mine if record.reported_at is not None),
        spend=_means(numbers for record in mine if (numbers := record.spend.numbers())),
        prepared=_prepared(mine),
        scorer=_scorer([record.scorer for record in mine if record.scorer.model_fields_set]),
    )


def _shared(options: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the options that all cells have alike: tuned ones may differ between models."""
    return {name: value for name, value in options[0].items() if all(of_cell.get(name) == value for of_cell in options)}


def _choice(record: Record) -> Choice | None:
    tuning = record.tuning
    if tuning is None:
        return None
    assert record.learning_rate is not None, "a tuned cell has the learning rate it was trained with"
    return Choice(
        options=tuning.options,
        learning_rate=record.learning_rate,
        trial=tuning.number,
        trials=tuning.trials,
        dev=tuning.dev,
    )


def _means(cells: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the mean of each number that the first cell has, over the cells that have it."""
    known = list(cells)
    return {name: fmean(cell[name] for cell in known if name in cell) for name in (known[0] if known else ())}


def _prepared(records: Sequence[Record]) -> dict[str, dict[str, float]]:
    """Return the mean over the records of what is known of each prepared column."""
    values: dict[str, dict[str, list[float]]] = {}
    for record in records:
        for column, summary in record.prepared.items():
            for name, value in summary.items():
                if value is not None:
                    values.setdefault(column, {}).setdefault(name, []).append(value)
    return {column: {name: fmean(of) for name, of in summary.items()} for column, summary in values.items()}


def _scorer(scorers: Sequence[ScorerFacts]) -> ScorerFacts:
    parity = [scorer.parity_max_abs_nats for scorer in scorers if scorer.parity_max_abs_nats is not None]
    return ScorerFacts(
        name=", ".join(sorted({str(scorer.name) for scorer in scorers})),
        version=", ".join(sorted({scorer.version for scorer in scorers if scorer.version})),
        parity_max_abs_nats=max(parity, default=None),
    )
