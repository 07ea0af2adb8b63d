"""Rank correlations and slopes as means of pseudo-values, one per example, so that they can be resampled as means.

Pseudo-value = estimate + influence function. Ranking every resample anew would cost one sort per resample and system;
this costs one sort per system. Imports no torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.statistics.intervals import Floats

FEW = 100
"""If one side has no more different values than this, concordance is counted in a table."""


def spearman_examples(x: Floats, y: Floats) -> Floats:
    """Return pseudo-values (n,) whose mean is Spearman's correlation of `x` and `y` with mid-ranks for ties.

    Estimate + influence function (Croux & Dehon 2010, sec. 3, here with ties): the mean pseudo-value of a resample is
    its correlation to first order. With 40 prompts, or correlations above 0.8, the ends of an interval lie up to 0.4
    standard errors from those of exact re-ranking; with 200 prompts up to 0.2. NaN if one side is constant.
    """
    if not len(x):
        return np.empty(0)
    (rank_x, count_x), (rank_y, count_y) = _dense(x), _dense(y)
    middle_x = (np.cumsum(count_x) - count_x / 2) / len(x) - 0.5
    middle_y = (np.cumsum(count_y) - count_y / 2) / len(y) - 0.5
    b_x, b_y = middle_x[rank_x], middle_y[rank_y]

    def part(rank_a: NDArray[np.int64], b_a: Floats, rank_b: NDArray[np.int64], b_b: Floats) -> Floats:
        return np.asarray(b_a * b_b + (_above(rank_a, b_b) + _above(rank_b, b_a)) / len(x) - 2 * (b_a * b_b).mean())

    return _normalised(
        part(rank_x, b_x, rank_y, b_y), part(rank_x, b_x, rank_x, b_x), part(rank_y, b_y, rank_y, b_y), degree=1
    )


def kendall_examples(x: Floats, y: Floats) -> Floats:
    """Return pseudo-values (n,) whose mean is Kendall's tau-b of `x` and `y`; see `spearman_examples`.

    The projection of the U-statistic (Hoeffding 1948); its two tie corrections are linearised too.
    """
    n = len(x)
    if not n:
        return np.empty(0)
    (rank_x, count_x), (rank_y, count_y) = _dense(x), _dense(y)
    return _normalised(_concordance(rank_x, rank_y) / n, (n - count_x[rank_x]) / n, (n - count_y[rank_y]) / n, degree=2)


def slope_examples(x: Floats, y: Floats) -> Floats:
    """Return pseudo-values (n,) whose mean is the least-squares slope of y / sd(y) on x; NaN if a side is constant."""
    if not len(x) or np.ptp(x) == 0 or np.ptp(y) == 0:
        return np.full(len(x), np.nan)
    d_x, d_y = x - x.mean(), y - y.mean()
    s_xx, s_yy = (d_x**2).mean(), (d_y**2).mean()
    slope = (d_x * d_y).mean() / s_xx
    scaled = slope / np.sqrt(s_yy)
    return np.asarray(
        scaled + d_x * (d_y - slope * d_x) / s_xx / np.sqrt(s_yy) - scaled / 2 * (d_y**2 / s_yy - 1), dtype=np.float64
    )


def _dense(x: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the dense rank of each value, (n,), and how many values have each rank."""
    _, rank, count = np.unique(x, return_inverse=True, return_counts=True)
    return rank.astype(np.int64), count.astype(np.int64)


def _above(rank: NDArray[np.int64], values: Floats) -> Floats:
    """Return, for each example, the sum of `values` over examples of higher rank plus half of that over equal rank."""
    by_rank = np.bincount(rank, weights=values)
    return np.asarray((by_rank.sum() - np.cumsum(by_rank) + by_rank / 2)[rank])


def _normalised(xy: Floats, xx: Floats, yy: Floats, degree: int) -> Floats:
    """Return pseudo-values of T_xy / sqrt(T_xx T_yy), the arguments being (n,) with the T as means.

    `degree` times (argument - its mean) is that T's influence function.
    """
    t_xy, t_xx, t_yy = xy.mean(), xx.mean(), yy.mean()
    if not (t_xx > 1e-12 and t_yy > 1e-12):
        return np.full(len(xy), np.nan)
    value, scale = t_xy / np.sqrt(t_xx * t_yy), np.sqrt(t_xx * t_yy)
    pull = (xy - t_xy) / scale - value / 2 * ((xx - t_xx) / t_xx + (yy - t_yy) / t_yy)
    return np.asarray(value + degree * pull)


def _concordance(rank_x: NDArray[np.int64], rank_y: NDArray[np.int64]) -> Floats:
    """Return, for each example i, the sum over j of sign(x_i - x_j) * sign(y_i - y_j), (n,), in O(n log^2 n).

    If one side has few values, by a table. Otherwise by binary digits of the ranks of x: two ranks differ first at some
    digit. For each digit, examples that agree in all higher digits form a group, and those with a 1 (larger x) are
    compared with those with a 0, by counting smaller and larger y in the sorted order of the group.
    """
    n = len(rank_x)
    few, many = (rank_x, rank_y) if rank_x.max(initial=0) < rank_y.max(initial=0) else (rank_y, rank_x)
    if few.max(initial=0) < FEW:
        return _concordance_of_few(few, many)
    x: NDArray[np.integer] = rank_x.astype(np.uint16) if n < 2**16 else rank_x  # 16-bit integers are sorted by radix
    total, by_y = np.zeros(n), np.argsort(rank_y, kind="stable")
    for digit in range(int(rank_x.max(initial=0)).bit_length()):
        order = by_y[np.argsort(x[by_y] >> (digit + 1), kind="stable")]
        group, y = x[order] >> (digit + 1), rank_y[order]
        larger_x = ((x[order] >> digit) & 1).astype(bool)
        new_group = _after_first(group[1:] != group[:-1], True)
        group_start, group_end = _runs(new_group)
        tie_start, tie_end = _runs(new_group | _after_first(y[1:] != y[:-1], True))
        for others, sign in ((~larger_x, 1), (larger_x, -1)):
            seen = _after_first(np.cumsum(others), 0)
            smaller, larger = seen[tie_start] - seen[group_start], seen[group_end] - seen[tie_end]
            total[order] += np.where(others, 0, sign * (smaller - larger))
    return total


def _concordance_of_few(few: NDArray[np.int64], many: NDArray[np.int64]) -> Floats:
    """Return the same, (n,), by a table with a row for each value of `many` and a column for each value of `few`."""
    rows, columns = int(many.max(initial=0)) + 1, int(few.max(initial=0)) + 1
    table = np.bincount(many * columns + few, minlength=rows * columns).reshape(rows, columns)
    lower = np.cumsum(table, axis=0)  # how many of each column have this row's value of `many` or a smaller one
    signs = 2 * lower - table - lower[-1]  # minus those with a larger one: the sum of this row's signs
    left = np.cumsum(signs, axis=1)
    return np.asarray((2 * left - signs - left[:, -1:])[many, few], dtype=np.float64)


def _after_first(values: NDArray[Any], first: int) -> NDArray[Any]:
    """Return `first` followed by `values`, (n + 1,)."""
    return np.concatenate((np.array([first], dtype=values.dtype), values))


def _runs(starts: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return, for each position, where its run begins and one past where it ends, (n,) each."""
    n, place = len(starts), np.arange(len(starts))
    ends = np.append(starts[1:], True)
    return (
        np.maximum.accumulate(np.where(starts, place, 0)),
        np.minimum.accumulate(np.where(ends, place + 1, n)[::-1])[::-1],
    )
