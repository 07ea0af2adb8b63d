"""Intervals and comparisons: one prompt-clustered paired bootstrap for everything. Imports no torch, no scipy.stats.

Legend of shapes: P prompts (the clusters), R resamples, K systems (or columns), S seeds, D comparisons, n examples.

A metric is a mean of per-example values, that is a ratio of cluster sums to cluster sizes; rank correlations and slopes
join by their pseudo-values (`rank_correlations`). The same resampled prompts serve all systems, seeds and models, so
every difference is paired.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
CHUNK = 1000
"""Resamples held in float64 at once."""
TIE = 1e-12
"""Values closer than this are equal."""
MIN_PROMPTS, MIN_SEEDS = 30, 5
"""Fewer are marked on the board."""
FEWEST_CLUSTERS = 6
"""Below it not even unanimous prompts reach 5 %, two-sided: the sign test gives 2 * 0.5^5 = 0.06."""


@lru_cache(maxsize=8)
def resample_counts(n_prompts: int, resamples: int = 10_000, seed: int = 0) -> NDArray[np.uint16]:
    """Return how often each prompt is drawn in each resample, (R, P): multinomial, every row sums to P.

    Depends on nothing but its arguments, so all systems, seeds and models share it (Efron 1979; cluster bootstrap:
    Field & Welsh 2007). Made once; not to be written to.
    """
    rng = np.random.default_rng(seed)
    counts = np.empty((resamples, n_prompts), np.uint16)
    for start in range(0, resamples, CHUNK):
        rows = min(CHUNK, resamples - start)
        drawn = rng.integers(0, n_prompts, size=(rows, n_prompts)) + np.arange(rows)[:, None] * n_prompts
        counts[start : start + rows] = np.bincount(drawn.ravel(), minlength=rows * n_prompts).reshape(rows, n_prompts)
    counts.setflags(write=False)
    return counts


def cluster_sums(prompt: NDArray[np.int64], values: Floats, n_prompts: int) -> tuple[Floats, Floats]:
    """Return per prompt the sum and the number of the finite `values`, (P,) each, or (K, P) for `values` (K, n).

    `prompt` (n,) indexes the prompts.
    """
    shape = (*values.shape[:-1], n_prompts)
    finite, cells = np.isfinite(values), int(np.prod(shape))
    place = (prompt + n_prompts * np.arange(cells // max(n_prompts, 1))[:, None]).reshape(values.shape)[finite]
    sums = np.bincount(place, weights=values[finite], minlength=cells).astype(np.float64)
    return sums.reshape(shape), np.bincount(place, minlength=cells).astype(np.float64).reshape(shape)


def numbered(names: NDArray[np.object_]) -> tuple[list[str], NDArray[np.int64]]:
    """Return the distinct names, sorted, and the place of each of `names` among them, (n,)."""
    texts = [str(name) for name in names.tolist()]
    distinct = sorted(set(texts))
    places = {name: place for place, name in enumerate(distinct)}
    return distinct, np.fromiter((places[text] for text in texts), dtype=np.int64, count=len(texts))


def means(sums: Floats, sizes: Floats) -> Floats:
    """Return the mean example of each column, (K,), from cluster sums and sizes (K, P); NaN where there is none."""
    return _ratio(sums.sum(-1), sizes.sum(-1))


def resampled_means(counts: NDArray[np.uint16], sums: Floats, sizes: Floats) -> Floats:
    """Return the mean of each column in each resample, (R, K), as a ratio of sums. `sums`, `sizes`: (K, P).

    The resamples of a column lie side by side in memory: intervals sort them.
    """
    places: dict[bytes, int] = {}
    which = [places.setdefault(row.tobytes(), len(places)) for row in sizes]
    distinct = [which.index(place) for place in range(len(places))]
    result = np.empty((len(sums), len(counts)))
    for start in range(0, len(counts), CHUNK):
        drawn = counts[start : start + CHUNK].astype(np.float64).T
        above, below = sums @ drawn, sizes[distinct] @ drawn
        below[below == 0] = np.nan
        for each, place, means in zip(above, which, result[:, start : start + CHUNK], strict=True):
            np.divide(each, below[place], out=means)
    return result.T


def means_left_out(sums: Floats, sizes: Floats) -> Floats:
    """Return the mean without each prompt, (K, P), of `sums` and `sizes` (K, P); NaN where nothing is left."""
    return _ratio(sums.sum(-1, keepdims=True) - sums, sizes.sum(-1, keepdims=True) - sizes)


def acceleration(left_out: Floats) -> Floats:
    """Return BCa's acceleration, (K,), from the jackknife `left_out`, (K, P) (Efron 1987, eq. 6.6)."""
    away = left_out.mean(-1, keepdims=True) - left_out
    return _ratio((away**3).sum(-1), 6 * (away**2).sum(-1) ** 1.5)


