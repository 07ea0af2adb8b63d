"""Board -> its forest plot as HTML: a line per row, in its tier, all intervals on one axis. Pure; names are escaped.

Everything is placed in per cent and sized in rem, so that it follows the width of the window and the size of the text.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.formatting import FEW, heading, interval, number, rank_range
from harness.leaderboard.page.board_table import attributes
from harness.leaderboard.table import Board, Row
from harness.statistics.metrics import METRICS, chance

MARGIN = 3.0
"""Per cent at either end of the axis, which keep marks and tick labels inside."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """The horizontal axis of a board's forest plot."""

    low: float
    high: float
    ticks: tuple[float, ...]
    chance: float | None
    """What a reward that knows nothing reaches; None where that lies outside the axis."""

    def x(self, value: float) -> float:
        """Return where a value stands, per cent from the left; values outside the axis stand at its end."""
        share = (value - self.low) / (self.high - self.low)
        return round(MARGIN + min(max(share, 0.0), 1.0) * (100 - 2 * MARGIN), 2)


def forest(board: Board, ranked_by: str) -> str:
    """Return the forest plot of the ranked metric; empty where no row has it."""
    shown = [row for row in board.rows if row.status == "ok" and math.isfinite(row.metrics[ranked_by].value)]
    lost = [row for row in board.rows if row.kind == "loss" and row.status != "ok"]
    if not shown:
        return ""
    axis = shared_axis([row.metrics[ranked_by] for row in shown], ranked_by)
    lines, tier = [_scale(axis, ranked_by)], None
    for row in shown:
        if row.tier != tier or len(lines) == 1:
            tier = row.tier
            together = sum(other.tier == tier for other in shown)
            lines.append(_tier_heading(row, together, losses=sum(other.tier is not None for other in shown)))
        lines.append(_line(row, row.metrics[ranked_by], axis))
    lines += [_heading("Without a result"), *map(_lost, lost)] if lost else []
    of = f"Forest plot: {heading(ranked_by)} with 95 % intervals, a line per row; the table below has the same numbers"
    seeds = " and seeds" if len(board.seeds) > 1 else ""
    said = f"{heading(ranked_by)}: {METRICS[ranked_by].summary}. Intervals of 95 % over prompts{seeds}."
    drawn = "\n".join(lines)
    plot = f'<div class="forest" role="group" aria-label="{escape(of)}">\n{drawn}\n</div>'
    return f'{plot}\n<p class="read">{escape(said)}</p>'


def shared_axis(estimates: Sequence[Estimate], metric: str) -> Axis:
    """Return the axis that holds every interval, with two to five round ticks."""
    points = [point for estimate in estimates for point in (estimate.value, estimate.low, estimate.high)]
    ends = [point for point in points if math.isfinite(point)]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    if high - low < 1e-6:  # one value: an axis needs a width
        low, high = low - 0.05, high + 0.05
    step = next(
        unit * power
        for power in (10.0**exponent for exponent in range(-8, 12))
        for unit in (1.0, 2.0, 5.0)
        if (high - low) / (unit * power) <= 5
    )
    first = math.ceil(low / step - 1e-9)
    ticks = tuple(round(k * step, 10) + 0.0 for k in range(first, math.floor(high / step + 1e-9) + 1))
    nothing = chance(metric)
    return Axis(low=low, high=high, ticks=ticks, chance=nothing if low <= nothing <= high else None)


def _scale(axis: Axis, ranked_by: str) -> str:
    """Return the heading: what is drawn, and the ticks."""
    decimals = max((len(f"{tick:g}".partition(".")[2]) for tick in axis.ticks), default=0)
    ticks = "".join(f'<span style="left:{axis.x(tick):g}%">{tick:.{decimals}f}</span>' for tick in axis.ticks)
    return (
        '<div class="line scale"><span class="place">rank</span><span class="who">loss</span>'
        f'<span class="strip" aria-hidden="true">{ticks}</span>'
        f'<span class="number">{escape(heading(ranked_by))}, 95 % interval</span></div>'
    )


def _tier_heading(first: Row, together: int, losses: int) -> str:
    """Return the line over a tier of so many rows, which says what they share. `losses`: of all tiers."""
    if first.tier is None:
        return _heading("Not ranked")
    if together == losses > 1:
        return _heading("One tier", f": no loss is shown to be worse than {first.label}, so their order may be chance")
    shared = f": {first.label}, and what is not shown to be worse" if together > 1 else ""
    return _heading(f"Tier {first.tier}", shared)


def _heading(strong: str, more: str = "") -> str:
    return f'<div class="tier"><strong>{escape(strong)}</strong>{escape(more)}</div>'


def _line(row: Row, estimate: Estimate, axis: Axis) -> str:
    marks = []
    if axis.chance is not None:
        marks.append(f'<i class="chance" style="left:{axis.x(axis.chance):g}%"></i>')
    if math.isfinite(estimate.low) and math.isfinite(estimate.high):
        left, right = axis.x(estimate.low), axis.x(estimate.high)
        marks.append(f'<i class="bar" style="left:{left:g}%;width:{right - left:.2f}%"></i>')
    marks.append(f'<i class="dot" style="left:{axis.x(estimate.value):g}%"></i>')
    ends = interval(estimate.low, estimate.high) + FEW * estimate.few
    return (
        f"<div {attributes(row, 'line')}>{_place(row)}{_who(row)}"
        f'<span class="strip" aria-hidden="true">{"".join(marks)}</span>'
        f'<span class="number">{number(estimate.value)} <span class="range">{ends}</span></span></div>'
    )


def _lost(row: Row) -> str:
    said = escape(f"{row.status}: {row.reason}")
    return f'<div {attributes(row, "line")}>{_place(row)}{_who(row)}<span class="words">{said}</span></div>'


def _place(row: Row) -> str:
    places = rank_range(row.rank_low, row.rank_high, row.borderline)
    ends = f' <span class="range">{places}</span>' if places else ""
    return f'<span class="place">{"" if row.rank is None else f"{row.rank}{ends}"}</span>'


def _who(row: Row) -> str:
    return f'<span class="who">{escape(row.label).replace("(", "(<wbr>").replace(",", ",<wbr>")}</span>'
