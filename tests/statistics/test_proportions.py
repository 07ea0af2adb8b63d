"""Intervals of shares and of their differences: scipy's exact interval, Tango's published ones, properties."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats as scipy_stats

from harness.statistics.proportions import (
    difference_interval,
    effective_examples,
    few_errors,
    proportion_interval,
    tango_high,
)

RNG = np.random.default_rng


def singles(*counts: tuple[int, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return sums and sizes (1, P) of prompts with one pair each: so many of each value."""
    values = np.concatenate([np.full(count, value) for count, value in counts])[None]
    return values, np.ones_like(values)


@pytest.mark.parametrize("right", [0, 1, 7, 25, 49, 50])
@pytest.mark.parametrize("level", [0.95, 0.8])
def test_with_one_pair_per_prompt_a_share_has_scipys_exact_interval(right: int, level: float) -> None:
    low, high = proportion_interval(*singles((right, 1.0), (50 - right, 0.0)), level)
    theirs = scipy_stats.binomtest(right, 50).proportion_ci(level, method="exact")
    assert (low[0], high[0]) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


@pytest.mark.parametrize(
    ("up", "down", "pairs", "low", "high"),
    [
        (1, 7, 21, -0.517, -0.026),  # Fagerland, Lydersen & Laake 2014, airway hyper-responsiveness (Bentur 2009)
        (0, 1, 44, -0.118, 0.059),  # Tango 1998, the contact lenses of Miyanaga (1994)
        (0, 0, 100, -0.03699, 0.03699),  # nothing differs: z^2 / (n + z^2), 3.8415 / 103.8415
    ],
)
def test_with_one_pair_per_prompt_a_difference_has_tangos_published_interval(
    up: int, down: int, pairs: int, low: float, high: float
) -> None:
    got = difference_interval(*singles((up, 1.0), (down, -1.0), (pairs - up - down, 0.0)))
    assert (got[0][0], got[1][0]) == pytest.approx((low, high), abs=6e-4)


@pytest.mark.parametrize(("b", "c", "n"), [(12, 2, 50), (40, 20, 160), (3, 3, 40), (1, 0, 30), (20, 0, 20)])
def test_tangos_ends_are_roots_of_the_quartic_of_yang_sun_and_hardin(b: int, c: int, n: int) -> None:
    """Yang, Sun & Hardin (2013), Statistics in Medicine 32: the interval without iteration."""
    g, d, s = scipy_stats.norm.ppf(0.975) ** 2, b - c, b + c
    quartic = [
        n**2 * (n / g + 1) ** 2,
        -n * d * (n / g + 1) * (4 * n / g + 1),
        2 * n * d**2 * (3 * n / g + 2) / g - n**2 * (s / g + 1),
        n * d * (2 * s / g + 1) - d**3 * (4 * n / g + 1) / g,
        d**2 * (d**2 / g - s) / g,
    ]
    roots = np.roots(quartic)
    ends = [end[0] for end in difference_interval(*singles((b, 1.0), (c, -1.0), (n - b - c, 0.0)))]
    for end in ends:
        assert np.abs(roots - end).min() < 1e-6 or abs(end) == pytest.approx(1)


def test_a_prompt_of_copies_counts_once_and_single_wrong_pairs_count_each() -> None:
    right = np.where(np.arange(60) < 40, 1.0, 0.0)[None]
    for copies in (1, 5):
        assert effective_examples(copies * right, np.full((1, 60), float(copies)))[0] == pytest.approx(60)
    wrong = np.r_[np.full(12, 19.0), np.full(588, 20.0)][None]  # 12 of 12,000 pairs, each of another prompt
    assert effective_examples(wrong, np.full((1, 600), 20.0))[0] == pytest.approx(12_000, rel=0.03)
    all_right = np.full((1, 60), 20.0)
    assert effective_examples(all_right, all_right)[0] == pytest.approx(60)


def test_the_number_of_effective_examples_counted_by_hand() -> None:
    """Four prompts of two pairs, 2, 2, 1 and 0 right: share 5/8, deviations 0.75, 0.75, -0.25, -1.25.

    Design effect 2.75 / (8 * 15/64) = 1.46667; its terms less what is expected: 0.15, 0.15, -0.71667, 0.41667, so the
    standard error is 0.85570 / 1.875 = 0.45637. Two prompts have a wrong pair: a fifth of what is missing to 2.
    """
    design = 2.75 / 1.875 + 0.45637
    got = effective_examples(np.array([[2.0, 2.0, 1.0, 0.0]]), np.full((1, 4), 2.0))
    assert got[0] == pytest.approx(8 / (design + 0.2 * (2 - design)), rel=1e-5)