def one_seed_interval(
    resampled: Floats, estimate: Floats, left_out: Floats, level: float = 0.95
) -> tuple[Floats, Floats]:
    """Return (low, high), (K,) each, as boards and gates have them for one seed: BCa with expanded tails.

    `resampled` (R, K), `left_out` (K, P). A column without spread has nothing to correct: percentiles.
    """
    n_prompts = left_out.shape[1]
    low, high = interval(resampled, estimate, level, "bca", acceleration(left_out), n_prompts)
    bare = ~np.isfinite([low, high]).all(0)
    if bare.any():
        low[bare], high[bare] = interval(resampled.T[bare].T, estimate[bare], level, n_prompts=n_prompts)
    return low, high


def interval(
    resampled: Floats,
    estimate: Floats,
    level: float = 0.95,
    method: Literal["percentile", "bca"] = "percentile",
    accelerations: Floats | None = None,
    n_prompts: int | None = None,
) -> tuple[Floats, Floats]:
    """Return (low, high), (K,) each, of the resampled estimates (R, K). For one seed.

    `bca` (Efron 1987) needs `accelerations` (K,); a column without spread has no bias to correct: its interval is NaN.
    `n_prompts` widens the interval as Student's t and the factor P / (P - 1) would (expanded percentiles, Hesterberg
    2015, sec. 5.3). Simulated with 50 prompts, an accuracy of 0.9: percentiles cover 92-93 %, expanded BCa 94 %.
    """
    from scipy.special import ndtr, ndtri, stdtrit

    tails = np.array([(1 - level) / 2, (1 + level) / 2])
    if n_prompts is not None and n_prompts > 1:
        tails = ndtr(np.sqrt(n_prompts / (n_prompts - 1)) * stdtrit(float(n_prompts - 1), tails))
    ordered = np.sort(resampled.T, axis=1)  # (K, R), NaN last
    if method == "percentile":
        low, high = _quantiles(ordered, np.broadcast_to(tails[:, None], (2, len(ordered))))
        holes = np.isnan(ordered[:, -1]) & np.isfinite(estimate)
        if holes.any():  # resamples without a single example of the metric
            low[holes], high[holes] = np.nanquantile(resampled[:, holes], tails, axis=0)
        return low, high
    assert accelerations is not None, "BCa needs the accelerations"
    fewer, more = (  # resamples that tie with the estimate are not parted by rounding, which depends on the chip
        np.count_nonzero(ordered < estimate[:, None] + slack, axis=1) for slack in (-TIE, TIE)
    )
    bias = ndtri((fewer + more) / (2 * len(resampled)))
    shifted = bias + ndtri(tails)[:, None]
    with np.errstate(invalid="ignore"):
        levels = ndtr(bias + shifted / (1 - accelerations * shifted))
    low, high = _quantiles(ordered, np.where(np.isfinite(levels).all(0), levels, np.nan))
    return low, high


