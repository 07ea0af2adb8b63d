"""The interval of an estimate, of one seed or several: one function for boards, comparisons and gates.

Legend of shapes: P prompts (the clusters), R resamples, K columns (systems or cells), S seeds.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from harness.statistics.intervals import Floats, means_left_out, one_seed_interval
from harness.statistics.proportions import difference_interval, proportion_interval

Kind = Literal["proportion", "difference", "mean", "distance"]
"""What is estimated: a share of right examples, a paired difference of two such shares, any other mean, or a mean of
absolute values, which chance lifts above the truth (ECE)."""
ENOUGH_FOR_DISTANCE = 100
"""With fewer prompts a distance has no interval: at twice too sure a reward, 50 prompts cover 91 %."""


def difference_of(kind: Kind) -> Kind:
    """Return what the difference of two estimates of this kind is; of two distances the bias mostly cancels."""
    return "difference" if kind in ("proportion", "difference") else "mean"


def estimate_interval(
    kind: Kind,
    per_seed: Floats,
    sums: Floats,
    sizes: Floats,
    resampled: Floats,
    extra: tuple[Floats, Floats] | None = None,
    level: float = 0.95,
) -> tuple[Floats, Floats]:
    """Return (low, high), (K,) each, of the means over seeds.

    `per_seed` (S, K); `sums`, `sizes` (K, P): of the examples of each prompt, averaged over seeds; `resampled` (R, K).
    `extra`: a further independent source of variation, its standard deviation and degrees of freedom, (K,) each; a
    standard deviation that is 0 or NaN adds nothing.

    Over prompts alone: see `proportion_interval`, `difference_interval`, and BCa for all other means. Seeds and `extra`
    are put to it as variance estimates are recovered (MOVER; Zou & Donner 2008, Statistics in Medicine 27, 1693-1702):
    low = v - sqrt((v - low over prompts)^2 + (t_S-1 se of seeds)^2 + (t_extra sd)^2), and so for high. Each source
    keeps the quantile of its own degrees of freedom, so the interval covers where either dominates, and is rather wide
    where both matter. Where seeds disagree about single prompts, that disagreement is in both terms. NaN with one
    prompt, which has no spread.
    """
    from scipy.special import stdtrit

    value, upper = per_seed.mean(0), (1 + level) / 2
    if sums.shape[1] < (ENOUGH_FOR_DISTANCE if kind == "distance" else 2) or not len(value):
        return np.full(value.shape, np.nan), np.full(value.shape, np.nan)
    if kind == "proportion":
        low, high = proportion_interval(sums, sizes, level)
    elif kind == "difference":
        low, high = difference_interval(sums, sizes, level)
    else:
        low, high = one_seed_interval(resampled, value, means_left_out(sums, sizes), level)
    square, seeds = np.zeros(value.shape), len(per_seed)
    if seeds > 1:
        square += stdtrit(seeds - 1.0, upper) ** 2 * per_seed.var(0, ddof=1) / seeds
    if extra is not None:
        square += np.nan_to_num((stdtrit(extra[1], upper) * extra[0]) ** 2)
    down, up = (
        np.where(square > 0, np.hypot(reach, np.sqrt(square)), reach)
        for reach in (np.maximum(value - low, 0.0), np.maximum(high - value, 0.0))
    )
    least, most = {"proportion": (0.0, 1.0), "difference": (-1.0, 1.0)}.get(kind, (-np.inf, np.inf))
    return np.maximum(value - down, least), np.minimum(value + up, most)
