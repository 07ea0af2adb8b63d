"""The factors of a full grid: each level against the mean of all, and shares of the variance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod

import numpy as np

from harness.api import HarnessError
from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.formatting import listed, number, number_with_interval
from harness.leaderboard.grid import Grid
from harness.statistics.factorial import SEEDS, variance_shares
from harness.study.answer import FORM, Answer, Key, Point, estimated, intervals, metric, of_what, rounded, shown
from harness.study.cells import LOSS, Cells, weights_of
from harness.study.study_file import Effects

Levels = Mapping[tuple[str, str], Sequence[int]]
"""Of each factor and level, the places of its cells."""


def of_effects(asked: Effects, cells: Cells, which: int) -> Answer:
    """Return the effects of a grid as one answer. Raises `HarnessError` for a factor or a grid that is not there."""
    places = [place for place, of in enumerate(cells.cells) if not asked.losses or of.factors[LOSS] in asked.losses]
    places, dropped = full_grid(cells, places, asked.factors)
    levels: dict[tuple[str, str], list[int]] = {}
    for factor in asked.factors:
        for place in places:
            levels.setdefault((factor, cells.cells[place].factors[factor]), []).append(place)
    value = estimated(cells, {key: weights_of(cells, of, places) for key, of in levels.items()})
    shares = _shares(cells, places, asked.factors, levels)
    findings = [
        shown(f"By {factor}, against the mean of all", there)
        for factor in asked.factors
        if len(there := {level: each for (of, level), each in value.items() if of == factor}) > 1
    ]
    said = [f"{source} {number_with_interval(share, '.2f')}" for source, share in shares.items()]
    findings.append(f"Shares of the variance between trainings: {listed(said)}.")
    findings += [f"Left out, so that every combination has a result: {', '.join(dropped)}."] if dropped else []
    return Answer(
        name=f"effects-{which}",
        grids=(_table_of_levels(asked, cells, levels, value), _table_of_shares(shares)),
        points=tuple(Point(row=level, column=factor, estimate=each) for (factor, level), each in value.items()),
        findings=tuple(findings),
    )


def full_grid(cells: Cells, places: Sequence[int], factors: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return the cells of a grid that has every combination, and the levels left out because cells lack a result.

    Level by level, the one that lacks the largest part of its combinations first.
    """
    for factor in factors:
        if not all(factor in cells.cells[place].factors for place in places):
            known = dict.fromkeys(name for place in places for name in cells.cells[place].factors)
            raise HarnessError(f"[[effects]] got factor '{factor}', expected one of {', '.join(known)}")
    kept, dropped = list(places), list[str]()
    while kept:
        at = [tuple(cells.cells[place].factors[factor] for factor in factors) for place in kept]
        _require_told_apart(cells, kept, at, factors)
        known_levels = [list(dict.fromkeys(key[k] for key in at)) for k in range(len(factors))]
        size = prod(len(levels) for levels in known_levels)
        if len(at) == size:
            return kept, dropped
        have = {
            (k, level): sum(key[k] == level for key in at) * len(levels) / size
            for k, levels in enumerate(known_levels)
            for level in levels
            if len(levels) > 1
        }
        k, level = min(have, key=have.__getitem__)
        kept = [place for place, key in zip(kept, at, strict=True) if key[k] != level]
        dropped.append(f"{factors[k]}={level}")
    raise HarnessError(f"[[effects]] got no full grid of {', '.join(factors)}; finish the run first")


def _require_told_apart(
    cells: Cells, places: Sequence[int], at: Sequence[tuple[str, ...]], factors: Sequence[str]
) -> None:
    twice = next((key for key in at if at.count(key) > 1), None)
    if twice is not None:
        rows = [cells.cells[place] for place, key in zip(places, at, strict=True) if key == twice]
        raise HarnessError(
            f"[[effects]] got factors {', '.join(factors)}, by which {' and '.join(row.name for row in rows[:2])} are "
            "the same; name all that sets the cells apart, or fewer losses"
        )


def _shares(cells: Cells, places: Sequence[int], factors: Sequence[str], levels: Levels) -> dict[str, Estimate]:
    names = {factor: [level for of, level in levels if of == factor] for factor in factors}
    numbers = {factor: [names[factor].index(cells.cells[p].factors[factor]) for p in places] for factor in factors}
    found = variance_shares(cells.only(places), numbers)
    ends = rounded(found.value, found.low, found.high)
    return {
        source: Estimate(value=value, low=low, high=high)
        for source, value, low, high in zip(found.sources, *ends, strict=True)
    }


def _table_of_levels(asked: Effects, cells: Cells, levels: Levels, value: Mapping[Key, Estimate]) -> Grid:
    means = cells.grid.means
    return Grid(
        title=f"{metric(cells)} by {listed(asked.factors)}",
        before=(of_what(cells),),
        head=("factor", "level", "mean", "over the mean of all"),
        rows=tuple(
            (*key, number(float(np.mean(means[of]))), number_with_interval(value[key], FORM))
            for key, of in levels.items()
        ),
        after=(intervals(cells),),
    )


def _table_of_shares(shares: Mapping[str, Estimate]) -> Grid:
    seeds = "" if SEEDS in shares else " With one seed, what another would change stands among the others."
    chance = "prompts and seeds add" if SEEDS in shares else "prompts add"
    return Grid(
        title="Shares of the variance between trainings",
        before=(),
        head=("source", "share"),
        rows=tuple((source, number_with_interval(of, ".2f")) for source, of in shares.items()),
        after=(
            "Of the variance of the metric between trainings of this grid: main effects, interactions of factors, and "
            f"training seeds.{seeds} What test {chance} to the former by chance is taken off (bootstrap, 95 % "
            "percentile intervals).",
        ),
    )
