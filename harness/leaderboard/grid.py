"""A table of text that every rendering writes down, and how its cells are written."""

from __future__ import annotations

from dataclasses import dataclass

from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.decide.standings import Standing
from harness.leaderboard.formatting import FEW, MISSING, number_with_interval, rank_with_range


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A table under a title, with what is said before and after it."""

    title: str
    before: tuple[str, ...]
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    """The first cell of each is the name of a system."""
    after: tuple[str, ...] = ()


def value_cell(estimate: Estimate | None, form: str = ".3f") -> str:
    return MISSING if estimate is None else number_with_interval(estimate, form) + FEW * estimate.few


def place_cell(standing: Standing | None) -> str:
    if standing is None:
        return MISSING
    return rank_with_range(standing.rank, standing.rank_low, standing.rank_high, standing.borderline)
