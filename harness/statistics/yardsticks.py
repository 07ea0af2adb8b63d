"""The rewards by which a cell's responses are ranked: the loss's own, and three yardsticks common to all losses."""

from __future__ import annotations

from harness.run_folder.tables import Columns
from harness.statistics.intervals import Floats

YARDSTICKS = ("sum", "mean", "ratio")
"""Summed log-prob, log-prob per token, summed log-prob minus the reference's."""


def margins(pairs: Columns) -> dict[str, Floats]:
    """Return the margin of each pair, (n,), by the loss's own reward (key "") and by "@sum", "@mean" and "@ratio"."""
    chosen, rejected = pairs["chosen_sum_logp"], pairs["rejected_sum_logp"]
    return {
        "": pairs["reward_chosen"] - pairs["reward_rejected"],
        "@sum": chosen - rejected,
        "@mean": chosen / pairs["chosen_tokens"] - rejected / pairs["rejected_tokens"],
        "@ratio": (chosen - pairs["ref_chosen_sum_logp"]) - (rejected - pairs["ref_rejected_sum_logp"]),
    }


def rewards(responses: Columns) -> dict[str, Floats]:
    """Return the reward of each response, (n,), under the same keys as `margins`."""
    total = responses["sum_logp"]
    return {
        "": responses["reward"],
        "@sum": total,
        "@mean": total / responses["tokens"],
        "@ratio": total - responses["ref_sum_logp"],
    }
