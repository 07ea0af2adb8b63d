"""Which of several systems are better than which: tests of all pairs, ranks, tiers, P(best). Imports no torch.

Legend of shapes: P prompts (the clusters), R resamples, K systems, S seeds, D comparisons (pairs of systems).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.statistics.intervals import FEWEST_CLUSTERS, TIE, Floats, standard_errors, with_variance


def step_down(differences: Floats, deviations: Floats, errors: Floats, freedom: Floats) -> Floats:
    """Return the p-value of each of D two-sided comparisons, (D,), adjusted for all of them.

    Step-down max-|t| (Romano & Wolf 2005, algorithm 4.1; p-values as in Romano & Wolf 2016): the family-wise error is
    held under any dependence of the comparisons, which is that of the resamples. `differences`, `errors`, `freedom`:
    (D,); `deviations` (R, D): resampled minus estimated difference. Each statistic is first converted from Student's t
    with its own degrees of freedom to the normal scale, so that few seeds do not make a comparison look too certain.
    """
    from scipy.special import ndtri, stdtr

    size = np.abs(differences)
    equal = size <= TIE
    with np.errstate(divide="ignore", invalid="ignore"):
        t = np.where(equal, 0.0, size / errors)
    z = -ndtri(np.maximum(stdtr(freedom, -t), 1e-300))
    order = np.argsort(-z, kind="stable")
    largest, reached = np.zeros(len(deviations)), np.empty(len(size))
    for k in order[::-1]:  # the largest over this comparison and all smaller ones
        if errors[k] > 0:
            np.maximum(largest, np.abs(deviations[:, k]) / errors[k], out=largest)
        reached[k] = np.count_nonzero(largest >= z[k] * (1 - TIE))
    adjusted = np.empty(len(size))
    adjusted[order] = np.maximum.accumulate((1 + reached[order]) / (1 + len(deviations)))
    return np.where(equal, 1.0, adjusted)


@dataclass(frozen=True, kw_only=True)
class PairwiseTests:
    """The tests of every pair of K systems; higher values are better."""

    better: NDArray[np.bool_]
    """(K, K): system i is significantly better than system j."""
    p: Floats
    """(K, K): p-values adjusted for all pairs, 1 on the diagonal."""
    detectable: float
    """The difference that the median test detects with 80 % power, 5 % two-sided; NaN for one system."""


def compare(
    per_seed: Floats,
    resampled: Floats,
    n_prompts: int,
    seed: int = 0,
    alpha: float = 0.05,
    power: float = 0.8,
    reruns_sd: Floats | None = None,
    reruns_freedom: float = np.inf,
) -> PairwiseTests:
    """Return the tests of all pairs of systems.

    `per_seed` (S, K): the estimates; `resampled` (R, K): their mean over seeds with prompts resampled. `reruns_sd`
    (K,): of one seed, what another training changes of each system, as measured with `reruns_freedom`; it is added to
    the variance of a comparison, and to the null as one normal draw per system.

    With several seeds the null distribution adds one normal draw per system to the deviation of each resample, scaled
    to what seeds add to the variance of the comparison: S values are too few to resample, and their own covariance has
    only rank S - 1, which makes the largest of many statistics look smaller than it is. The between-seed variance of a
    comparison is at least the average over all comparisons: with few seeds some of many are tiny by chance, and each
    would be a false discovery (simulated with six equal systems and three seeds that matter: 29 % of boards have a
    false discovery without this pooling, 3-4 % with it).
    """
    from scipy.special import stdtrit

    systems, seeds = per_seed.shape[1], len(per_seed)
    first, second = np.triu_indices(systems, 1)
    p, wins = np.ones((systems, systems)), np.zeros((systems, systems), bool)
    if not len(first):
        return PairwiseTests(better=wins, p=p, detectable=float("nan"))
    estimate = per_seed.mean(0)
    deviations = _differences((resampled - estimate).T, first, second)
    variance = np.array([deviation.var() for deviation in deviations.T])
    errors, freedom = standard_errors(per_seed[:, first] - per_seed[:, second], variance, n_prompts, systems - 1)
    deviations *= np.sqrt(n_prompts / max(n_prompts - 1, 1))
    if seeds > 1:
        draws = np.random.default_rng(seed).standard_normal(resampled.shape)
        added = np.maximum(errors**2 - variance * n_prompts / max(n_prompts - 1, 1), 0.0)
        deviations += _differences(draws.T, first, second) * np.sqrt(added / 2)
    if reruns_sd is not None:
        errors, freedom = with_variance(errors, freedom, reruns_sd[first] ** 2 + reruns_sd[second] ** 2, reruns_freedom)
        draws = np.random.default_rng(seed).standard_normal(resampled.shape) * reruns_sd
        deviations += _differences(draws.T, first, second)
    adjusted = step_down(estimate[first] - estimate[second], deviations, errors, freedom)
    p[first, second] = p[second, first] = adjusted
    if n_prompts >= FEWEST_CLUSTERS:
        wins = (p <= alpha) & (estimate[:, None] > estimate[None, :])
    detectable = (stdtrit(freedom, 1 - alpha / 2) + stdtrit(freedom, power)) * errors
    detectable = detectable[detectable > TIE]
    return PairwiseTests(better=wins, p=p, detectable=float(np.median(detectable)) if len(detectable) else float("nan"))


def _differences(values: Floats, first: NDArray[np.int64], second: NDArray[np.int64]) -> Floats:
    """Return rows `first` minus rows `second` of `values` (K, R), as (R, D) whose columns are contiguous in memory."""
    rows, differences = np.ascontiguousarray(values), np.empty((len(first), values.shape[1]))
    for a, b, difference in zip(first, second, differences, strict=True):  # row by row: no copies of that size
        np.subtract(rows[a], rows[b], out=difference)
    return differences.T


def rank_ranges(better: NDArray[np.bool_]) -> tuple[list[int], list[int]]:
    """Return the lowest and the highest rank that each system may have, as two lists.

    Lowest: 1 + number of systems significantly better; highest: K - number significantly worse. If `better` holds the
    family-wise error, so do the ranges: together they contain all true ranks (Mogstad, Romano, Shaikh &
    Wilhelm 2024).
    """
    return [int(n) + 1 for n in better.sum(0)], [len(better) - int(n) for n in better.sum(1)]


def p_best(
    per_seed: Floats, resampled: Floats, n_prompts: int, seed: int = 0, reruns_sd: Floats | None = None
) -> Floats:
    """Return the share of resamples in which each of K systems has the highest value, (K,); they sum to 1.

    Ties share a resample. Under a flat prior this is about the probability of being the best of these systems (Salanti,
    Ades & Ioannidis 2011, for treatments; Efron & Tibshirani 1998 on what a bootstrap probability is): it is no p-value
    and not adjusted for multiplicity. `per_seed` (S, K), `resampled` (R, K) as in `compare`; with several seeds each
    resample adds one normal draw per system, scaled to what seeds add beyond the part that all systems share; with one
    seed and `reruns_sd` (K,) a draw of that scale. NaN with one prompt, which has no spread.
    """
    seeds, systems = per_seed.shape
    if systems < 2 or n_prompts < 2:
        return np.full(systems, 1.0 if n_prompts > 1 else np.nan)
    estimate = per_seed.mean(0)
    drawn = estimate + (resampled - estimate) * np.sqrt(n_prompts / (n_prompts - 1))
    if seeds > 1:
        own = per_seed - estimate - (per_seed.mean(1, keepdims=True) - estimate.mean())
        between = (own**2).sum() / ((systems - 1) * (seeds - 1)) / seeds
        drawn += np.random.default_rng(seed).standard_normal(drawn.shape) * np.sqrt(between)
    if reruns_sd is not None:
        drawn += np.random.default_rng(seed).standard_normal(drawn.shape) * reruns_sd
    drawn = drawn[np.isfinite(drawn).all(1)]
    if not len(drawn):
        return np.full(systems, np.nan)
    top = drawn >= drawn.max(1, keepdims=True) - TIE
    return np.asarray((top / top.sum(1, keepdims=True)).mean(0))


def tiers(order: list[int], better: NDArray[np.bool_]) -> dict[int, int]:
    """Return the tier of each system, from 1, in `order`: a system that the first of a tier beats opens the next."""
    tier: dict[int, int] = {}
    number, first = 0, -1
    for system in order:
        if not number or better[first, system]:
            number, first = number + 1, system
        tier[system] = number
    return tier
