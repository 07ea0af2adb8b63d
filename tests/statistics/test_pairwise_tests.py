"""Tests of all pairs of systems, ranks and tiers against simulation, scipy and hand counts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.statistics.intervals import resample_counts, resampled_means
from harness.statistics.pairwise_tests import compare, p_best, rank_ranges, step_down, tiers

RNG = np.random.default_rng


def simulated_board(
    rng: np.random.Generator, means_: np.ndarray, prompts: int, seeds: int, seed_sd: float, resamples: int = 400
) -> tuple[np.ndarray, np.ndarray]:
    """Return (per_seed (S, K), resampled (R, K)) of K systems that share prompts, with true values `means_`."""
    systems = len(means_)
    common = rng.normal(size=prompts) * 0.4
    values_SKP = (
        means_[:, None]
        + common
        + 0.3 * rng.normal(size=(systems, prompts))
        + seed_sd * rng.normal(size=(seeds, systems, 1))
        + 0.1 * rng.normal(size=(seeds, systems, prompts))
    )
    drawn = resampled_means(resample_counts(prompts, resamples), values_SKP.mean(0), np.ones((systems, prompts)))
    return values_SKP.mean(2), drawn


@pytest.mark.parametrize(("seeds", "seed_sd"), [(1, 0.0), (3, 0.0), (3, 0.15)])
def test_equal_systems_are_told_apart_on_few_boards(seeds: int, seed_sd: float) -> None:
    rng, boards = RNG(6), 150
    false = sum(
        compare(*simulated_board(rng, np.zeros(6), 50, seeds, seed_sd), n_prompts=50).better.any()
        for _ in range(boards)
    )
    assert false / boards <= 0.10  # 5 % and three standard errors of 150 boards
    naive = 0
    for _ in range(boards):
        per_seed, drawn = simulated_board(rng, np.zeros(6), 50, seeds, seed_sd)
        best, worst = per_seed.mean(0).argmax(), per_seed.mean(0).argmin()
        naive += np.quantile(drawn[:, best] - drawn[:, worst], 0.025) > 0
    assert naive / boards > 0.2  # what unadjusted intervals would have called the best


def test_systems_that_differ_are_told_apart_and_ranges_hold_the_true_ranks() -> None:
    rng, truth = RNG(7), np.array([0.6, 0.3, 0.3, 0.0])
    held = told = 0
    for _ in range(100):
        result = compare(*simulated_board(rng, truth, 80, 1, 0.0), n_prompts=80)
        low, high = rank_ranges(result.better)
        held += low[0] == 1 and low[1] <= 3 and high[1] >= 2 and low[2] <= 3 and high[2] >= 2 and high[3] == 4
        told += bool(result.better[0, 3] and result.better[0, 1] and result.better[1, 3])
    assert held >= 92
    assert told >= 95


def test_stepping_down_is_bolder_than_one_bar_for_all() -> None:
    rng = RNG(8)
    null = rng.normal(size=(4000, 3))
    p = step_down(np.array([9.0, 2.15, 0.1]), null, np.ones(3), np.full(3, 1e9))
    assert p[0] == pytest.approx(1 / 4001)
    at_once = (np.abs(null).max(1) >= 2.15).mean()
    assert p[1] < at_once
    assert p[1] == pytest.approx((np.abs(null[:, 1:]).max(1) >= 2.15).mean(), abs=1e-3)
    assert p[2] >= p[1]


def test_equal_values_differ_in_nothing_and_few_prompts_prove_nothing() -> None:
    same = np.repeat(RNG(9).normal(size=(500, 1)) * 0.01 + 0.5, 2, axis=1)
    result = compare(np.array([[0.5, 0.5]]), same, n_prompts=40)
    assert result.p[0, 1] == 1
    assert not result.better.any()
    apart = np.repeat([[1.0, 0.0]], 500, axis=0)  # every prompt agrees: no spread at all
    assert compare(np.array([[1.0, 0.0]]), apart, n_prompts=40).better[0, 1]
    assert not compare(np.array([[1.0, 0.0]]), apart, n_prompts=5).better.any()
    assert np.isnan(compare(np.array([[0.5]]), same[:, :1], n_prompts=40).detectable)


def test_the_detectable_difference_is_detected_four_times_in_five() -> None:
    rng, found = RNG(10), 0
    size = compare(*simulated_board(rng, np.zeros(2), 60, 1, 0.0, 2000), n_prompts=60).detectable
    assert size == pytest.approx(2.85 * np.sqrt(2 * (0.3**2 + 0.1**2) / 60), rel=0.25)
    size = 2.85 * np.sqrt(2 * (0.3**2 + 0.1**2) / 60)
    for _ in range(200):
        found += int(compare(*simulated_board(rng, np.array([size, 0.0]), 60, 1, 0.0), n_prompts=60).better[0, 1])
    assert 0.70 <= found / 200 <= 0.90


def test_the_chance_of_being_best_is_counted_over_resamples_and_ties_share() -> None:
    resampled = np.array([[0.9, 0.5, 0.1], [0.4, 0.6, 0.1], [0.7, 0.7, 0.1], [0.8, 0.6, 0.1]])
    # first alone twice, second alone once, one tie: 2.5, 1.5 and 0 of 4; many prompts leave the deviations as they are
    chance = p_best(resampled.mean(0, keepdims=True), resampled, n_prompts=10**15)
    assert chance == pytest.approx([2.5 / 4, 1.5 / 4, 0.0])
    assert p_best(np.array([[0.5]]), resampled[:, :1], n_prompts=40).tolist() == [1.0]
    assert np.isnan(p_best(np.array([[0.5, 0.6]]), resampled[:, :2], n_prompts=1)).all()


@pytest.mark.parametrize("seeds", [1, 4])
def test_the_chance_of_beating_one_other_is_the_normal_tail_of_the_difference(seeds: int) -> None:
    rng, prompts = RNG(12), 400
    per_seed, drawn = simulated_board(rng, np.zeros(2), prompts, seeds, 0.1, 10_000)
    per_seed, drawn = per_seed - per_seed.mean(0), drawn - drawn.mean(0)
    per_seed[:, 0], drawn[:, 0] = per_seed[:, 0] + 0.03, drawn[:, 0] + 0.03
    difference = per_seed[:, 0] - per_seed[:, 1]
    apart = drawn[:, 0] - drawn[:, 1]
    error = np.sqrt(apart.var() * prompts / (prompts - 1) + (difference.var(ddof=1) / seeds if seeds > 1 else 0))
    assert p_best(per_seed, drawn, prompts)[0] == pytest.approx(
        scipy_stats.norm.cdf(difference.mean() / error), abs=0.02
    )


def test_ranks_and_tiers_by_hand() -> None:
    better = np.zeros((4, 4), bool)
    better[0, 2] = better[0, 3] = better[1, 3] = True
    assert rank_ranges(better) == ([1, 1, 2, 3], [2, 3, 4, 4])
    # 1 is not worse than 0; 2 is, and opens a tier; 3 is not worse than 2, the first of that tier
    assert tiers([0, 1, 2, 3], better) == {0: 1, 1: 1, 2: 2, 3: 2}
    assert tiers([], better) == {}
