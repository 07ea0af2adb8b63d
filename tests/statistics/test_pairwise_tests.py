"""Tests of all pairs of systems, ranks and tiers against simulation, scipy and hand counts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.statistics.intervals import resample_counts, resampled_means
from harness.statistics.pairwise_tests import (
    MOST_RESAMPLES,
    PairwiseTests,
    Statistics,
    compare,
    rank_ranges,
    statistics,
    step_down,
    tiers,
    times_reached,
)

RNG = np.random.default_rng


def simulated_board(
    rng: np.random.Generator, means_: np.ndarray, prompts: int, seeds: int, seed_sd: float, resamples: int = 400
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the first arguments of `compare` for K systems that share prompts, with true values `means_`."""
    systems = len(means_)
    common = rng.normal(size=prompts) * 0.4
    values_SKP = (
        means_[:, None]
        + common
        + 0.3 * rng.normal(size=(systems, prompts))
        + seed_sd * rng.normal(size=(seeds, systems, 1))
        + 0.1 * rng.normal(size=(seeds, systems, prompts))
    )
    sizes = np.ones((systems, prompts))
    drawn = resampled_means(resample_counts(prompts, resamples), values_SKP.mean(0), sizes)
    return values_SKP.mean(2), values_SKP.mean(0), sizes, drawn


@pytest.mark.parametrize(("seeds", "seed_sd"), [(1, 0.0), (3, 0.0), (3, 0.15)])
def test_equal_systems_are_told_apart_on_few_boards(seeds: int, seed_sd: float) -> None:
    rng, boards = RNG(6), 150
    false = sum(compare(*simulated_board(rng, np.zeros(6), 50, seeds, seed_sd)).better.any() for _ in range(boards))
    assert false / boards <= 0.10  # 5 % and three standard errors of 150 boards
    naive = 0
    for _ in range(boards):
        per_seed, _, _, drawn = simulated_board(rng, np.zeros(6), 50, seeds, seed_sd)
        best, worst = per_seed.mean(0).argmax(), per_seed.mean(0).argmin()
        naive += np.quantile(drawn[:, best] - drawn[:, worst], 0.025) > 0
    assert naive / boards > 0.2  # what unadjusted intervals would have called the best


def test_systems_that_differ_are_told_apart_and_ranges_hold_the_true_ranks() -> None:
    rng, truth = RNG(7), np.array([0.6, 0.3, 0.3, 0.0])
    held = told = 0
    for _ in range(100):
        result = compare(*simulated_board(rng, truth, 80, 1, 0.0))
        low, high = rank_ranges(result.better)
        held += low[0] == 1 and low[1] <= 3 and high[1] >= 2 and low[2] <= 3 and high[2] >= 2 and high[3] == 4
        told += bool(result.better[0, 3] and result.better[0, 1] and result.better[1, 3])
    assert held >= 92
    assert told >= 95


def test_stepping_down_is_bolder_than_one_bar_for_all() -> None:
    """Three systems with independent deviations; the statistics are given, so that the resamples count them alone."""
    drawn = RNG(8).normal(size=(3, 4000))
    pairs = np.array([[0, 0, 1], [1, 2, 2]])
    of = Statistics(
        first=pairs[0], second=pairs[1], z=np.array([9.0, 2.15, 0.1]), errors=np.full(3, np.sqrt(2)),
        freedom=np.full(3, 1e9), added=np.zeros(3),
    )  # fmt: skip
    reached, largest = times_reached(of, drawn)
    p = step_down(of.z, reached, 4000)
    size = np.abs(drawn[pairs[0]] - drawn[pairs[1]]) / np.sqrt(2)
    assert largest == pytest.approx(size.max(0))
    assert p[0] == pytest.approx(1 / 4001)
    assert p[1] < (size.max(0) >= 2.15).mean()
    assert p[1] == pytest.approx((1 + (size[1:].max(0) >= 2.15).sum()) / 4001)
    assert p[2] >= p[1]


def unlike(apart: np.ndarray) -> PairwiseTests:
    """Return the tests of two systems whose values differ by `apart`, (P,)."""
    values = np.array([apart, np.zeros(len(apart))]) + RNG(9).normal(size=len(apart))
    sizes = np.ones_like(values)
    drawn = resampled_means(resample_counts(len(apart), 500), values, sizes)
    return compare(values.mean(1)[None], values, sizes, drawn)


