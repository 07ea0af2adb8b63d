"""Quality against distance from the start checkpoint: the curve along a run, and what it says at one distance.

Legend of shapes: S training seeds, K systems (losses), F points along a run, P prompts (the clusters), R resamples.

Distance d is sqrt(KL(policy || start)), as in Gao, Schulman & Hilton (2023), arXiv:2210.10760, whose two forms are
fitted: d (alpha - beta d), which they found for best-of-n, and d (alpha - beta log d), which they found for RL. The
start itself has distance 0 and gain 0, and begins every curve. Imports no torch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.statistics.estimate_interval import estimate_interval
from harness.statistics.intervals import Floats, means, means_left_out, resample_counts, resampled_means

DISTANCES = (1.0, 4.0, 16.0)
"""The KL divergences at which losses are compared, nats."""
FORMS = ("d (alpha - beta d)", "d (alpha - beta log d)")


@dataclass(frozen=True, kw_only=True)
class Sums:
    """A quantity at the points along runs: what its examples sum to on each prompt, and how many there are."""

    sums: Floats
    """(S, K, F, P)"""
    sizes: Floats
    """(S, K, F, P)"""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """A form fitted to the points of one loss by least squares."""

    form: str
    alpha: float
    beta: float
    residual: float
    """Standard deviation of what the form leaves, with two degrees of freedom less than points."""
    points: int


@dataclass(frozen=True, kw_only=True)
class AtDistance:
    """The gain of each system at one distance, with the arrays that the tests of all pairs take."""

    per_seed: Floats
    """(S, K); NaN for a system whose data do not reach so far."""
    sums: Floats
    sizes: Floats
    """(K, P) each: pseudo-values whose mean is the gain, and ones."""
    resampled: Floats
    """(R, K)"""
    low: Floats
    high: Floats
    """(K,) each: 95 % interval over prompts and seeds, of distance and gain together."""


def fits(distance_n: Floats, gain_n: Floats) -> tuple[Fit, ...]:
    """Return both forms fitted to the points of a loss, distances above 0; nothing for fewer than three of them."""
    known = np.isfinite(distance_n) & np.isfinite(gain_n) & (distance_n > 0)
    distance, gain = distance_n[known], gain_n[known]
    if len(np.unique(distance)) < 3:
        return ()
    found = []
    for form, bend in zip(FORMS, (distance, np.log(distance)), strict=True):
        design = np.column_stack([distance, -distance * bend])
        (alpha, beta), *_ = np.linalg.lstsq(design, gain, rcond=None)
        left = gain - design @ np.array([alpha, beta])
        sd = float(np.sqrt((left**2).sum() / (len(gain) - 2)))
        found.append(Fit(form=form, alpha=float(alpha), beta=float(beta), residual=sd, points=len(gain)))
    return tuple(found)


def at_distance(kl: Sums, gain: Sums, target: float, resamples: int = 10_000, seed: int = 0) -> AtDistance:
    """Return the gain of each system where its KL is `target` nats, between the two points of its run that enclose it.

    Linear in sqrt(KL), from the start at (0, 0) along the run to the first point that is as far. Each seed has a curve
    of its own; a system has the mean over seeds. Resamples draw prompts, and with them distance and gain. Nothing is
    said beyond the data: a system has no number where the target lies past its farthest point, in the data or in any
    resample of them, for any seed.
    """
    seeds, systems, points, prompts = kl.sums.shape
    counts = resample_counts(prompts, resamples, seed)

    def flat(of: Floats) -> Floats:
        return np.ascontiguousarray(of.reshape(-1, prompts))

    def curve(of: Sums, kind: str) -> Floats:
        sums, sizes = flat(of.sums), flat(of.sizes)
        if kind == "all":
            return means(sums, sizes).reshape(1, seeds, systems, points)
        if kind == "left out":
            return means_left_out(sums, sizes).T.reshape(prompts, seeds, systems, points)
        return resampled_means(counts, sums, sizes).reshape(resamples, seeds, systems, points)

    value, left_out, drawn = (
        interpolated(curve(kl, kind), curve(gain, kind), target) for kind in ("all", "left out", "resampled")
    )
    lost = ~(np.isfinite(value[0]) & np.isfinite(left_out).all(0) & np.isfinite(drawn).all(0)).all(0)  # (K,)
    per_seed = np.where(lost, np.nan, value[0])
    pseudo = prompts * value[0] - (prompts - 1) * left_out  # (P, S, K)
    sums = np.where(lost[:, None], np.nan, np.ascontiguousarray(pseudo.mean(1).T))
    sizes, resampled = np.ones(sums.shape), np.where(lost, np.nan, drawn.mean(1))
    low, high = np.full((2, systems), np.nan)
    kept = ~lost
    if kept.any():
        low[kept], high[kept] = estimate_interval(
            "mean", per_seed[:, kept], sums[kept], sizes[kept], np.ascontiguousarray(resampled[:, kept])
        )
    return AtDistance(per_seed=per_seed, sums=sums, sizes=sizes, resampled=resampled, low=low, high=high)


def interpolated(kl: Floats, gain: Floats, target: float) -> Floats:
    """Return the gain at a KL of `target` nats on curves of F points, (..., F) -> (...); NaN past the farthest one."""
    begin = np.zeros((*kl.shape[:-1], 1))
    distance = np.sqrt(np.maximum(np.concatenate([begin, kl], -1), 0.0))
    height = np.concatenate([begin, gain], -1)
    reached = distance >= np.sqrt(target)
    after = np.where(reached.any(-1), reached.argmax(-1), 1)[..., None]

    def at(of: Floats, place: NDArray[np.int64]) -> Floats:
        return np.asarray(np.take_along_axis(of, place, -1)[..., 0])

    near, far = at(distance, after - 1), at(distance, after)
    share = (np.sqrt(target) - near) / np.where(far > near, far - near, np.nan)
    return np.where(reached.any(-1), at(height, after - 1) * (1 - share) + at(height, after) * share, np.nan)
