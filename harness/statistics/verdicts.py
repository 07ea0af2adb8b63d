"""Verdicts of a judge -> one score per prompt and the win rate, as arrays that the tests of all pairs take too.

Legend of shapes: S training seeds, K systems (losses), P prompts (the clusters), M sampled answers per prompt, O = 2
orders (the system's answer shown first, shown second), T times the judge was asked the same, R resamples.

A verdict is the preference for the system's answer over its rival's, the base's or the data's chosen response: 1 it
wins, 0 it loses, 0.5 a tie, between them what a grade or a log-prob says. Whoever asks turns the verdict of the second
order round. A verdict that is not there or could not be read is NaN: it is counted, and nothing is put in its place.
Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.api.errors import HarnessError
from harness.statistics.estimate_interval import Kind, estimate_interval
from harness.statistics.intervals import Floats, resample_counts, resampled_means


@dataclass(frozen=True, kw_only=True)
class JudgedSample:
    """One number per system, in [0, 1], with its 95 % interval, and the arrays that `pairwise_tests.compare` takes.

    A system without a number has NaN; leave it out of comparisons.
    """

    per_seed: Floats
    """(S, K)"""
    sums: Floats
    """(K, P): scores of each prompt, mean over seeds; of a fitted model pseudo-values, whose mean is the number."""
    sizes: Floats
    """(K, P): 1 where the prompt counts for the system, else 0."""
    resampled: Floats
    """(R, K): the mean over seeds with prompts resampled."""
    low: Floats
    high: Floats
    """(K,) each: over prompts and seeds."""

    @property
    def value(self) -> Floats:
        """The number, (K,): the mean over seeds."""
        return np.asarray(self.per_seed.mean(0))


@dataclass(frozen=True, kw_only=True)
class Counted:
    """How many verdicts there were, and what was lost for want of one; (S, K) each."""

    asked: NDArray[np.int64]
    """Verdicts asked for."""
    unread: NDArray[np.int64]
    """Of these, not there or not readable."""
    one_order: NDArray[np.int64]
    """Comparisons (a prompt's sample) left out because only one of the two orders has a verdict."""
    lost_prompts: NDArray[np.int64]
    """Prompts without a score."""


def win_rate(preference_SKPMOT: Floats, resamples: int = 10_000, seed: int = 0) -> JudgedSample:
    """Return how often a system's answer wins, ties half: the mean of `prompt_scores`, every prompt weighing the same.

    A prompt counts for a system where all its seeds have a score. The interval is that of every share
    (`estimate_interval`), so it is never without width.
    """
    scores_SKP = prompt_scores(preference_SKPMOT)
    sums = scores_SKP.mean(0)
    sizes = np.isfinite(sums).astype(np.float64)
    sums, scores_SKP = np.where(sizes > 0, sums, 0.0), np.where(sizes > 0, scores_SKP, 0.0)
    total = sizes.sum(1)
    per_seed = scores_SKP.sum(2) / np.where(total > 0, total, np.nan)
    drawn = resampled_means(resample_counts(sums.shape[1], resamples, seed), sums, sizes)
    return judged(per_seed, sums, sizes, drawn, "proportion")


def prompt_scores(preference_SKPMOT: Floats) -> Floats:
    """Return the score of each prompt, (S, K, P), in [0, 1]: the mean of `both_orders` over the samples that have one.

    These are per-example values as every metric has them: compared, resampled and ranked like accuracy.
    """
    return mean_of_known(both_orders(preference_SKPMOT), -1)


def both_orders(preference_SKPMOT: Floats) -> Floats:
    """Return the preference of each comparison, (S, K, P, M): the mean over both orders of the means over repeats.

    Repeats that could not be read are left out of the mean of their order. A comparison with one order only is NaN: its
    mean would contain the judge's whole liking for a place, which cancels over both. If of two equal answers the judge
    prefers the one shown first by 0.7 to 0.3, and half of the verdicts of the second order are missing, taking what
    there is would give 0.6 instead of 0.5.
    """
    _require_verdicts(preference_SKPMOT)
    return np.asarray(mean_of_known(preference_SKPMOT, -1).mean(-1))


def counted(preference_SKPMOT: Floats) -> Counted:
    """Return what was asked and what is missing, by seed and system."""
    _require_verdicts(preference_SKPMOT)
    unread = np.isnan(preference_SKPMOT)
    orders = (~unread).any(-1).sum(-1)  # of each comparison
    return Counted(
        asked=np.full(unread.shape[:2], int(np.prod(unread.shape[2:])), dtype=np.int64),
        unread=unread.sum((2, 3, 4, 5)),
        one_order=(orders == 1).sum((2, 3)),
        lost_prompts=(orders < 2).all(3).sum(2),
    )


def judged(
    per_seed: Floats, sums: Floats, sizes: Floats, resampled: Floats, kind: Kind, level: float = 0.95
) -> JudgedSample:
    """Return the sample with its interval, inside [0, 1]."""
    low, high = estimate_interval(kind, per_seed, sums, sizes, resampled, level=level)
    return JudgedSample(
        per_seed=per_seed,
        sums=sums,
        sizes=sizes,
        resampled=resampled,
        low=np.maximum(low, 0.0),
        high=np.minimum(high, 1.0),
    )


def mean_of_known(values: Floats, axis: int) -> Floats:
    """Return the mean of what is not NaN along an axis; NaN where all of it is."""
    known = ~np.isnan(values)
    number = known.sum(axis)
    return np.asarray(np.where(known, values, 0.0).sum(axis) / np.where(number > 0, number, np.nan))


def _require_verdicts(preference_SKPMOT: Floats) -> None:
    """Raise unless there are two orders and every verdict is a preference from 0 to 1, or NaN."""
    assert preference_SKPMOT.ndim == 6, f"got {preference_SKPMOT.ndim} axes, expected seed, system, prompt, ..."
    assert preference_SKPMOT.shape[4] == 2, f"got {preference_SKPMOT.shape[4]} orders, expected both"
    outside = np.argwhere((preference_SKPMOT < 0) | (preference_SKPMOT > 1))
    if len(outside):
        place = ", ".join(
            f"{name} {k}" for name, k in zip(("seed", "system", "prompt", "sample"), outside[0], strict=False)
        )
        raise HarnessError(
            f"a verdict is {preference_SKPMOT[tuple(outside[0])]:g} ({place}, counted from 0); expected a preference "
            "from 0 (the rival wins) to 1 (the system wins), or NaN where none could be read; correct the judge"
        )
