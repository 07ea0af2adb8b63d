"""The canary: a few held-out pairs that the transformers scorer scores as well, in every cell."""

from __future__ import annotations

import numpy as np

from harness.api import HarnessError, OpenScorer
from harness.data.heldout import HeldOut

PAIRS = 4
"""Held-out pairs on which every record compares its scorer with the transformers scorer."""
ABSOLUTE, RELATIVE = 1e-3, 1e-6
"""In fp32 the two must agree within 1e-3 + 1e-6 |sum| nats; in bf16 the difference is only reported."""


def canary_parity(
    canary: OpenScorer | None, held_out: HeldOut, sums: np.ndarray, *, scorer: str, dtype: str
) -> float | None:
    """Return the largest difference in nats between `sums` and what the canary gives, over `PAIRS` pairs.

    `sums`, (requests,), are the summed log-probs by `scorer`, under the weights that the canary has loaded too.
    None where there is no second scorer. Raises `HarnessError` where the two disagree in fp32.
    """
    if canary is None:
        return None
    pairs = held_out.pairs.head(PAIRS)
    indices = np.unique(np.concatenate([pairs["chosen"], pairs["rejected"]]))
    again = canary.score([held_out.requests[i] for i in indices])
    difference = np.abs(sums[indices] - again)
    if dtype == "float32" and (difference > ABSOLUTE + RELATIVE * np.abs(again)).any():
        raise HarnessError(
            f"{scorer} and transformers disagree by {difference.max():.4g} nats on a response, expected at most "
            f"{ABSOLUTE} + {RELATIVE}*|sum|; do not trust {scorer} here, pass --scorer transformers"
        )
    return float(difference.max())