def _quantiles(ordered: Floats, levels: Floats) -> Floats:
    """Return the quantiles of each row of `ordered`, (K, R) ascending, at its `levels` (L, K): (L, K).

    Interpolated linearly, as by `np.quantile`; NaN for a level that is NaN and for a row that has one.
    """
    last = ordered.shape[1] - 1
    place = np.nan_to_num(levels) * last
    before = np.floor(place).astype(np.int64)
    row, share = np.arange(len(ordered)), place - before
    first, second = ordered[row, before], ordered[row, np.minimum(before + 1, last)]
    apart = second - first
    found = np.where(share >= 0.5, second - apart * (1 - share), first + apart * share)
    return np.where(np.isnan(levels) | np.isnan(ordered[:, -1]), np.nan, found)


def standard_errors(per_seed: Floats, prompt_variance: Floats, n_prompts: int, pool: int = 1) -> tuple[Floats, Floats]:
    """Return the standard error of a mean over seeds and its Satterthwaite degrees of freedom, (K,) each.

    `per_seed` (S, K): the estimate of each seed; `prompt_variance` (K,): the variance of their mean over resampled
    prompts, here freed of the bootstrap's factor (P - 1) / P. The two sources are added; degrees of freedom combine
    S - 1 and P - 1 (Satterthwaite 1946). What seeds disagree about single prompts is in both sources: taking it out
    once (Cameron, Gelbach & Miller 2011) leaves too little where it dominates (three seeds: 95 % intervals that cover
    90 %, simulated), so it stays and errs on the wide side. One seed has no between-seed variance.
    `pool` > 1: the K columns are comparisons whose seeds vary alike; the between-seed variance of each is its own or
    their average, whichever is larger, with pool * (S - 1) degrees of freedom.
    """
    seeds, clusters = len(per_seed), max(n_prompts - 1, 1)
    prompts = prompt_variance * n_prompts / clusters
    if seeds == 1:
        return np.sqrt(prompts), np.full(prompts.shape, float(clusters))
    between = per_seed.var(0, ddof=1) / seeds
    if pool > 1:
        between = np.maximum(between, between.mean())
    freedom = _ratio((prompts + between) ** 2, between**2 / (pool * (seeds - 1)) + prompts**2 / clusters)
    return np.sqrt(prompts + between), np.where(np.isfinite(freedom), freedom, float(clusters))


