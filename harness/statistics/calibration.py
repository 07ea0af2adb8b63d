"""Whether sigmoid(margin) is the probability that the chosen response wins: Brier, ECE, reliability. Imports no torch.

That is what a Bradley-Terry reward claims: P(first beats second) = sigmoid(reward of first - reward of second). The
label "chosen" is the outcome, so a pair is seen from the response that the reward prefers: its confidence is
sigmoid(|margin|), at least 0.5, and it is right or wrong (Guo et al. 2017, arXiv:1706.04599). A reward that is no
log-odds (IPO's, a number of characters) makes no such claim; the numbers then say how far it is from a probability.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.statistics.intervals import Floats, cluster_sums
from harness.statistics.proportions import proportion_interval

BINS = 10
"""Number of bins of equal width for confidences from 0.5 to 1."""


@dataclass(frozen=True, kw_only=True)
class Bin:
    """The pairs whose confidence lies in one bin of a reliability diagram."""

    start: float
    end: float
    confidence: float
    """Mean confidence; NaN in an empty bin."""
    accuracy: float
    """Share of pairs that are right; a tie counts half."""
    low: float
    high: float
    """95 % interval of the accuracy over prompts; NaN in an empty bin."""
    n: int
    """Number of pairs."""


def wins(margin: Floats) -> Floats:
    """Return 1 where the chosen response has the higher reward, 0.5 for a tie, else 0, (n,); NaN where unknown."""
    return np.where(np.isnan(margin), np.nan, (margin > 0) + 0.5 * (margin == 0))


def brier_examples(margin: Floats) -> Floats:
    """Return (1 - sigmoid(margin))^2 for each pair, (n,), a squared probability (Brier 1950); 0.25: no preference."""
    from scipy.special import expit

    return np.asarray(expit(-margin) ** 2)


def ece_examples(margin: Floats) -> Floats:
    """Return pseudo-values (n,) whose mean is the expected calibration error, in probability (Guo et al. 2017, eq. 3).

    ECE = sum over bins of |sum of (confidence - right)| / n. A pair's pseudo-value is its (confidence - right) times
    the sign of its bin's sum: a linearisation in which the signs are constants. Resampling the absolute values instead
    would add to the upward bias that the estimator has near perfect calibration (Kumar et al. 2019, arXiv:1909.10155).
    """
    known = np.isfinite(margin)
    confidence, right, place = _read(margin)
    over = confidence - right
    sums = np.bincount(place[known], weights=over[known], minlength=BINS)
    return np.asarray(over * np.where(sums < 0, -1.0, 1.0)[place])


def reliability(prompt: NDArray[np.int64], margin: Floats, n_prompts: int) -> tuple[Bin, ...]:
    """Return the bins of a reliability diagram (Niculescu-Mizil & Caruana 2005); none where no margin is known.

    `prompt`, `margin`: (n,), several seeds or models one after another; `prompt` counts from 0. The interval is that of
    every share (`proportion_interval`).
    """
    known = np.isfinite(margin)
    if not known.any():
        return ()
    confidence, right, place = _read(margin)
    edges = np.linspace(0.5, 1, BINS + 1)
    inside = known & (place == np.arange(BINS)[:, None])  # (BINS, n)
    low, high = proportion_interval(*cluster_sums(prompt, np.where(inside, right, np.nan), n_prompts))
    bins = []
    for k, here in enumerate(inside):
        bins.append(
            Bin(
                start=float(edges[k]),
                end=float(edges[k + 1]),
                confidence=float(confidence[here].mean()) if here.any() else float("nan"),
                accuracy=float(right[here].mean()) if here.any() else float("nan"),
                low=float(low[k]),
                high=float(high[k]),
                n=int(here.sum()),
            )
        )
    return tuple(bins)


def _read(margin: Floats) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Return for each pair its confidence, whether it is right, and the number of its bin, (n,) each."""
    from scipy.special import expit

    confidence = expit(np.abs(margin))
    place = np.clip(np.floor((np.nan_to_num(confidence, nan=0.5) - 0.5) * 2 * BINS), 0, BINS - 1).astype(np.int64)
    return confidence, wins(margin), place
