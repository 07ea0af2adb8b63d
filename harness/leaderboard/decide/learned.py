"""Whether the losses of a board are shown to have learned anything at all."""

from __future__ import annotations

from collections.abc import Sequence

from harness.leaderboard.decide.estimates import Estimate

LEARNED = "pairwise_accuracy@learned"
UNTRAINED = 0.5
"""What the start checkpoint has in `LEARNED`, whatever the data."""


def nothing_learned(learned: Sequence[Estimate]) -> str:
    """Return the sentence for a board on which no loss has an interval above the start checkpoint; else nothing.

    `learned`: of each loss with a value.
    """
    if not learned or any(estimate.low > UNTRAINED for estimate in learned):
        return ""
    return (
        "No loss is shown to have learned anything: no interval of what was learned lies above 0.5, where the start "
        "checkpoint stands."
    )
