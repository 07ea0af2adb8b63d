"""Which of several systems are better than which: tests of all pairs, ranks, tiers. Imports no torch.

Legend of shapes: P prompts (the clusters), R resamples, K systems, S seeds, D comparisons (pairs of systems).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.statistics.intervals import (
    FEWEST_CLUSTERS,
    TIE,
    Floats,
    means,
    resample_counts,
    resampled_means,
    standard_errors,
    with_variance,
)

BATCH = 10_000
"""Resamples drawn and held at once where the first ones leave a decision open."""
MOST_RESAMPLES = 80_000
"""Where more would be needed, a decision is called borderline: a board has six families of comparisons."""
CLEAR = 3.0
"""A decision is clear where the p-value is this many Monte-Carlo standard errors from the level."""


@dataclass(frozen=True, kw_only=True)
class PairwiseTests:
    """The tests of every pair of K systems; higher values are better."""

    better: NDArray[np.bool_]
    """(K, K): system i is significantly better than system j, and not merely by the luck of the resamples."""
    borderline: NDArray[np.bool_]
    """(K, K), symmetric: whether the pair is significant is open after `MOST_RESAMPLES`; it does not count as such."""
    p: Floats
    """(K, K): p-values adjusted for all pairs, 1 on the diagonal."""
    level: float
    """The two-sided level of a single comparison at which all of them together err with `alpha`; NaN for one system."""
    detectable: float
    """The difference that the median comparison detects at `level` with 80 % power; NaN for one system."""
    detectable_planned: float
    """The same for a comparison planned in advance, at 5 % two-sided; `detectable` where there is only one."""


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """D comparisons of two systems each."""

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    """(D,) each: difference of system `first` to system `second`."""
    z: Floats
    """(D,): size of the difference in standard errors, converted from Student's t to the normal scale."""
    errors: Floats
    """(D,): standard errors over prompts and seeds."""
    freedom: Floats
    """(D,): degrees of freedom of `errors`."""
    added: Floats
    """(D,): what seeds add to the squared errors; 0 with one seed."""


def compare(
    per_seed: Floats,
    sums: Floats,
    sizes: Floats,
    resampled: Floats,
    seed: int = 0,
    alpha: float = 0.05,
    reruns: tuple[Floats, float] | None = None,
) -> PairwiseTests:
    """Return the tests of all pairs of systems.

    `per_seed` (S, K): the estimates; `sums`, `sizes` (K, P): cluster sums and sizes of their mean over seeds;
    `resampled` (R, K): that mean with prompts resampled. Where these leave open on which side of `alpha` an adjusted
    p-value lies (within `CLEAR` Monte-Carlo standard errors), resamples of other seeds are added to them, each time as
    many as there are, until every decision is clear or there are `MOST_RESAMPLES`. `reruns`: for one seed, the
    standard deviation of another training of each system, (K,), as measured, and its degrees of freedom.
    """
    from scipy.special import ndtr

    systems, n_prompts = sums.shape
    p, nowhere = np.ones((systems, systems)), np.zeros((systems, systems), bool)
    if systems < 2:
        nan = float("nan")
        return PairwiseTests(better=nowhere, borderline=nowhere, p=p, level=nan, detectable=nan, detectable_planned=nan)
    of = statistics(per_seed, sums, sizes, reruns)
    batches = _batches(per_seed, sums, sizes, resampled, seed, bool(of.added.any()))
    adjusted, unclear, largest = _decided(of, batches, len(resampled), alpha, n_prompts >= FEWEST_CLUSTERS)
    p[of.first, of.second] = p[of.second, of.first] = adjusted
    level = alpha if len(of.z) == 1 else 2 * float(ndtr(-np.nanquantile(largest, 1 - alpha)))
    borderline, estimate = nowhere.copy(), per_seed.mean(0)
    better = nowhere
    if n_prompts >= FEWEST_CLUSTERS:
        borderline[of.first, of.second] = borderline[of.second, of.first] = unclear
        better = (p <= alpha) & ~borderline & (estimate[:, None] > estimate[None, :])
    return PairwiseTests(
        better=better,
        borderline=borderline,
        p=p,
        level=level,
        detectable=_detectable(of, level),
        detectable_planned=_detectable(of, alpha),
    )