def test_equal_values_differ_in_nothing_and_few_prompts_prove_nothing() -> None:
    same = unlike(np.zeros(40))
    assert same.p[0, 1] == 1
    assert not same.better.any()
    assert unlike(np.ones(40)).better[0, 1]  # every prompt agrees: no spread at all
    few = unlike(np.ones(5))
    assert not few.better.any()
    assert not few.borderline.any()
    alone = compare(np.array([[0.5]]), np.ones((1, 40)), np.ones((1, 40)), np.full((500, 1), 0.5))
    assert np.isnan([alone.detectable, alone.detectable_planned, alone.level]).all()


def test_errors_are_those_of_the_bootstrap_without_its_luck() -> None:
    """Clusters of unequal sizes, and systems that lack some examples."""
    rng = RNG(13)
    sizes = rng.integers(1, 6, size=(4, 300)).astype(float)
    sums = sizes * (0.6 + 0.2 * rng.normal(size=300)) + np.sqrt(sizes) * 0.3 * rng.normal(size=(4, 300))
    estimate = (sums.sum(1) / sizes.sum(1))[None]
    of = statistics(estimate, sums, sizes)
    drawn = resampled_means(resample_counts(300, 20_000), sums, sizes)
    apart = drawn[:, of.first] - drawn[:, of.second]
    assert of.errors == pytest.approx(apart.std(0) * np.sqrt(300 / 299), rel=0.03)
    assert of.freedom.tolist() == [299.0] * 6
    assert of.added == pytest.approx(0, abs=1e-15)


def close_call(percent: float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the first arguments of `compare` for two systems whose p-value is about so many percent."""
    values = np.zeros((2, 200))
    values[0] = RNG(14).normal(size=200)
    values[0] -= values[0].mean()
    values[0] += scipy_stats.norm.isf(percent / 200) * values[0].std(ddof=1) / np.sqrt(200)
    sizes = np.ones((2, 200))
    return values.mean(1)[None], values, sizes, resampled_means(resample_counts(200, 1000), values, sizes)


def test_a_close_decision_draws_more_resamples_until_it_is_clear() -> None:
    """1,000 resamples leave 4.4 % open (three standard errors are 2 points), 20,000 or so do not."""
    found = compare(*close_call(4.4))
    assert found.better[0, 1]
    assert not found.borderline.any()
    assert found.p[0, 1] == pytest.approx(0.044, abs=0.004)
    clear = compare(*close_call(0.1))
    assert clear.p[0, 1] * 1001 == pytest.approx(round(clear.p[0, 1] * 1001))  # (1 + reached) / (1 + R)


def test_what_stays_too_close_to_call_is_borderline_and_not_significant() -> None:
    values = close_call(5.0)
    exact = compare(*values).p[0, 1]
    found = compare(*values, alpha=float(exact))
    assert found.borderline.tolist() == [[False, True], [True, False]]
    assert not found.better.any()
    assert found.p[0, 1] == exact
    assert exact * (1 + MOST_RESAMPLES) == pytest.approx(round(exact * (1 + MOST_RESAMPLES)), abs=1e-6)


def test_the_detectable_difference_is_detected_four_times_in_five() -> None:
    rng, found = RNG(10), 0
    size = compare(*simulated_board(rng, np.zeros(2), 60, 1, 0.0, 2000)).detectable_planned
    assert size == pytest.approx(2.85 * np.sqrt(2 * (0.3**2 + 0.1**2) / 60), rel=0.25)
    size = 2.85 * np.sqrt(2 * (0.3**2 + 0.1**2) / 60)
    for _ in range(200):
        found += int(compare(*simulated_board(rng, np.array([size, 0.0]), 60, 1, 0.0)).better[0, 1])
    assert 0.70 <= found / 200 <= 0.90


def test_ranks_and_tiers_by_hand() -> None:
    better = np.zeros((4, 4), bool)
    better[0, 2] = better[0, 3] = better[1, 3] = True
    assert rank_ranges(better) == ([1, 1, 2, 3], [2, 3, 4, 4])
    # 1 is not worse than 0; 2 is, and opens a tier; 3 is not worse than 2, the first of that tier
    assert tiers([0, 1, 2, 3], better) == {0: 1, 1: 1, 2: 2, 3: 2}
    assert tiers([], better) == {}
