"""Two groups of losses: their difference, and whether any other grouping differs as much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.api import HarnessError
from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.formatting import number, number_with_interval
from harness.leaderboard.grid import Grid
from harness.statistics.factorial import MOST_GROUPINGS, grouping_test
from harness.statistics.intervals import Floats
from harness.study.answer import FORM, Answer, Key, Point, estimated, intervals, metric, of_what
from harness.study.cells import LOSS, Cells, in_words
from harness.study.study_file import Groups

ALL = ""
"""The level where nothing is told apart."""


def of_groups(asked: Groups, cells: Cells, which: int) -> Answer:
    """Return the difference of two groups as one answer, at each level of what they are told apart `by`.

    Raises `HarnessError` for a loss without a result there, and for too many losses to count the groupings of.
    """
    losses = [*asked.first_losses, *asked.second_losses]
    levels = list(dict.fromkeys(cell.factors.get(asked.by, "") for cell in cells.cells)) if asked.by else [ALL]
    at = {(loss, level): _cells_of(asked, cells, loss, level) for loss in losses for level in levels}
    first, *others = levels
    apart = {("at", level): _apart(asked, cells, at, level) for level in levels}
    apart |= {("change", level): apart["at", level] - apart["at", first] for level in others}
    value = estimated(cells, apart)
    means = {key: float(np.mean(cells.grid.means[places])) for key, places in at.items()}
    is_first = np.array([loss in asked.first_losses for loss in losses])
    try:
        tests = {level: grouping_test(np.array([means[loss, level] for loss in losses]), is_first) for level in levels}
    except ValueError as error:
        raise HarnessError(f"[[groups]] got {error}, expected at most {MOST_GROUPINGS:,}; name fewer losses") from None
    both, ways = f"{asked.first} less {asked.second}", tests[first][1]
    named = {level: in_words(asked.by, level) if level else "" for level in levels}
    findings = [
        f"{f'At {named[level]}: ' * bool(level)}{both} {number_with_interval(value['at', level], FORM)}; of {ways:,} "
        f"ways to part the losses so, a share of {number(tests[level][0], '.2f')} differs as much."
        for level in levels
    ]
    findings += [
        f"From {named[first]} to {named[level]} that difference changes by "
        f"{number_with_interval(value['change', level], FORM)}."
        for level in others
    ]
    return Answer(
        name=f"groups-{which}",
        grids=(_table(asked, cells, levels, means, value, {level: tests[level][0] for level in levels}, ways),),
        points=tuple(Point(row=both, column=level, estimate=value["at", level]) for level in levels),
        findings=tuple(findings),
    )


def _cells_of(asked: Groups, cells: Cells, loss: str, level: str) -> list[int]:
    """Return the places of a loss's cells at a level."""
    places = [p for p in cells.places(**{LOSS: loss}) if not level or cells.cells[p].factors.get(asked.by) == level]
    if not places:
        where = f" at {asked.by} {level}" if level else ""
        raise HarnessError(f"[[groups]] got loss '{loss}', which has no result{where}; name losses of the run")
    return places


def _apart(asked: Groups, cells: Cells, at: Mapping[tuple[str, str], Sequence[int]], level: str) -> Floats:
    """Return the weights (C,) of the first group's mean over losses less that of the second."""
    weights = np.zeros(len(cells.cells))
    for losses, sign in ((asked.first_losses, 1.0), (asked.second_losses, -1.0)):
        for loss in losses:
            weights[list(at[loss, level])] += sign / len(losses) / len(at[loss, level])
    return weights


def _table(
    asked: Groups,
    cells: Cells,
    levels: Sequence[str],
    means: Mapping[tuple[str, str], float],
    value: Mapping[Key, Estimate],
    chance: Mapping[str, float],
    ways: int,
) -> Grid:
    rows = [
        (loss, group, *(number(means[loss, level]) for level in levels))
        for group, losses in ((asked.first, asked.first_losses), (asked.second, asked.second_losses))
        for loss in losses
    ]
    apart = [number_with_interval(value["at", level], FORM) for level in levels]
    return Grid(
        title=f"{metric(cells)}: {asked.first} and {asked.second} losses",
        before=(f"{of_what(cells)} Per loss the mean over all of its settings.",),
        head=("loss", "group", *(in_words(asked.by, level) if level else "all" for level in levels)),
        rows=(
            *rows,
            (f"{asked.first} less {asked.second}", "", *apart),
            ("share of groupings", "", *(number(chance[level], ".2f") for level in levels)),
        ),
        after=(
            f"Share of groupings: of the {ways:,} ways to part these losses into groups of these sizes, those whose "
            f"difference is as large, in either direction; a p-value by permutation. {intervals(cells)}",
        ),
    )
