"""Whether a board says that nothing was learned."""

from __future__ import annotations

import pytest

from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.decide.learned import nothing_learned


def estimate(low: float, high: float) -> Estimate:
    return Estimate(value=(low + high) / 2, low=low, high=high, n=100)


@pytest.mark.parametrize(
    ("learned", "said"),
    [
        ([estimate(0.44, 0.55), estimate(0.49, 0.63)], True),
        ([estimate(0.5, 0.6)], True),
        ([estimate(0.3, 0.4)], True),
        ([estimate(0.44, 0.55), estimate(0.51, 0.63)], False),
        ([], False),
    ],
)
def test_a_board_says_so_where_no_interval_lies_above_the_start(learned: list[Estimate], said: bool) -> None:
    assert bool(nothing_learned(learned)) is said
