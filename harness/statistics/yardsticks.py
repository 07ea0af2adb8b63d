"""The rewards by which a cell's responses are ranked: the loss's own, what it learned, and yardsticks common to all."""

from __future__ import annotations

import numpy as np

from harness.run_folder.tables import Columns
from harness.statistics.intervals import Floats

YARDSTICKS = ("sum", "mean", "ratio", "ratio_mean")
"""The common ones: summed log-prob, log-prob per token, and both relative to the start checkpoint."""
READINGS = ("learned", *YARDSTICKS)
"""Every reading beside the loss's own reward.

`learned` is the loss's own kind of reading relative to the start checkpoint: the log-ratio to it, summed or per token
as the loss's trait `length_normalised` says. It prefers neither response before training, so it starts at 0.5 for every
loss, where the own reward of a reference-free loss starts at the accuracy of the start checkpoint's log-probs.
"""


def margins(pairs: Columns, averaged: bool | None) -> dict[str, Floats]:
    """Return the margin of each pair, (n,), by the loss's own reward (key "") and by "@" and each of `READINGS`.

    `averaged`: whether the loss averages log-probs over tokens; None where that is not known, `learned` is then NaN.
    """
    chosen, rejected = pairs["chosen_sum_logp"], pairs["rejected_sum_logp"]
    gained, other = chosen - pairs["ref_chosen_sum_logp"], rejected - pairs["ref_rejected_sum_logp"]
    ratio = gained - other
    ratio_mean = gained / pairs["chosen_tokens"] - other / pairs["rejected_tokens"]
    return {
        "": pairs["reward_chosen"] - pairs["reward_rejected"],
        "@learned": _learned(averaged, ratio, ratio_mean),
        "@sum": chosen - rejected,
        "@mean": chosen / pairs["chosen_tokens"] - rejected / pairs["rejected_tokens"],
        "@ratio": ratio,
        "@ratio_mean": ratio_mean,
    }


def rewards(responses: Columns, averaged: bool | None) -> dict[str, Floats]:
    """Return the reward of each response, (n,), under the same keys as `margins`."""
    total = responses["sum_logp"]
    ratio = total - responses["ref_sum_logp"]
    ratio_mean = ratio / responses["tokens"]
    return {
        "": responses["reward"],
        "@learned": _learned(averaged, ratio, ratio_mean),
        "@sum": total,
        "@mean": total / responses["tokens"],
        "@ratio": ratio,
        "@ratio_mean": ratio_mean,
    }


def _learned(averaged: bool | None, ratio: Floats, ratio_mean: Floats) -> Floats:
    if averaged is None:
        return np.full(ratio.shape, np.nan)
    return ratio_mean if averaged else ratio
