"""How the ranked metric depends on an option of a loss, where a board has several of its values: data and chart."""

from __future__ import annotations

import json
from collections.abc import Iterable

from harness.leaderboard.decide.findings import named
from harness.leaderboard.formatting import heading
from harness.leaderboard.pictures.drawing import WIDTH, Drawing, Picture, tooltip, y_axis
from harness.leaderboard.pictures.points import OptionPoint, short
from harness.leaderboard.row_settings import options_in_words
from harness.leaderboard.table import Row


def option_points(rows: Iterable[Row], ranked_by: str) -> list[OptionPoint]:
    """Return a point per row and numeric option that has several values among the rows of its loss."""
    of_loss: dict[str, list[Row]] = {}
    for row in rows:
        of_loss.setdefault(row.loss, []).append(row)
    points: list[OptionPoint] = []
    for loss, group in of_loss.items():
        for option in dict.fromkeys(name for row in group for name in row.options):
            numbers = [(row, value) for row in group if _is_number(value := row.options.get(option))]
            if len({value for _, value in numbers}) < 2:
                continue
            for row, value in numbers:
                estimate = row.metrics[ranked_by]
                others = {name: each for name, each in row.options.items() if name != option}
                points.append(
                    {
                        "loss": row.label,
                        "option": f"{loss}: {option}",
                        "at": float(str(value)),
                        "others": options_in_words(others),
                        "value": short(estimate.value),
                        "low": short(estimate.low),
                        "high": short(estimate.high),
                    }
                )
    return points


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def options(draw: Drawing) -> Picture:
    """Return the option-response picture: a panel per loss and option, a line per setting of the other options."""
    alt, points = draw.alt, draw.data.options
    panels = []
    for option in dict.fromkeys(point["option"] for point in points):
        at = [point["at"] for point in points if point["option"] == option]
        scale = alt.Scale(type="log", nice=False, padding=12) if min(at) > 0 else alt.Scale(zero=False, padding=12)
        axis = alt.Axis(values=sorted(set(at)), format="~g")
        base = (
            draw.chart("options")
            .transform_filter(f"datum.option === {json.dumps(option)}")
            .encode(
                alt.X("at:Q", title=option, scale=scale, axis=axis),
                tooltip=tooltip(alt, "loss:N", "at:Q", "others:N", "value:Q", "low:Q", "high:Q"),
            )
        )
        title = heading(draw.ranked_by)
        lines = base.mark_line(color="#888", strokeWidth=1.2).encode(
            y_axis(alt, "value", title), alt.Detail("others:N")
        )
        rules = base.mark_rule(strokeWidth=1.5, opacity=0.45).encode(
            y_axis(alt, "low", title), alt.Y2("high:Q"), draw.colour()
        )
        dots = base.mark_point(filled=True, size=60, opacity=1).encode(y_axis(alt, "value", title), draw.colour())
        panels.append(alt.layer(lines, rules, dots).properties(width=WIDTH, height=190))
    return draw.picture(
        "options",
        "By option",
        f"Each loss of which the board has several values of an option, by {named(draw.ranked_by)}, with 95 % "
        "intervals. A line joins the rows whose other options are the same.",
        alt.vconcat(*panels, spacing=14).resolve_scale(y="shared"),
        points,
    )
