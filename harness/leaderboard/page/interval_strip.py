"""Estimates -> a forest plot as inline SVG: one strip per row, all strips of a board on one axis. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from harness.leaderboard.decide.estimates import Estimate

WIDTH, HEIGHT, MARGIN = 190, 24, 14
"""Of a strip, px; the margin keeps the tick labels inside."""


@dataclass(frozen=True, kw_only=True)
class Axis:
    """The horizontal axis of a board's forest plot."""

    low: float
    high: float
    ticks: tuple[float, ...]
    chance: float | None
    """What a reward that knows nothing reaches; None where that lies outside the axis."""

    def x(self, value: float) -> float:
        """Return where a value stands, px from the left; values outside the axis stand at its end."""
        share = (value - self.low) / (self.high - self.low)
        return round(MARGIN + min(max(share, 0.0), 1.0) * (WIDTH - 2 * MARGIN), 1)


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
    chance = 0.5 if metric.startswith("pairwise_accuracy") else 0.0
    return Axis(low=low, high=high, ticks=ticks, chance=chance if low <= chance <= high else None)


def strip(estimate: Estimate, axis: Axis) -> str:
    """Return the interval and the value of one row; screen readers are left to the numbers beside it."""
    if math.isnan(estimate.value):
        return ""
    middle, parts = HEIGHT / 2, []
    if axis.chance is not None:
        parts.append(_line("chance", axis.x(axis.chance), 0, axis.x(axis.chance), HEIGHT))
    if math.isfinite(estimate.low) and math.isfinite(estimate.high):
        parts.append(_line("bar", axis.x(estimate.low), middle, axis.x(estimate.high), middle))
    parts.append(f'<circle class="dot" cx="{axis.x(estimate.value):g}" cy="{middle:g}" r="4.5"/>')
    return _svg(parts)


def heading(axis: Axis) -> str:
    """Return the axis with its ticks, for the heading of the column."""
    decimals = max((len(f"{tick:g}".partition(".")[2]) for tick in axis.ticks), default=0)
    parts = []
    for tick in axis.ticks:
        parts.append(_line("tick", axis.x(tick), HEIGHT - 5, axis.x(tick), HEIGHT))
        parts.append(f'<text x="{axis.x(tick):g}" y="{HEIGHT - 9}" text-anchor="middle">{tick:.{decimals}f}</text>')
    return _svg(parts)


def _svg(parts: Sequence[str]) -> str:
    return f'<svg class="forest" viewBox="0 0 {WIDTH} {HEIGHT}" aria-hidden="true">{"".join(parts)}</svg>'


def _line(kind: str, x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<line class="{kind}" x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}"/>'
