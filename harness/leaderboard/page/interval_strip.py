"""Estimates -> a forest plot as inline SVG, one strip a row, all of a board on one scale. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.leaderboard.decide.estimates import Estimate

WIDTH, HEIGHT, MARGIN = 190, 24, 14
"""Of a strip, in px; the margin keeps tick labels inside."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """The horizontal axis of a board's forest plot."""

    low: float
    high: float
    ticks: tuple[float, ...]
    chance: float | None
    """Where a reward that knows nothing stands; None outside the axis."""

    def x(self, value: float) -> float:
        """Return the place of a value in px, kept inside the strip."""
        share = (value - self.low) / (self.high - self.low)
        return round(MARGIN + min(max(share, 0.0), 1.0) * (WIDTH - 2 * MARGIN), 1)


def scale(estimates: Sequence[Estimate], metric: str) -> Scale:
    """Return the axis that holds every interval, with two to five round ticks."""
    ends = [end for one in estimates for end in (one.value, one.low, one.high) if math.isfinite(end)]
    low, high = (min(ends), max(ends)) if ends else (0.0, 1.0)
    if high - low < 1e-6:
        low, high = low - 0.05, high + 0.05
    step = next(
        unit * power
        for power in (10.0**exponent for exponent in range(-8, 12))
        for unit in (1.0, 2.0, 5.0)
        if (high - low) / (unit * power) <= 5
    )
    first = math.ceil(low / step - 1e-9)
    ticks = tuple(round(k * step, 10) + 0.0 for k in range(first, math.floor(high / step + 1e-9) + 1))
    chance = 0.5 if metric.startswith("pairwise_accuracy") else 0.0
    return Scale(low=low, high=high, ticks=ticks, chance=chance if low <= chance <= high else None)


def strip(one: Estimate, axis: Scale) -> str:
    """Return the interval and the value of one row; the text beside it says the same, so it is hidden from readers."""
    if math.isnan(one.value):
        return ""
    middle, parts = HEIGHT / 2, []
    if axis.chance is not None:
        parts.append(_line("chance", axis.x(axis.chance), 0, axis.x(axis.chance), HEIGHT))
    if math.isfinite(one.low) and math.isfinite(one.high):
        parts.append(_line("bar", axis.x(one.low), middle, axis.x(one.high), middle))
    parts.append(f'<circle class="dot" cx="{axis.x(one.value):g}" cy="{middle:g}" r="4.5"/>')
    return _svg(parts)


def heading(axis: Scale) -> str:
    """Return the axis with its ticks, for the column's heading."""
    form = max((len(f"{tick:g}".partition(".")[2]) for tick in axis.ticks), default=0)
    parts = []
    for tick in axis.ticks:
        parts.append(_line("tick", axis.x(tick), HEIGHT - 5, axis.x(tick), HEIGHT))
        parts.append(f'<text x="{axis.x(tick):g}" y="{HEIGHT - 9}" text-anchor="middle">{tick:.{form}f}</text>')
    return _svg(parts)


def _svg(parts: Sequence[str]) -> str:
    return f'<svg class="forest" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">{"".join(parts)}</svg>'


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"/>'
