"""Picture data -> pictures: Vega-Lite specs built with Altair (of the extra `plots`). Pure; imports no torch."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from harness.leaderboard.decide.wording import EARLY
from harness.leaderboard.formatting import heading
from harness.leaderboard.pictures import answers
from harness.leaderboard.pictures.drawing import WIDTH, Drawing, Picture, line_at, tooltip, y_axis
from harness.leaderboard.pictures.options import options
from harness.leaderboard.pictures.places import by_model, places
from harness.leaderboard.pictures.points import PictureData
from harness.leaderboard.pictures.styles import Style
from harness.leaderboard.table import Board

WITH_NUMBERS = 12
"""Most losses with which the heat map has numbers in its cells."""


def pictures(board: Board, data: PictureData, styles: Mapping[str, Style], ranked_by: str) -> tuple[Picture, ...]:
    """Return the pictures of a board; one that has no data is left out."""
    alt: Any = importlib.import_module("altair")
    drawing = Drawing(alt=alt, board=board, data=data, styles=styles, ranked_by=ranked_by)
    makers: tuple[tuple[Callable[[Drawing], Picture], Sequence[object]], ...] = (
        (places, data.places),
        (by_model, data.by_model),
        (options, data.options),
        (_quartiles, data.quartiles),
        (_scores, data.scores),
        (_reliability, data.reliability),
        (answers.frontier, data.frontier),
        (answers.win_rates, data.judged),
        (_learning, data.learning),
        (_curves, data.curves),
        (_spend, data.spend),
        (_differences, data.differences),
    )
    schema: Any = importlib.import_module("altair.utils.schemapi")
    with schema.debug_mode(False):  # parts are not checked against the schema either, see `Drawing.picture`
        return tuple(make(drawing) for make, points in makers if points)


def _quartiles(draw: Drawing) -> Picture:
    alt = draw.alt
    place = {
        "x": alt.X("quartile:O", title="quartile of the score gap (4: the easiest pairs)", axis=alt.Axis(labelAngle=0)),
        "xOffset": alt.XOffset("loss:N", sort=draw.labels),
        "color": draw.colour(),
    }
    tips = tooltip(
        alt, "loss:N", "quartile:O", "gap:N", "value:Q", "low:Q", "high:Q", alt.Tooltip("n:Q", title="pairs")
    )
    base = draw.chart("quartiles").encode(**place, tooltip=tips)
    rules = base.mark_rule(strokeWidth=2, opacity=0.6).encode(y_axis(alt, "low", "pairwise accuracy"), alt.Y2("high:Q"))
    points = base.mark_point(filled=True, size=45, opacity=1).encode(y_axis(alt, "value", "pairwise accuracy"))
    return draw.picture(
        "quartiles",
        "Accuracy by score gap",
        "Pairwise accuracy of each loss in each quartile of the annotation-score gap, with 95 % intervals. "
        "0.5 is chance.",
        alt.layer(line_at(alt, 0.5), rules, points).properties(width=WIDTH, height=320),
        draw.data.quartiles,
    )


def _scores(draw: Drawing) -> Picture:
    alt = draw.alt
    lines = draw.chart("scores").mark_line(point=alt.OverlayMarkDef(size=35), strokeWidth=2).encode(
        alt.X("score:Q", title="annotation score (mean of a tenth of the responses)", scale=alt.Scale(zero=False)),
        y_axis(alt, "percentile", "mean percentile of the reward"),
        draw.colour(),
        draw.dash(),
        tooltip=tooltip(alt, "loss:N", "score:Q", "percentile:Q", alt.Tooltip("n:Q", title="responses")),
    )  # fmt: skip
    return draw.picture(
        "scores",
        "Reward against score",
        "Held-out responses in tenths by annotation score, and how high their rewards stand among all responses of "
        "the cell, from 0 to 100. A reward that follows the score rises; one that knows nothing of it stays at "
        "50. A reward relative to a reference is comparable within a prompt only.",
        alt.layer(line_at(alt, 50), lines).properties(width=WIDTH, height=320),
        draw.data.scores,
    )


def _reliability(draw: Drawing) -> Picture:
    alt = draw.alt
    lines = draw.chart("reliability").mark_line(point=alt.OverlayMarkDef(size=35), strokeWidth=2).encode(
        alt.X("confidence:Q", title="confidence: sigmoid(|margin|)", scale=alt.Scale(domain=[0.5, 1])),
        y_axis(alt, "accuracy", "share of pairs that are right"),
        draw.colour(),
        draw.dash(),
        tooltip=tooltip(
            alt, "loss:N", "confidence:Q", "accuracy:Q", "low:Q", "high:Q", alt.Tooltip("n:Q", title="pairs")
        ),
    )  # fmt: skip
    rules = (
        draw.chart("reliability")
        .mark_rule(opacity=0.3)
        .encode(
            alt.X("confidence:Q"), y_axis(alt, "low", "share of pairs that are right"), alt.Y2("high:Q"), draw.colour()
        )
    )
    ends = alt.Data(values=[{"x": 0.5, "y": 0.5}, {"x": 1, "y": 1}])
    diagonal = alt.Chart(ends).mark_line(color="#888", strokeDash=[4, 4], strokeWidth=1)
    diagonal = diagonal.encode(alt.X("x:Q"), alt.Y("y:Q"))
    return draw.picture(
        "reliability",
        "Reliability",
        "Test pairs in ten bins of the confidence that their reward margin claims, against the share that is right. On "
        "the dashed diagonal a loss is as often right as it claims; below it claims too much. The scale of a reward is "
        "the loss's own choice: this is about calibration, not about rank. Faint: 95 % intervals over prompts.",
        alt.layer(diagonal, rules, lines).properties(width=WIDTH, height=320),
        draw.data.reliability,
    )


def _learning(draw: Drawing) -> Picture:
    alt = draw.alt
    tips = tooltip(alt, "loss:N", "fraction:Q", "step:Q", "value:Q", "low:Q", "high:Q", alt.Tooltip("n:Q", title="n"))
    panels = []
    metrics = list(dict.fromkeys(point["metric"] for point in draw.data.learning))
    axis = alt.Axis(values=list(draw.board.fractions), format="~g")
    for metric in metrics:
        base = (
            draw.chart("learning")
            .transform_filter(f"datum.metric === {json.dumps(metric)}")
            .encode(
                alt.X("fraction:Q", title="fraction of the budget spent" if metric == metrics[-1] else None, axis=axis),
                draw.colour(),
                tooltip=tips,
            )
        )
        rules = base.mark_rule(strokeWidth=1.5, opacity=0.35).encode(
            y_axis(alt, "low", heading(metric)), alt.Y2("high:Q")
        )
        lines = base.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=35))
        panels.append(
            alt.layer(rules, lines.encode(y_axis(alt, "value", heading(metric)), draw.dash())).properties(
                width=WIDTH, height=190
            )
        )
    return draw.picture(
        "learning",
        "Along the run",
        f"Metrics on the held-out pairs at points along the training, with 95 % intervals, averaged over the board's "
        f"models and seeds. {EARLY}",
        alt.vconcat(*panels, spacing=14),
        draw.data.learning,
    )


def _curves(draw: Drawing) -> Picture:
    alt = draw.alt
    titles = {
        "margin": "reward margin, own scale",
        "accuracy": "accuracy on the training pairs",
        "drift": "log-prob of chosen minus its first",
    }
    shown = [name for name in titles if any(name in point for point in draw.data.curves)]
    tips = tooltip(alt, "loss:N", "step:Q", *(f"{name}:Q" for name in shown))
    panels = [
        draw.chart("curves")
        .mark_line(strokeWidth=1.8, point=alt.OverlayMarkDef(size=14))
        .encode(
            alt.X(
                "step:Q", title="optimiser step" if name == shown[-1] else None, scale=alt.Scale(zero=False, nice=False)
            ),
            y_axis(alt, name, titles[name]),
            draw.colour(),
            draw.dash(),
            tooltip=tips,
        )
        .properties(width=WIDTH, height=190)
        for name in shown
    ]
    return draw.picture(
        "curves",
        "Training curves",
        "Means of at most 40 stretches of steps, averaged over the board's models and seeds: the reward margin of the "
        "training pairs, the share of them that the reward has right, and the summed log-prob of their chosen "
        "responses minus its value in the first stretch (not the reference's, which not every loss computes); its fall "
        "is likelihood displacement. Every loss sees the same pairs at the same step, so what all curves do together "
        "is the data.",
        alt.vconcat(*panels, spacing=14),
        draw.data.curves,
    )


def _spend(draw: Drawing) -> Picture:
    alt = draw.alt
    tips = tooltip(alt, "loss:N", "value:Q", "low:Q", "high:Q", "seconds:Q", alt.Tooltip("flops:Q", format=".4~s"))
    panels = []
    axes: Mapping[Literal["seconds", "flops"], str] = {
        "seconds": "seconds of training (wall-clock)",
        "flops": "floating-point operations of training",
    }
    for field, title in axes.items():
        base = draw.chart("spend").encode(
            alt.X(f"{field}:Q", title=title, scale=alt.Scale(zero=False, padding=12), axis=alt.Axis(format="~s")),
            draw.colour(),
            tooltip=tips,
        )
        rules = base.mark_rule(strokeWidth=1.5, opacity=0.45).encode(y_axis(alt, "low", draw.metric), alt.Y2("high:Q"))
        points = base.mark_point(filled=True, size=70, opacity=1).encode(y_axis(alt, "value", draw.metric))
        if any(point[field] is not None for point in draw.data.spend):
            panels.append(alt.layer(rules, points).properties(width=WIDTH, height=230))
    return draw.picture(
        "spend",
        "Spend against result",
        f"{draw.metric.capitalize()} with its 95 % interval against what the training of one cell cost. "
        "Every loss sees the same pairs; what differs is the passes it needs. Seconds also tell of the machine.",
        alt.vconcat(*panels, spacing=14),
        draw.data.spend,
    )


def _differences(draw: Drawing) -> Picture:
    alt, losses = draw.alt, draw.labels
    few = len(losses) <= WITH_NUMBERS
    largest = max(abs(pair["difference"] or 0.0) for pair in draw.data.differences) or 1.0
    axis = {"labelLimit": 140, "labelOverlap": False}
    base = alt.Chart(alt.NamedData(name="differences")).encode(
        x=alt.X("other:N", sort=losses, title="column", axis=alt.Axis(labelAngle=-90, **axis)),
        y=alt.Y("loss:N", sort=losses, title="row", axis=alt.Axis(**axis)),
        tooltip=tooltip(
            alt, "loss:N", "other:N", "difference:Q", alt.Tooltip("p:Q", title="adjusted p"), "significant:N"
        ),
    )
    scale = alt.Scale(scheme="blueorange", domain=[-largest, largest], reverse=True)
    layers = [base.mark_rect().encode(alt.Color("difference:Q", scale=scale, title="row minus column"))]
    ink = alt.condition(f"abs(datum.difference) > {0.72 * largest}", alt.value("#fff"), alt.value("#111"))
    if few:
        text = "format(datum.difference, '+.3f') + (datum.significant ? ' •' : '')"
        written = base.transform_calculate(text=text).mark_text(fontSize=11)
        layers.append(written.encode(alt.Text("text:N"), color=ink))
    else:
        dots = base.transform_filter("datum.significant").mark_point(filled=True, opacity=1, size=9)
        layers.append(dots.encode(color=ink))
    return draw.picture(
        "differences",
        "Pairwise differences",
        f"{draw.metric.capitalize()} of the loss in the row minus that of the loss in the column, on the "
        "same pairs. A dot: the difference is significant at 5 %, adjusted for all pairs of losses (step-down "
        "max-|t|).",
        alt.layer(*layers).properties(width=alt.Step(60 if few else 15), height=alt.Step(32 if few else 15)),
        draw.data.differences,
        selectable=False,
    )
