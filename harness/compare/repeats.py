"""Repeated runs of the same code, or the seeds of one run -> the noise floor of gates and boards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.special import stdtr, stdtrit

from harness.api.errors import HarnessError
from harness.compare.paired import OVERALL, Difference, cell_weights, differences, pair
from harness.compare.sides import Side, Values, check_pairable, read_side, read_values
from harness.compare.verdict import check_metric, gain
from harness.run_folder.noise_floor import SHARE, LossOnModel, NoiseFloor, Spread
from harness.statistics.estimate_interval import difference_of
from harness.statistics.intervals import Floats
from harness.statistics.metrics import kind_of


def calibrate(
    runs: Sequence[Path], metric: str = "pairwise_accuracy", *, resamples: int = 10_000, seed: int = 0
) -> NoiseFloor:
    """Return what runs of the same code differ by, and the smallest margin at which gates between them pass.

    `runs`: at least two run folders made by the same code with the same settings, with other seeds, or the same seeds
    again; or one run folder with two seeds or more, which are then the repeats. The noise is that of whatever was
    repeated. Five or more repeats give a floor that is not needlessly high.
    """
    check_metric(metric)
    sides = _repeats(runs)
    cells, seeds = _same_grid(sides)
    values = [{cell: read_values(list(side.records[cell].values()), metric) for cell in cells} for side in sides]
    floor = _measured(sides, metric, seeds, _means(values, cells))
    neighbours = [
        {
            cell: pair(base_values[cell], new_values[cell], tuple(range(seeds)), _name(base, cell), _name(new, cell))
            for cell in cells
        }
        for (base, new), (base_values, new_values) in zip(pairwise(sides), pairwise(values), strict=True)
    ]
    kind = difference_of(kind_of(metric))
    gates = [_columns(*differences(pairs, kind, floor, resamples, seed)) for pairs in neighbours]
    reaches = {
        cell: float(np.mean([_reach(difference, metric) for difference in column]))
        for cell, column in zip([*cells, OVERALL], zip(*gates, strict=True), strict=True)
    }
    return _with_margin(floor, reaches)


def smallest_margin(sd: Floats, freedom: Floats, reach: Floats) -> float:
    """Return the margin at which `SHARE` of same-code gates pass. All arguments are (K,), one number per column.

    Such a gate passes where difference - reach > -margin in every column. The difference has mean 0 and standard
    deviation sqrt(2) sd, with `freedom` from which sd was estimated; columns are taken as independent, which gives too
    high a margin where they go together.
    """
    scale = np.sqrt(2) * sd
    if not scale.any():
        return float(reach.max())
    low = float(reach.max())
    high = float((reach + scale * stdtrit(freedom, SHARE ** (1 / len(sd)))).max())
    for _ in range(100):  # bisection: the share that passes rises with the margin
        middle = (low + high) / 2
        over = middle - reach
        passing = np.where(scale > 0, stdtr(freedom, over / np.where(scale > 0, scale, 1.0)), over >= 0).prod()
        low, high = (low, middle) if passing >= SHARE else (middle, high)
    return high


def _reach(difference: Difference, metric: str) -> float:
    """Return how far the gain's interval reaches down; 0 where nothing differs."""
    value, low, _ = gain(difference, metric)
    return value - low


def _columns(cells: tuple[Difference, ...], overall: Difference | None) -> tuple[Difference, ...]:
    assert overall is not None, "the grids were checked to be the same"
    return (*cells, overall)


def _repeats(runs: Sequence[Path]) -> list[Side]:
    """Return the repeats, a side each: the runs, or the seeds of a single one."""
    sides = [read_side(run) for run in runs]
    return _by_seed(sides[0]) if len(sides) == 1 else sides


def _by_seed(side: Side) -> list[Side]:
    """Return a run's seeds as repeats of one seed each."""
    seeds = sorted({seed for by_seed in side.records.values() for seed in by_seed})
    if len(seeds) < 2:
        raise HarnessError(
            f"{side.folder}: got one run with {len(seeds) or 'no'} seed{'' if len(seeds) == 1 else 's'} to calibrate "
            "with, expected one run with two seeds or more, such as --seeds 0,1,2,3,4, or two runs or more of the same "
            "code; add seeds to it, or name more runs"
        )
    for cell, by_seed in side.records.items():
        lacking = [seed for seed in seeds if seed not in by_seed]
        if lacking and not side.troubles:  # troubles are told with their reasons, by `_same_grid`
            raise HarnessError(
                f"{side.folder}: got no {cell.label} on {cell.model} with seed {lacking[0]}, expected every cell with "
                "each of the seeds; finish the run first"
            )
    return [
        replace(
            side,
            records={cell: {seed: by_seed[seed]} for cell, by_seed in side.records.items() if seed in by_seed},
        )
        for seed in seeds
    ]


