"""What one part of a study found: tables, points to draw, sentences; and the wording that all parts share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.formatting import counted, heading, listed, number_with_interval
from harness.leaderboard.grid import Grid
from harness.statistics.factorial import contrasts
from harness.statistics.intervals import Floats
from harness.study.cells import Cells

FORM = "+z.3f"
Key = tuple[str, str]
"""What a contrast is of: a row and a setting, a factor and a level."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One interval of a picture."""

    row: str
    column: str
    estimate: Estimate


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one part of a study found."""

    name: str
    """Of its picture's file."""
    grids: tuple[Grid, ...]
    points: tuple[Point, ...]
    findings: tuple[str, ...]


def estimated(cells: Cells, weights: Mapping[Key, Floats]) -> dict[Key, Estimate]:
    """Return the estimate of each contrast, to the digits that do not depend on the chip."""
    ends = rounded(*contrasts(cells.grid, np.array(list(weights.values()))))
    return {
        key: Estimate(value=value, low=low, high=high, n=cells.n_pairs)
        for key, value, low, high in zip(weights, *ends, strict=True)
    }


def rounded(*columns: Floats) -> list[list[float]]:
    """Return numbers to the digits that do not depend on the chip."""
    return [[float(f"{value:.10g}") for value in column] for column in columns]


def shown(where: str, of: dict[str, Estimate]) -> str:
    """Return a sentence on which of some differences are shown to be above or below 0, each with its interval."""
    above = {name: each for name, each in of.items() if each.low > 0}
    below = {name: each for name, each in of.items() if each.high < 0}
    sides = [
        f"{listed([f'{name} {number_with_interval(each, FORM)}' for name, each in side.items()])} "
        f"{'is' if len(side) == 1 else 'are'} shown to be {word} 0"
        for side, word in ((above, "above"), (below, "below"))
        if side
    ]
    lead = f"{where}: " if where else ""
    if not sides and len(of) == 1:
        ((name, each),) = of.items()
        return f"{lead}{name} {number_with_interval(each, FORM)}: not shown to differ from 0."
    if not sides:
        largest = max(of, key=lambda name: abs(of[name].value) if np.isfinite(of[name].value) else -1.0)
        return (
            f"{lead}none of the {counted(len(of))} differences is shown not to be 0; the largest is {largest} "
            f"{number_with_interval(of[largest], FORM)}."
        )
    rest = len(of) - len(above) - len(below)
    left = f"; the other {counted(rest)} {'is' if rest == 1 else 'are'} not told from 0" if rest else ""
    return f"{lead}{', and '.join(sides)}{left}."


def metric(cells: Cells) -> str:
    """Return what is compared, on which models, for a title."""
    return f"{', '.join(cells.models)}: {heading(cells.metric)}"


def of_what(cells: Cells) -> str:
    """Return what the numbers of a table are of."""
    return f"{cells.n_pairs} test pairs, seeds {', '.join(map(str, cells.seeds))}, {len(cells.cells)} rows x settings."


def intervals(cells: Cells) -> str:
    """Return what the intervals of a table are over."""
    seeds = " and, with one variance for all cells, over training seeds" if len(cells.seeds) > 1 else ""
    return (
        f"95 % intervals over prompts{seeds}, on the same pairs{' and seeds' if seeds else ''}, not adjusted for their "
        "number: of a hundred intervals around nothing about five miss 0."
    )
