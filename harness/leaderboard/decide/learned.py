"""Whether the losses of a board are shown to have learned anything at all."""

from __future__ import annotations

from collections.abc import Mapping

from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.formatting import counted, listed

LEARNED = "pairwise_accuracy@learned"
UNTRAINED = 0.5
"""What the start checkpoint has in `LEARNED`, whatever the data."""
ABOVE = "above 0.5, where the start checkpoint stands"
MOST_NAMED = 5


def shown_to_have_learned(learned: Mapping[str, Estimate]) -> str:
    """Return how many losses have an interval of what was learned above the start checkpoint; empty without any.

    `learned`: of each loss with a value, by label.
    """
    short = [label for label, estimate in learned.items() if not estimate.low > UNTRAINED]
    if not learned:
        return ""
    if len(short) == len(learned):
        return f"No loss is shown to have learned anything: no interval of what was learned lies {ABOVE}."
    if len(learned) == 1:
        return f"{next(iter(learned))} is shown to have learned: its interval lies {ABOVE}."
    if not short:
        every = "Both" if len(learned) == 2 else f"All {counted(len(learned))}"
        return f"{every} losses are shown to have learned: their intervals lie {ABOVE}."
    number = counted(len(learned) - len(short))
    left = f", {listed(short)} not" if len(short) <= MOST_NAMED else ""
    verb = "is" if len(learned) - len(short) == 1 else "are"
    return (
        f"{number[0].upper()}{number[1:]} of {counted(len(learned))} losses {verb} shown to have learned (an interval "
        f"{ABOVE}){left}."
    )