def _name(side: Side, cell: LossOnModel) -> str:
    return f"{side.folder}, {cell.label}, seed {', '.join(map(str, side.records[cell]))}"


def _same_grid(sides: Sequence[Side]) -> tuple[list[LossOnModel], int]:
    """Return the cells and the number of seeds that all runs have, or refuse them."""
    first = sides[0]
    for side in sides:
        check_pairable(first, side)
        if settings := first.board.differing(side.board):
            changes = ", ".join(f"{name} {before!r} and {after!r}" for name, (before, after) in settings.items())
            raise HarnessError(
                f"{first.folder} and {side.folder} are no repeats: got {changes}; expected the same settings; "
                "calibrate with repeats of one run"
            )
        if side.troubles:
            lost = side.troubles[0]
            raise HarnessError(
                f"{side.folder}: got {lost.cell.label} on {lost.cell.model}, seed {lost.seed}, {lost.status} "
                f"({lost.reason}); expected every cell scored; finish the run first"
            )
        if side.options != first.options:
            raise HarnessError(
                f"{first.folder} and {side.folder} are no repeats: got other losses, options or models; expected the "
                "same; calibrate with repeats of one run"
            )
    counts = {len(by_seed) for side in sides for by_seed in side.records.values()}
    if len(counts) != 1:
        raise HarnessError(
            f"got cells with {' and '.join(map(str, sorted(counts)))} seeds, expected the same number in every cell of "
            "every run; run the missing ones"
        )
    return list(first.records), counts.pop()


def _means(values: Sequence[Mapping[LossOnModel, Values]], cells: Sequence[LossOnModel]) -> Floats:
    """Return the value of each cell in each run, (runs, C), over the examples that count in all runs."""
    kept = {cell: np.isfinite(np.concatenate([run[cell].value for run in values])).all(0) for cell in cells}
    empty = [cell for cell in cells if not kept[cell].any()]
    if empty:
        raise HarnessError(
            f"got no value of the metric for {empty[0].label} on {empty[0].model}, expected one in every run; name "
            "another metric"
        )
    return np.array([[run[cell].value[:, kept[cell]].mean() for cell in cells] for run in values])


def _measured(sides: Sequence[Side], metric: str, seeds: int, means_RC: Floats) -> NoiseFloor:
    """Return the floor without its margin."""
    first, runs = sides[0], len(sides)
    overall = means_RC @ cell_weights(list(first.records))
    used = [seed for side in sides for seed in {seed for by_seed in side.records.values() for seed in by_seed}]
    return NoiseFloor(
        protocol=int(first.must_match["protocol"] or 0),
        metric=metric,
        dataset_fingerprint=str(first.must_match["dataset fingerprint"]),
        settings=first.board,
        runs=runs,
        seeds=seeds,
        seeds_differ=len(set(used)) == len(used),
        cells=dict(zip(first.records, spreads(means_RC), strict=True)),
        overall=Spread(
            sd=float(np.sqrt(max(overall.var(ddof=1), means_RC.var(0, ddof=1).mean() / means_RC.shape[1]))),
            freedom=float(runs - 1),
            largest=float(np.ptp(overall)),
        ),
        smallest_margin=float("nan"),
    )


def spreads(means_RC: Floats) -> list[Spread]:
    """Return how far R repeats of each of C cells lie apart; none is below the average of all, as with seeds."""
    runs, cells = means_RC.shape
    variance = means_RC.var(0, ddof=1)
    return [
        Spread(
            sd=float(np.sqrt(max(of_cell, variance.mean()))), freedom=float(cells * (runs - 1)), largest=float(widest)
        )
        for of_cell, widest in zip(variance, np.ptp(means_RC, axis=0), strict=True)
    ]


def _with_margin(floor: NoiseFloor, reaches: Mapping[LossOnModel, float]) -> NoiseFloor:
    columns = list(floor.cells.items())
    if len(columns) > 1:  # with one cell the overall difference is the same number
        columns.append((OVERALL, floor.overall))
    return replace(
        floor,
        smallest_margin=smallest_margin(
            np.array([spread.sd for _, spread in columns]),
            np.array([spread.freedom for _, spread in columns]),
            np.array([reaches[cell] for cell, _ in columns]),
        ),
    )
