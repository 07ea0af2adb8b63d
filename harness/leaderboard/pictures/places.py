"""Pictures of where losses stand: their ranks under every reading, and the ranked metric on each model. Pure."""

from __future__ import annotations

from harness.leaderboard.decide.findings import named
from harness.leaderboard.formatting import heading
from harness.leaderboard.pictures.drawing import WIDTH, Drawing, Picture, line_at, tooltip, y_axis

NAMED = 40
"""Most losses whose names stand at the right end of their lines."""


def places(draw: Drawing) -> Picture:
    """Return the slope chart of ranks."""
    alt, points = draw.alt, draw.data.places
    readings = list(dict.fromkeys(point["reading"] for point in points))
    losses = max(point["place"] for point in points)
    base = draw.chart("places").encode(
        alt.X("reading:N", sort=readings, title=None, axis=alt.Axis(labelAngle=0, orient="top")),
        alt.Y(
            "place:Q",
            title="rank, 1 the best",
            scale=alt.Scale(reverse=True, zero=False, nice=False, padding=12),
            axis=alt.Axis(tickMinStep=1, format="d", grid=False),
        ),
        draw.colour(),
        tooltip=tooltip(
            alt,
            "loss:N",
            "reading:N",
            "rank:Q",
            alt.Tooltip("low:Q", title="from rank"),
            alt.Tooltip("high:Q", title="to rank"),
        ),
    )
    lines = base.mark_line(strokeWidth=2, opacity=0.8).encode(draw.dash(), alt.Order("order:Q"))
    layers = [lines, base.mark_point(filled=True, size=60, opacity=1)]
    if losses <= NAMED:
        last = base.transform_filter(f"datum.order === {len(readings) - 1}")
        layers.append(last.mark_text(align="left", dx=10).encode(alt.Text("loss:N")))
    return draw.picture(
        "places",
        "Ranks under every reading",
        f"The rank of each loss by {named(draw.ranked_by)}, which ranks the board, and by every other reading. Where "
        "lines cross, the order depends on how rewards are read; losses of one rank stand at neighbouring places. "
        "Ranks are of the estimates: the ranges in the table say which of them the data tell apart.",
        alt.layer(*layers).properties(width=WIDTH, height=min(640, max(180, 30 * losses))),
        points,
    )


def by_model(draw: Drawing) -> Picture:
    """Return the ranked metric of each loss on each model."""
    alt, title = draw.alt, heading(draw.ranked_by)
    base = draw.chart("models").encode(
        x=alt.X("model:N", sort=list(draw.board.models), title=None, axis=alt.Axis(labelAngle=0)),
        xOffset=alt.XOffset("loss:N", sort=draw.labels),
        color=draw.colour(),
        tooltip=tooltip(alt, "loss:N", "model:N", "value:Q", "low:Q", "high:Q"),
    )
    rules = base.mark_rule(strokeWidth=2, opacity=0.6).encode(y_axis(alt, "low", title), alt.Y2("high:Q"))
    dots = base.mark_point(filled=True, size=45, opacity=1).encode(y_axis(alt, "value", title))
    chance = [line_at(alt, 0.5)] if draw.ranked_by.startswith("pairwise_accuracy") else []
    return draw.picture(
        "models",
        "By model",
        f"Each loss on each model, by {named(draw.ranked_by)}, with 95 % intervals; on the board over all models each "
        "model weighs the same.",
        alt.layer(*chance, rules, dots).properties(width=WIDTH, height=320),
        draw.data.by_model,
    )