def _decided(
    of: Statistics, batches: Iterable[tuple[Floats, Floats | None]], wanted: int, alpha: float, more: bool
) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Return the adjusted p-values, (D,), which of them are not clear, and the largest statistic of each resample.

    `wanted`: resamples to begin with; `more`: whether to take further ones while a decision is not clear.
    """
    reached, largest, total = np.zeros(len(of.z)), [], 0
    adjusted, unclear = np.ones(len(of.z)), np.zeros(len(of.z), bool)
    for drawn, noise in batches:
        counted, highest = times_reached(of, drawn, noise)
        reached, total = reached + counted, total + len(highest)
        largest.append(highest)
        if total < wanted:
            continue
        adjusted = step_down(of.z, reached, total)
        unclear = np.abs(adjusted - alpha) < CLEAR * np.sqrt(alpha * (1 - alpha) / total)
        if not (more and unclear.any()):
            break
        wanted = min(2 * total, MOST_RESAMPLES)
    return adjusted, unclear, np.concatenate(largest)


def statistics(per_seed: Floats, sums: Floats, sizes: Floats, reruns: tuple[Floats, float] | None = None) -> Statistics:
    """Return the comparisons of all pairs of systems. `per_seed` (S, K); `sums`, `sizes` (K, P).

    The variance over prompts is that of the linearised means (Cochran 1977, "Sampling Techniques", eq. 6.10): it
    depends on no resample. The between-seed variance of a comparison is at least the average over all comparisons: with
    few seeds some of many are tiny by chance, and each would be a false discovery (simulated with six equal systems and
    three seeds that matter: 29 % of boards have a false discovery without this pooling, 3-4 % with it). Each statistic
    is converted from Student's t with its own degrees of freedom to the normal scale, so that few seeds do not make a
    comparison look too certain.
    """
    from scipy.special import ndtri, stdtr

    systems, n_prompts = sums.shape
    first, second = np.triu_indices(systems, 1)
    influence = (sums - means(sums, sizes)[:, None] * sizes) / sizes.sum(1, keepdims=True)
    prompts = np.concatenate([((influence[k] - influence[k + 1 :]) ** 2).sum(1) for k in range(systems)])
    prompts[prompts <= TIE**2] = 0.0  # equal on every prompt: what is left is rounding
    apart = per_seed[:, first] - per_seed[:, second]
    errors, freedom = standard_errors(apart, prompts, n_prompts, systems - 1)
    if reruns is not None:
        sd, of_freedom = reruns
        errors, freedom = with_variance(errors, freedom, sd[first] ** 2 + sd[second] ** 2, of_freedom)
    size = np.abs(apart.mean(0))
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(size <= TIE, 0.0, size / errors)
    return Statistics(
        first=first,
        second=second,
        z=-ndtri(np.maximum(stdtr(freedom, -t), 1e-300)),
        errors=errors,
        freedom=freedom,
        added=np.maximum(errors**2 - prompts * n_prompts / max(n_prompts - 1, 1), 0.0),
    )


def times_reached(of: Statistics, drawn: Floats, noise: Floats | None = None) -> tuple[Floats, Floats]:
    """Return how many resamples reach each statistic, (D,), and the largest statistic of each resample, (R,).

    A resample reaches a statistic where the largest of its own, over this comparison and all with a smaller statistic,
    is as large. `drawn` (K, R): resampled minus estimated value of each system; `noise` (K, R): standard normal draws.

    With several seeds, or a measured noise of reruns, the null distribution adds these draws to the deviations, scaled
    to what those add to the variance of the comparison: S values are too few to resample, and their own covariance has
    only rank S - 1, which makes the largest of many statistics look smaller than it is.
    """
    largest, reached = np.zeros(drawn.shape[1]), np.empty(len(of.z))
    away, more = np.empty_like(largest), np.empty_like(largest)
    for k in np.argsort(-of.z, kind="stable")[::-1]:
        a, b = of.first[k], of.second[k]
        if of.errors[k] > 0:
            np.subtract(drawn[a], drawn[b], out=away)
            if noise is not None:
                np.subtract(noise[a], noise[b], out=more)
                more *= np.sqrt(of.added[k] / 2)
                away += more
            away /= of.errors[k]
            np.maximum(largest, np.abs(away, out=away), out=largest)
        reached[k] = len(largest) - np.count_nonzero(largest < of.z[k] * (1 - TIE))
    return reached, largest


def step_down(z: Floats, reached: Floats, resamples: int) -> Floats:
    """Return the p-value of each of D two-sided comparisons, (D,), adjusted for all of them.

    Step-down max-|t| (Romano & Wolf 2005, algorithm 4.1; p-values as in Romano & Wolf 2016): the family-wise error is
    held under any dependence of the comparisons, which is that of the resamples. `z`, `reached` (D,): as in
    `times_reached`, over `resamples`.
    """
    order, adjusted = np.argsort(-z, kind="stable"), np.empty(len(z))
    adjusted[order] = np.maximum.accumulate((1 + reached[order]) / (1 + resamples))
    return adjusted


def _batches(
    per_seed: Floats, sums: Floats, sizes: Floats, resampled: Floats, seed: int, noisy: bool
) -> Iterator[tuple[Floats, Floats | None]]:
    """Yield deviations of each system and draws for its seeds, (K, R) each: the first resamples, then more."""
    n_prompts, total, batch = sums.shape[1], 0, 0
    widened = np.sqrt(n_prompts / max(n_prompts - 1, 1))
    estimate = per_seed.mean(0)[:, None]
    while total < MOST_RESAMPLES:
        if batch:
            number = min(total, BATCH, MOST_RESAMPLES - total)
            counts = resample_counts.__wrapped__(n_prompts, number, seed + batch * 1_000_000)  # kept in no cache
            resampled = resampled_means(counts, sums, sizes)
        noise = None
        if noisy:
            noise = np.random.default_rng((seed, batch)).standard_normal(resampled.T.shape)
        yield (np.ascontiguousarray(resampled.T) - estimate) * widened, noise
        total, batch = total + len(resampled), batch + 1


def _detectable(of: Statistics, level: float, power: float = 0.8) -> float:
    """Return the difference that the median comparison detects at a two-sided `level` (Cohen 1988, ch. 2).

    Each is reckoned with what seeds add on average: what they add to one comparison is known too roughly, and the
    median of it, at its lower bound, is too little (38 systems, three seeds: 75 % power instead of 78 %).
    """
    from scipy.special import stdtrit

    errors = np.where(of.errors > TIE, np.sqrt(np.maximum(of.errors**2 - of.added, 0.0) + of.added.mean()), 0.0)
    differences = (stdtrit(of.freedom, 1 - level / 2) + stdtrit(of.freedom, power)) * errors
    differences = differences[differences > TIE]
    return float(np.median(differences)) if len(differences) else float("nan")


def rank_ranges(better: NDArray[np.bool_]) -> tuple[list[int], list[int]]:
    """Return the lowest and the highest rank that each system may have, as two lists.

    Lowest: 1 + number of systems significantly better; highest: K - number significantly worse. If `better` holds the
    family-wise error, so do the ranges: together they contain all true ranks (Mogstad, Romano, Shaikh &
    Wilhelm 2024).
    """
    return [int(n) + 1 for n in better.sum(0)], [len(better) - int(n) for n in better.sum(1)]


def tiers(order: list[int], better: NDArray[np.bool_]) -> dict[int, int]:
    """Return the tier of each system, from 1, in `order`: a system that the first of a tier beats opens the next."""
    tier: dict[int, int] = {}
    number, first = 0, -1
    for system in order:
        if not number or better[first, system]:
            number, first = number + 1, system
        tier[system] = number
    return tier