def test_the_fewer_prompts_tell_the_more_each_prompt_counts_once() -> None:
    sizes = np.full((6, 50), 20.0)
    sums = sizes.copy()
    for wrong in range(6):
        sums[wrong, :wrong] -= 1
    worth = effective_examples(sums, sizes)
    assert worth[:2] == pytest.approx(50)
    assert (np.diff(worth[1:]) > 0).all()
    assert worth[5] > 900  # of 1000 pairs
    high = difference_interval(sizes - sums, sizes)[1]
    assert high[1] > high[3]  # one discordant prompt leaves more open than three with one pair each


def test_pairs_that_all_move_by_half_are_twice_as_many_of_which_half_move() -> None:
    got = difference_interval(*singles((30, 0.5)))
    up, down, pairs = np.array([0.5]), np.array([0.0]), np.array([60.0])
    assert got[0][0] == pytest.approx(-tango_high(down, up, pairs, 1.959964)[0], abs=1e-6)
    assert got[1][0] == pytest.approx(tango_high(up, down, pairs, 1.959964)[0], abs=1e-6)


def test_few_errors_are_fewer_than_ten_prompts_with_a_wrong_or_a_right_pair() -> None:
    sizes = np.full((4, 30), 2.0)
    sums = sizes.copy()
    sums[0, :9] = 0
    sums[1, :10] = 1.5  # a tie is half wrong
    sums[2, :21] = 0
    sums[3, :20] = 0
    assert few_errors(sums, sizes).tolist() == [True, False, True, False]


def test_a_column_without_examples_has_no_interval() -> None:
    sums, sizes = np.array([[0.0, 0.0], [1.0, 0.0]]), np.array([[0.0, 0.0], [2.0, 2.0]])
    for interval in (proportion_interval, difference_interval):
        low, high = interval(sums, sizes)
        assert np.isnan([low[0], high[0]]).all()
        assert np.isfinite([low[1], high[1]]).all()


halves = arrays.arrays(np.int64, st.integers(2, 40), elements=st.integers(0, 4))


@settings(max_examples=200, deadline=None)
@given(halves, st.integers(0, 2**31))
def test_no_interval_is_without_width_and_each_holds_its_estimate(twice: np.ndarray, seed: int) -> None:
    """Two pairs per prompt or more, ties among them; differences to others of the same prompts."""
    sizes = np.maximum(2.0, RNG(seed).integers(1, 6, len(twice)))[None]
    sums, others = twice[None] / 2, RNG(seed).integers(0, 5, len(twice))[None] / 2
    for interval, values, least in ((proportion_interval, sums, 0), (difference_interval, sums - others, -1)):
        low, high = interval(values, sizes)
        value = values.sum() / sizes.sum()
        assert least <= low[0] <= value + 1e-9
        assert value - 1e-9 <= high[0] <= 1
        assert high[0] - low[0] > 1e-3


@settings(max_examples=200, deadline=None)
@given(halves, st.integers(0, 2**31))
def test_right_and_wrong_mirror_each_other_and_so_do_two_sides(twice: np.ndarray, seed: int) -> None:
    sizes = np.full((1, len(twice)), 2.0)
    sums = twice[None] / 2
    low, high = proportion_interval(sums, sizes)
    assert proportion_interval(sizes - sums, sizes) == (pytest.approx(1 - high), pytest.approx(1 - low))
    apart = sums - RNG(seed).integers(0, 5, len(twice))[None] / 2
    low, high = difference_interval(apart, sizes)
    assert difference_interval(-apart, sizes) == (pytest.approx(-high), pytest.approx(-low))


@settings(max_examples=100, deadline=None)
@given(st.floats(0, 0.5), st.floats(0, 0.5), st.floats(5, 1e4), st.floats(0, 0.4))
def test_tangos_upper_end_rises_with_what_is_found_and_falls_with_more_pairs(
    up: float, down: float, pairs: float, more: float
) -> None:
    def high(up: float, pairs: float, quantile: float = 1.96) -> float:
        return float(tango_high(np.array([up]), np.array([down]), np.array([pairs]), quantile)[0])

    assert up - down <= high(up, pairs) <= 1
    assert high(min(up + more, 1 - down), pairs) >= high(up, pairs) - 1e-9
    assert high(up, 2 * pairs) <= high(up, pairs) + 1e-9
    assert high(up, pairs, 2.5) >= high(up, pairs) - 1e-9
