"""How the losses of a run stand up to noise in labels: accuracy along the axis of a dial, and its slope, paired.

The slope is that of the least-squares line of accuracy against the amount of noise. It is linear in the accuracies, so
it is the mean over test pairs of a slope per pair: resampled with its prompt like any metric, and compared between
losses on the same pairs and seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.leaderboard.decide.align_examples import gather
from harness.leaderboard.decide.estimates import Estimate, Resampling, Unit, Values, differences, estimates, samples
from harness.run_folder.board_key import BoardKey
from harness.run_folder.label_noise import NoiseSetting
from harness.run_folder.record import Record

SLOPE = "slope"
TRUTH = "pairwise_accuracy_true"
"""Told along noise beside the ranked metric, where the true quality is known: labels of the test split may be wrong."""


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """The losses of one model along one dial of noise, everything else being the same."""

    dial: str
    model: str
    data: str
    """Name of the data set."""
    settings: BoardKey
    """What all have in common: the board's key without the noise."""
    metric: str
    seeds: tuple[int, ...]
    n_pairs: int
    amounts: tuple[float, ...]
    """From little noise to much; 0 is the run without."""
    values: Mapping[str, tuple[Estimate, ...]]
    """By loss, the metric at each amount."""
    slopes: Mapping[str, Estimate]
    """By loss, the change of the metric per 1 of the dial."""
    differences: Mapping[str, Mapping[str, Estimate]]
    """By loss and other loss, the slope of the first less that of the second."""
    left_out: tuple[str, ...]
    """Losses without a result at some amount, model or seed."""


def robustness(records: Sequence[Record], metric: str, resampling: Resampling) -> tuple[Robustness, ...]:
    """Return what is known of each dial that has several amounts, by model; nothing where there is no such axis."""
    losses = [record for record in records if record.kind == "loss" and record.board.evaluated_on != "dev"]  # noisy too
    if not any(record.board.noise for record in losses):
        return ()
    groups: dict[tuple[BoardKey, str], list[Record]] = {}
    for record in losses:
        groups.setdefault((_without_noise(record.board), record.model.name), []).append(record)
    found = []
    for (settings, model), group in groups.items():
        noises = {record.board.noise: _setting(record) for record in group}
        for dial in sorted({setting.dial for setting in noises.values() if setting}):
            at = {setting.amount if setting else 0.0: text for text, setting in noises.items() if _is_of(setting, dial)}
            along = {amount: [each for each in group if each.board.noise == at[amount]] for amount in sorted(at)}
            if len(along) > 1:
                found.append(_along(dial, model, settings, along, metric, resampling))
    return tuple(found)


def _without_noise(board: BoardKey) -> BoardKey:
    return BoardKey.of({name: value for name, value in board.as_json().items() if name != "noise"})


def _setting(record: Record) -> NoiseSetting | None:
    return NoiseSetting.parse(record.board.noise) if record.board.noise else None


def _is_of(setting: NoiseSetting | None, dial: str) -> bool:
    """Return whether a setting lies on the axis of a dial, as the run without noise does on every one."""
    return setting is None or setting.dial == dial


def _along(
    dial: str,
    model: str,
    settings: BoardKey,
    along: Mapping[float, Sequence[Record]],
    metric: str,
    resampling: Resampling,
) -> Robustness:
    cells = {
        (record.label, amount, record.seed): record
        for amount, of in along.items()
        for record in of
        if record.scored and record.seed is not None
    }
    seeds = tuple(sorted({record.seed for of in along.values() for record in of if record.seed is not None}))
    asked = sorted({record.label for of in along.values() for record in of})
    labels = [label for label in asked if all((label, amount, seed) in cells for amount in along for seed in seeds)]
    units = {
        Unit(_name(label, amount), model, seed): cells[label, amount, seed]
        for label in labels
        for amount in along
        for seed in seeds
    }
    values = gather(units).values.get(metric, Values(prompt=np.empty(0, np.int64), n_prompts=0, units={}))
    names = [_name(label, amount) for label in labels for amount in along]
    drawn = samples({metric: values}, names, [model], seeds, resampling)[metric]
    at = estimates(drawn) if drawn.labels else {}
    labels = [label for label in labels if all(_name(label, amount) in at for amount in along)]
    slope = _slopes(values, labels, model, seeds, list(along))
    sloped = samples({SLOPE: slope}, labels, [model], seeds, resampling)[SLOPE]
    over = {other: differences(sloped, other) for other in labels}
    return Robustness(
        dial=dial,
        model=model,
        data=next(record.dataset.name for of in along.values() for record in of),
        settings=settings,
        metric=metric,
        seeds=seeds,
        n_pairs=len(values.prompt),
        amounts=tuple(along),
        values={label: tuple(at[_name(label, amount)] for amount in along) for label in labels},
        slopes=estimates(sloped) if labels else {},
        differences={label: {other: over[other][label] for other in labels if other != label} for label in labels},
        left_out=tuple(label for label in asked if label not in labels),
    )


def _name(label: str, amount: float) -> str:
    return f"{label} at {amount:.10g}"


def _slopes(
    values: Values, labels: Sequence[str], model: str, seeds: Sequence[int], amounts: Sequence[float]
) -> Values:
    """Return the slope of each example: the mean of these is the slope of the means."""
    apart = np.array(amounts) - np.mean(amounts)
    weights = apart / (apart**2).sum()
    units = {
        Unit(label, model, seed): sum(
            weight * values.units[Unit(_name(label, amount), model, seed)]
            for weight, amount in zip(weights, amounts, strict=True)
        )
        for label in labels
        for seed in seeds
    }
    return replace(values, units=units, kind="mean")
