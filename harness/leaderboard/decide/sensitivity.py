"""How much the place of a loss depends on its settings: best, median and worst of its grid, or of its trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.leaderboard.decide.align_examples import gather
from harness.leaderboard.decide.estimates import Estimate, Resampling, Unit, Values, differences, estimates, samples
from harness.run_folder.board_key import BoardKey
from harness.run_folder.record import Record

RIVAL = "dpo"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """A loss over its settings."""

    settings: int
    best: str | None
    """The setting that was best on the development split; None where that was not scored."""
    best_value: Estimate
    """Of that setting, on test."""
    median: float
    """Of the values of all settings on test."""
    worst: str
    worst_value: Estimate
    over_rates: float | None
    """The highest less the lowest mean over options at a learning rate; None with one rate."""
    better: int | None
    """Settings with a higher value on test than the best one of `RIVAL`; None for itself and where it is not there."""
    shown_better: int | None
    """Those of them whose paired difference has its 95 % interval above 0."""


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """The losses of one model over a grid, everything else being the same."""

    model: str
    data: str
    """Name of the data set."""
    shared: BoardKey
    """The board's key without the learning rate."""
    metric: str
    seeds: tuple[int, ...]
    on_dev: bool
    """Whether the best settings were chosen on the development split; else the rival's is the best one on test."""
    trials: bool = False
    """Whether the settings are trials, all values on the development split, where the best ones were chosen too."""
    losses: Mapping[str, Spread]
    left_out: tuple[str, ...]
    """Settings without a result on some seed."""


def sensitivity(records: Sequence[Record], metric: str, resampling: Resampling) -> tuple[Sensitivity, ...]:
    """Return what is known of each grid, by model, where any loss has several settings."""
    groups: dict[tuple[BoardKey, str], list[Record]] = {}
    for record in records:
        untuned = record.kind == "loss" and record.board.learning_rate is not None
        if untuned and record.board.evaluated_on != "dev":
            groups.setdefault((_without_rate(record.board), record.model.name), []).append(record)
    found = [_over(shared, model, group, metric, resampling) for (shared, model), group in groups.items()]
    return tuple(each for each in found if any(spread.settings > 1 for spread in each.losses.values()))


def of_trials(records: Sequence[Record], metric: str, resampling: Resampling) -> tuple[Sensitivity, ...]:
    """Return what is known of the trials of each model. `records`: of folders of trials."""
    groups: dict[tuple[BoardKey, str], list[Record]] = {}
    for record in records:
        if record.kind == "loss" and record.tuning is not None:
            groups.setdefault((record.board, record.model.name), []).append(record)
    return tuple(
        _over(board, model, group, metric, resampling, trials=True)
        for (board, model), group in groups.items()
        if len(group) > 1
    )


def _without_rate(board: BoardKey) -> BoardKey:
    return BoardKey.of({name: value for name, value in board.as_json().items() if name != "learning_rate"})


def _name(record: Record) -> str:
    return f"{record.label}, learning rate {record.learning_rate or record.board.learning_rate:g}"


def _over(
    shared: BoardKey,
    model: str,
    group: Sequence[Record],
    metric: str,
    resampling: Resampling,
    *,
    trials: bool = False,
) -> Sensitivity:
    cells: dict[str, dict[int, Record]] = {}
    for record in group:
        of = cells.setdefault(_name(record), {})
        if record.scored and record.seed is not None:
            of[record.seed] = record
    seeds = tuple(sorted({record.seed for record in group if record.seed is not None}))
    whole = {name: [of[seed] for seed in seeds] for name, of in sorted(cells.items()) if set(of) == set(seeds)}
    units = {Unit(name, model, record.seed): record for name, of in whole.items() for record in of}
    values = gather(units).values.get(metric) or Values(prompt=np.empty(0, np.int64), n_prompts=0, units={})
    drawn = samples({metric: values}, list(whole), [model], seeds, resampling)[metric]
    at = estimates(drawn) if drawn.labels else {}
    score = {name: estimate.value for name, estimate in at.items()}
    dev = score if trials else {name: value for name in at if (value := _on_dev(whole[name], metric)) is not None}
    on_dev = bool(dev) and len(dev) == len(at)
    score = dev if on_dev else score
    by_loss: dict[str, list[str]] = {}
    for name in at:
        by_loss.setdefault(whole[name][0].loss.name, []).append(name)
    best = {loss: max(names, key=score.__getitem__) for loss, names in by_loss.items()}
    over = differences(drawn, best[RIVAL]) if RIVAL in best else {}
    rates = {name: float(whole[name][0].board.learning_rate or 0.0) for name in at}  # a board of trials has none
    return Sensitivity(
        model=model,
        data=group[0].dataset.name,
        shared=shared,
        metric=metric,
        seeds=seeds,
        on_dev=on_dev,
        trials=trials,
        losses={
            loss: _spread(
                {name: at[name] for name in names},
                best[loss] if on_dev else None,
                rates,
                {} if loss == RIVAL else over,
            )
            for loss, names in by_loss.items()
        },
        left_out=tuple(name for name in sorted(cells) if name not in at),
    )


def _on_dev(records: Sequence[Record], metric: str) -> float | None:
    """Return the mean over seeds of a setting's value on the development split at its end; None where one has none."""
    ends = [
        point.dev.metrics.get(metric) for each in records for point in each.points if point.fraction == 1 and point.dev
    ]
    known = [float(value) for value in ends if value is not None]
    return float(np.mean(known)) if len(known) == len(records) else None


def _spread(
    at: Mapping[str, Estimate], best: str | None, rates: Mapping[str, float], over: Mapping[str, Estimate]
) -> Spread:
    """Return what is said of one loss. `over`: each setting's difference to the best one of `RIVAL`; empty without."""
    worst = min(at, key=lambda name: at[name].value)
    by_rate: dict[float, list[float]] = {}
    for name, estimate in at.items():
        by_rate.setdefault(rates[name], []).append(estimate.value)
    means = [float(np.mean(values)) for values in by_rate.values()]
    return Spread(
        settings=len(at),
        best=best,
        best_value=at[best] if best else Estimate(),
        median=float(f"{np.median([estimate.value for estimate in at.values()]):.10g}"),
        worst=worst,
        worst_value=at[worst],
        over_rates=float(f"{max(means) - min(means):.10g}") if len(means) > 1 else None,
        better=sum(over[name].value > 0 for name in at) if over else None,
        shown_better=sum(over[name].low > 0 for name in at) if over else None,
    )
