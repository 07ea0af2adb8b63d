"""Rows less rows, at every setting of the run and from its first setting to each other one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.api import HarnessError
from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.formatting import number_with_interval
from harness.leaderboard.grid import Grid
from harness.statistics.intervals import Floats
from harness.study.answer import FORM, Answer, Key, Point, estimated, intervals, metric, of_what, shown
from harness.study.cells import Cells, weights_of
from harness.study.study_file import Contrast


def of_contrasts(asked: Sequence[Contrast], cells: Cells) -> Answer:
    """Return the contrasts as one answer. Raises `HarnessError` for a row that the run does not have."""
    for each in asked:
        _require_rows(each, cells)
    first, *others = cells.settings
    at = {
        (each.title, setting): weights
        for each in asked
        for setting in cells.settings
        if (weights := _weights(each, setting, cells)) is not None
    }
    changes = {
        (title, f"{first} to {setting}"): weights - at[title, first]
        for (title, setting), weights in at.items()
        if setting != first and (title, first) in at
    }
    value = estimated(cells, at | changes)
    titles = [each.title for each in asked]
    columns = [*cells.settings, *(f"{first} to {other}" for other in others)]
    grid = Grid(
        title=f"{metric(cells)}: differences between rows",
        before=(of_what(cells),),
        head=("", *(column or "difference" for column in columns)),
        rows=tuple((title, *(_cell(value, title, column) for column in columns)) for title in titles),
        after=(intervals(cells),),
    )
    findings = [
        shown(column and f"{'At' if column in cells.settings else 'From'} {column}", there)
        for column in columns
        if (there := {title: value[title, column] for title in titles if (title, column) in value})
    ]
    points = [Point(row=title, column=column, estimate=each) for (title, column), each in value.items()]
    return Answer(name="differences", grids=(grid,), points=tuple(points), findings=tuple(findings))


def _cell(value: Mapping[Key, Estimate], title: str, column: str) -> str:
    return number_with_interval(value.get((title, column), Estimate()), FORM)


def _weights(asked: Contrast, setting: str, cells: Cells) -> Floats | None:
    """Return the weights of a contrast at a setting; None where one of its rows has no result there."""
    plus, minus = (
        [cells.places(label=label, setting=setting) for label in labels] for labels in (asked.plus, asked.minus)
    )
    if not all([*plus, *minus]):
        return None
    return weights_of(cells, [place for of in plus for place in of], [place for of in minus for place in of])


def _require_rows(asked: Contrast, cells: Cells) -> None:
    known = dict.fromkeys(cell.label for cell in cells.cells)
    for label in (*asked.plus, *asked.minus):
        if label not in known:
            raise HarnessError(
                f"[[contrasts]] got row '{label}', expected one of {', '.join(known)}; name rows as the board does, or "
                "finish the run"
            )
