"""Grids of settings trained with the same seeds: contrasts, and what share of the variance each factor has.

Legend of shapes: C cells (one per combination of settings), S seeds, P prompts, K contrasts, R resamples.

A seed is the same order of pairs in every cell, so what it does to all of them alike cancels in every difference. What
is left of it, seeds x cells, is taken to have one variance in all cells: a grid of many cells with two seeds each knows
it well, where two cells alone would not.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.statistics.estimate_interval import estimate_interval
from harness.statistics.intervals import TIE, Floats, resample_counts, resampled_means

INTERACTIONS, SEEDS = "interactions", "training seeds"
MOST_GROUPINGS = 200_000
"""More ways to part the losses are not counted one by one."""


@dataclass(frozen=True, kw_only=True)
class GridValues:
    """One metric over a grid of cells, example by example summed per prompt."""

    per_seed: Floats
    """(S, C) the mean over examples."""
    sums: Floats
    """(C, P): of the examples of each prompt, averaged over seeds."""
    sizes: Floats
    """(P,) examples of each prompt."""

    @property
    def means(self) -> Floats:
        """(C,) the mean over seeds."""
        means: Floats = self.per_seed.mean(0)
        return means


def seed_variance(per_seed: Floats) -> tuple[float, float]:
    """Return the variance of one training, seeds x cells, and its degrees of freedom (C - 1)(S - 1).

    `per_seed` (S, C). NaN and 0 with one seed or one cell.
    """
    seeds, cells = per_seed.shape
    freedom = (seeds - 1) * (cells - 1)
    if freedom < 1:
        return float("nan"), 0.0
    left = per_seed - per_seed.mean(0) - per_seed.mean(1, keepdims=True) + per_seed.mean()
    return float((left**2).sum() / freedom), float(freedom)


def contrasts(
    grid: GridValues, weights: Floats, resamples: int = 10_000, seed: int = 0
) -> tuple[Floats, Floats, Floats]:
    """Return (value, low, high), (K,) each, of sums of cells' means with `weights` (K, C) that add up to 0.

    95 % over prompts by BCa, and over seeds by the larger of the contrast's own variance and that of all cells, put
    together as `estimate_interval` does. With one seed the intervals are over prompts alone.
    """
    value = weights @ grid.means
    seeds = len(grid.per_seed)
    pooled, freedom = seed_variance(grid.per_seed)
    extra = None
    if seeds > 1 and freedom:
        own = (grid.per_seed @ weights.T).var(0, ddof=1) / seeds
        shared = pooled * (weights**2).sum(1) / seeds
        extra = np.sqrt(np.maximum(own, shared)), np.full(len(value), freedom)
    sums, sizes = weights @ grid.sums, np.broadcast_to(grid.sizes, (len(weights), len(grid.sizes)))
    drawn = resampled_means(resample_counts(len(grid.sizes), resamples, seed), sums, sizes)
    low, high = estimate_interval("mean", value[None], sums, sizes, drawn, extra)
    return value, low, high


@dataclass(frozen=True, kw_only=True)
class Shares:
    """What share of the variance between trainings each source has: estimates that add up to 1, with 95 % intervals."""

    sources: tuple[str, ...]
    value: Floats
    low: Floats
    high: Floats


def variance_shares(
    grid: GridValues, factors: Mapping[str, Sequence[int]], resamples: int = 10_000, seed: int = 0
) -> Shares:
    """Return the shares of each factor's main effect, of all interactions together, and of training seeds.

    `factors`: by name, the level of each cell, (C,), counted from 0; every combination is there once. The variance of a
    source is the population variance of its effects over levels, that of seeds the variance of one training; what test
    prompts and seeds add to the former by chance is estimated by the bootstrap (prompts resampled, seeds drawn as
    normal with the variance of all cells, itself drawn with its degrees of freedom) and taken off: a factor that does
    nothing has a share of 0 rather than what noise gives it. Percentile intervals of the same draws. With one seed the
    share of seeds is not known and is left out.
    """
    names = [*factors, *([INTERACTIONS] if len(factors) > 1 else [])]
    levels = [np.asarray(of) for of in factors.values()]
    means = grid.means
    sigma, freedom = seed_variance(grid.per_seed)
    rng = np.random.default_rng(seed)
    counts = resample_counts(len(grid.sizes), resamples, seed)
    drawn = resampled_means(counts, grid.sums, np.broadcast_to(grid.sizes, grid.sums.shape))  # (R, C)
    variance = np.zeros(resamples)
    if freedom:
        variance = sigma * freedom / rng.chisquare(freedom, resamples)
        drawn = drawn + rng.standard_normal(drawn.shape) * np.sqrt(variance / len(grid.per_seed))[:, None]
    raw, replicates = _sources(means[None], levels)[0], _sources(drawn, levels)
    bias = replicates.mean(0) - raw
    estimate, spread = np.maximum(raw - bias, 0.0), np.maximum(replicates - 2 * bias, 0.0)
    if freedom:
        names.append(SEEDS)
        estimate, spread = np.append(estimate, sigma), np.column_stack([spread, variance])
    total, totals = estimate.sum(), spread.sum(1, keepdims=True)
    shares = np.divide(spread, totals, out=np.zeros_like(spread), where=totals > 0)
    low, high = np.quantile(shares, [0.025, 0.975], axis=0)
    return Shares(sources=tuple(names), value=estimate / total if total > 0 else estimate, low=low, high=high)


def _sources(means: Floats, levels: Sequence[NDArray[np.int64]]) -> Floats:
    """Return the variance of each main effect over its levels, and of what they leave where several; of (R, C) rows."""
    apart = means - means.mean(1, keepdims=True)
    found, left = [], apart
    for level in levels:
        indicator = np.equal.outer(level, np.arange(level.max() + 1)).astype(float)  # (C, L)
        effects = apart @ indicator / indicator.sum(0)
        found.append((effects**2).mean(1))
        left = left - effects[:, level]
    if len(levels) > 1:
        found.append((left**2).mean(1))
    return np.column_stack(found)


def grouping_test(values: Floats, first: NDArray[np.bool_]) -> tuple[float, int]:
    """Return the two-sided p of the difference of two groups' means among all ways to part the losses so, and how many.

    `values` (L,), one per loss; `first` (L,): which are in the first group. The smallest p possible is 1 over the
    number of ways, or 2 over it where both groups are of a size. Raises `ValueError` for more than `MOST_GROUPINGS`.
    """
    size, count = int(first.sum()), len(values)
    ways = math.comb(count, size)
    if ways > MOST_GROUPINGS:
        raise ValueError(f"{ways} ways to part {count} losses")
    total = values.sum()
    sums = np.array([values[list(chosen)].sum() for chosen in itertools.combinations(range(count), size)])
    apart = np.abs(sums / size - (total - sums) / (count - size))
    seen = abs(values[first].mean() - values[~first].mean())
    return float((apart >= seen - TIE).mean()), ways
