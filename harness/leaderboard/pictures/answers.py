"""The pictures of generated answers: quality against distance from the start, and win rates. Pure; imports no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from harness.leaderboard.answer_grids import SHORT
from harness.leaderboard.decide.answers_in_words import quality_in_words
from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.decide.frontier import FrontierPoint
from harness.leaderboard.formatting import significant
from harness.leaderboard.pictures.drawing import WIDTH, Drawing, Picture, line_at, tooltip, y_axis
from harness.leaderboard.pictures.points import FrontierDot, JudgedPoint, Number, short
from harness.leaderboard.table import Board, Row
from harness.statistics.answer_metrics import EQUAL_LENGTH, EQUAL_STYLE, VS_CHOSEN, WIN_RATE


def frontier_dots(board: Board, rows: Sequence[Row]) -> list[FrontierDot]:
    """Return the points of the board's frontiers, each line beginning at the start checkpoint."""
    zero = Estimate(value=0.0, low=0.0, high=0.0)
    dots: list[FrontierDot] = []
    for frontier in board.frontiers:
        for label in (row.label for row in rows):
            own = [point for point in frontier.points if point.label == label]
            starts = [FrontierPoint(label=label, seed=seed, fraction=0.0, kl=zero, gain=zero) for seed in _seeds(own)]
            dots += [_dot(frontier.quality, point) for point in (*starts, *own)]
    return dots


def _seeds(points: Sequence[FrontierPoint]) -> list[int]:
    return list(dict.fromkeys(point.seed for point in points))


def _dot(quality: str, point: FrontierPoint) -> FrontierDot:
    return {
        "loss": point.label,
        "quality": quality_in_words(quality),
        "seed": point.seed,
        "fraction": short(point.fraction),
        "kl": short(point.kl.value),
        "distance": _root(point.kl.value),
        "near": _root(point.kl.low),
        "far": _root(point.kl.high),
        "gain": short(point.gain.value),
        "low": short(point.gain.low),
        "high": short(point.gain.high),
    }


def judged_points(board: Board, rows: Sequence[Row]) -> list[JudgedPoint]:
    """Return every win rate of the board's losses."""
    if board.answers is None:
        return []
    return [
        {
            "loss": row.label,
            "judge": judge.name,
            "reading": SHORT[stem],
            "value": short(found.value),
            "low": short(found.low),
            "high": short(found.high),
        }
        for judge in board.answers.judges
        for stem in (WIN_RATE, EQUAL_LENGTH, EQUAL_STYLE, VS_CHOSEN)
        for row in rows
        if row.answers and (found := row.answers.values.get(f"{stem}@{judge.name}")) is not None
    ]


def frontier(draw: Drawing) -> Picture:
    """Return gain against sqrt(KL), a panel per quality, a line per loss and seed."""
    alt = draw.alt
    panels = []
    qualities = list(dict.fromkeys(dot["quality"] for dot in draw.data.frontier))
    tips = tooltip(
        alt, "loss:N", "seed:N", "fraction:Q", "kl:Q", "gain:Q", "low:Q", "high:Q", alt.Tooltip("distance:Q", title="d")
    )
    for quality in qualities:
        title = "distance from the start, sqrt(KL)" if quality == qualities[-1] else None
        base = (
            draw.chart("frontier")
            .transform_filter(f"datum.quality === {json.dumps(quality)}")
            .encode(draw.colour(), alt.Detail("seed:N"), tooltip=tips)
        )
        x, name = alt.X("distance:Q", title=title), f"gain in {quality}"
        lines = base.mark_line(strokeWidth=2, point=alt.OverlayMarkDef(size=40)).encode(
            x, y_axis(alt, "gain", name), draw.dash(), alt.Order("fraction:Q")
        )
        upright = base.mark_rule(strokeWidth=1.5, opacity=0.35).encode(x, y_axis(alt, "low", name), alt.Y2("high:Q"))
        level = base.mark_rule(strokeWidth=1.5, opacity=0.35).encode(
            alt.X("near:Q", title=title), alt.X2("far:Q"), y_axis(alt, "gain", name)
        )
        panels.append(alt.layer(line_at(alt, 0), upright, level, lines).properties(width=WIDTH, height=240))
    return draw.picture(
        "frontier",
        "Quality against distance from the start",
        "Gain over the start checkpoint against sqrt(KL) to it on own answers, in nats, at each point along a run, "
        "with 95 % intervals of both over prompts. Every line begins at the start. Higher at the same distance is "
        "better.",
        alt.vconcat(*panels, spacing=14),
        draw.data.frontier,
    )


def win_rates(draw: Drawing) -> Picture:
    """Return the win rates of each loss, a panel per judge."""
    alt = draw.alt
    readings = list(dict.fromkeys(point["reading"] for point in draw.data.judged))
    tips = tooltip(alt, "loss:N", "judge:N", "reading:N", "value:Q", "low:Q", "high:Q")
    panels = []
    for judge in dict.fromkeys(point["judge"] for point in draw.data.judged):
        base = (
            draw.chart("judged")
            .transform_filter(f"datum.judge === {json.dumps(judge)}")
            .encode(
                alt.X("reading:N", sort=readings, title=None, axis=alt.Axis(labelAngle=0)),
                alt.XOffset("loss:N", sort=draw.labels),
                draw.colour(),
                tooltip=tips,
            )
        )
        name = f"win rate by {judge}"
        rules = base.mark_rule(strokeWidth=2, opacity=0.6).encode(y_axis(alt, "low", name), alt.Y2("high:Q"))
        dots = base.mark_point(filled=True, size=45, opacity=1).encode(y_axis(alt, "value", name))
        panels.append(alt.layer(line_at(alt, 0.5), rules, dots).properties(width=WIDTH, height=260))
    return draw.picture(
        "judged",
        "Win rates",
        "How often each judge prefers a loss's answers to those of the start checkpoint: plain, had both answers the "
        "same length, and had both the same style; or to the data's chosen response. 95 % intervals; 0.5 is a tie.",
        alt.vconcat(*panels, spacing=14),
        draw.data.judged,
    )


def _root(kl: float) -> Number:
    return significant(math.sqrt(max(kl, 0.0)), 4) if math.isfinite(kl) else None