def t_interval(estimate: Floats, error: Floats, freedom: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """Return (low, high), (K,) each: estimate -+ the Student quantile times the standard error. For several seeds."""
    from scipy.special import stdtrit

    half = stdtrit(freedom, (1 + level) / 2) * error
    return estimate - half, estimate + half


def step_down(differences: Floats, deviations: Floats, errors: Floats, freedom: Floats) -> Floats:
    """Return the p-value of each of D two-sided comparisons, (D,), adjusted for all of them.

    Step-down max-|t| (Romano & Wolf 2005, algorithm 4.1; p-values as in Romano & Wolf 2016): the family-wise error is
    held under any dependence of the comparisons, which the resamples carry. `differences`, `errors`, `freedom`: (D,);
    `deviations` (R, D): resampled minus estimated difference. Each statistic is first brought from Student's t with its
    own degrees of freedom to the normal scale, so that comparisons with few seeds are not read too boldly.
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
class Comparison:
    """Every pair of K systems compared, higher values being better."""

    better: NDArray[np.bool_]
    """(K, K): system i is significantly better than system j."""
    p: Floats
    """(K, K): adjusted p-values, 1 on the diagonal."""
    detectable: float
    """The difference that the median comparison would have found with 80 % power, 5 % two-sided; NaN for one system."""


def compare(
    per_seed: Floats, resampled: Floats, n_prompts: int, seed: int = 0, alpha: float = 0.05, power: float = 0.8
) -> Comparison:
    """Compare all pairs of systems. `per_seed` (S, K): estimates; `resampled` (R, K): their mean, prompts resampled.

    With several seeds the null distribution adds to each resample's deviation a normal draw a system, scaled to what
    seeds add to the variance of the comparison: S values are too few to resample, and their own covariance has rank
    S - 1 only, which makes the largest of many statistics look smaller than it is. The between-seed variance is pooled
    over the comparisons from below: by chance some of many are tiny among few seeds, and each would be a false find
    (six equal systems, three seeds that matter: 29 % of boards with a false find unpooled, 3-4 % pooled, simulated).
    """
    from scipy.special import stdtrit

    systems, seeds = per_seed.shape[1], len(per_seed)
    first, second = np.triu_indices(systems, 1)
    p, wins = np.ones((systems, systems)), np.zeros((systems, systems), bool)
    if not len(first):
        return Comparison(better=wins, p=p, detectable=float("nan"))
    estimate = per_seed.mean(0)
    deviations = _differences((resampled - estimate).T, first, second)
    variance = np.array([each.var() for each in deviations.T])
    errors, freedom = standard_errors(per_seed[:, first] - per_seed[:, second], variance, n_prompts, systems - 1)
    deviations *= np.sqrt(n_prompts / max(n_prompts - 1, 1))
    if seeds > 1:
        draws = np.random.default_rng(seed).standard_normal(resampled.shape)
        added = np.maximum(errors**2 - variance * n_prompts / max(n_prompts - 1, 1), 0.0)
        deviations += _differences(draws.T, first, second) * np.sqrt(added / 2)
    adjusted = step_down(estimate[first] - estimate[second], deviations, errors, freedom)
    p[first, second] = p[second, first] = adjusted
    if n_prompts >= FEWEST_CLUSTERS:
        wins = (p <= alpha) & (estimate[:, None] > estimate[None, :])
    seen = (stdtrit(freedom, 1 - alpha / 2) + stdtrit(freedom, power)) * errors
    seen = seen[seen > TIE]
    return Comparison(better=wins, p=p, detectable=float(np.median(seen)) if len(seen) else float("nan"))


def _differences(values: Floats, first: NDArray[np.int64], second: NDArray[np.int64]) -> Floats:
    """Return rows `first` minus rows `second` of `values` (K, R), (R, D); a column lies side by side in memory."""
    rows, found = np.ascontiguousarray(values), np.empty((len(first), values.shape[1]))
    for a, b, difference in zip(first, second, found, strict=True):  # row by row: no copies of that size
        np.subtract(rows[a], rows[b], out=difference)
    return found.T


def rank_ranges(better: NDArray[np.bool_]) -> tuple[list[int], list[int]]:
    """Return (low, high) a system: 1 + systems significantly better, K - systems significantly worse.

    With the family-wise error of `better` held, all K ranges hold the true ranks together (Mogstad, Romano, Shaikh &
    Wilhelm 2024).
    """
    return [int(n) + 1 for n in better.sum(0)], [len(better) - int(n) for n in better.sum(1)]


def p_best(per_seed: Floats, resampled: Floats, n_prompts: int, seed: int = 0) -> Floats:
    """Return how often each of K systems has the highest value over the resamples, (K,); they sum to 1.

    Ties share a resample. Under a flat prior this is about the probability of being the best of these systems (Salanti,
    Ades & Ioannidis 2011, for treatments; Efron & Tibshirani 1998 on what a bootstrap probability is): no p-value, and
    no multiplicity is held. `per_seed` (S, K), `resampled` (R, K) as in `compare`; with several seeds each resample
    adds a normal draw a system, scaled to what seeds add once the part that all systems share is taken out. NaN with
    one prompt, which has no spread.
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
    drawn = drawn[np.isfinite(drawn).all(1)]
    if not len(drawn):
        return np.full(systems, np.nan)
    top = drawn >= drawn.max(1, keepdims=True) - TIE
    return np.asarray((top / top.sum(1, keepdims=True)).mean(0))


def tiers(order: list[int], better: NDArray[np.bool_]) -> dict[int, int]:
    """Return the tier of each system, from 1, going down `order`; one that a tier's first row beats opens the next."""
    tier: dict[int, int] = {}
    number, first = 0, -1
    for system in order:
        if not number or better[first, system]:
            number, first = number + 1, system
        tier[system] = number
    return tier


def _ratio(above: Floats, below: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(below == 0, np.nan, above / below)
