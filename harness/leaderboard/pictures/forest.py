"""The forest plot of a board as a picture of a paper; the page draws its own, which follows its window. Pure."""

from __future__ import annotations

import math

from harness.leaderboard.decide.findings import named
from harness.leaderboard.formatting import heading
from harness.leaderboard.pictures.drawing import WIDTH, Drawing, Picture
from harness.leaderboard.pictures.points import Interval, short
from harness.statistics.metrics import chance

STEP = 22
"""Height of a row, px."""


class ForestPoint(Interval):
    """The ranked metric of a row."""

    loss: str
    ranked: bool
    """Whether it is a loss with a rank, and no baseline row."""


def forest_points(draw: Drawing) -> list[ForestPoint]:
    """Return the ranked metric of every row that has it, in the board's order."""
    points: list[ForestPoint] = []
    for row in draw.board.rows:
        found = row.metrics.get(draw.ranked_by)
        if row.status == "ok" and found is not None and math.isfinite(found.value):
            value, low, high = short(found.value), short(found.low), short(found.high)
            points.append({"loss": row.label, "ranked": row.rank is not None, "value": value, "low": low, "high": high})
    return points


def forest(draw: Drawing) -> Picture | None:
    """Return the forest plot; None where no row has the ranked metric."""
    alt, points, name = draw.alt, forest_points(draw), heading(draw.ranked_by)
    if not points:
        return None
    colour = alt.condition("datum.ranked", alt.value("#3b78c4"), alt.value("#7f7f7f"))
    base = alt.Chart(alt.NamedData(name="forest")).encode(
        alt.Y("loss:N", sort=[point["loss"] for point in points], title=None, axis=alt.Axis(labelLimit=260)),
        color=colour,
    )
    scale = alt.Scale(zero=False)
    rules = base.mark_rule(strokeWidth=2).encode(alt.X("low:Q", title=name, scale=scale), alt.X2("high:Q"))
    dots = base.mark_point(filled=True, size=60, opacity=1).encode(alt.X("value:Q", title=name, scale=scale))
    line = alt.Chart(alt.Data(values=[{"at": chance(draw.ranked_by)}])).mark_rule(color="#888", strokeDash=[4, 4])
    return draw.picture(
        "forest",
        f"Forest plot: {name}",
        f"Every row of the board by {named(draw.ranked_by)}, with 95 % intervals; dashed: what a reward that knows "
        "nothing has. Lines that overlap may still differ: the comparisons are paired, and the ranks in the table have "
        "their outcome.",
        alt.layer(line.encode(alt.X("at:Q", title=name, scale=scale)), rules, dots).properties(
            width=WIDTH, height=alt.Step(STEP)
        ),
        points,
        selectable=False,
    )
