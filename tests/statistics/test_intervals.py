"""Intervals and comparisons against scipy, exact re-ranking, hand counts and simulation."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.statistics.intervals import (
    acceleration,
    cluster_sums,
    compare,
    interval,
    means,
    means_left_out,
    p_best,
    rank_ranges,
    resample_counts,
    resampled_means,
    standard_errors,
    step_down,
    t_interval,
    tiers,
)

RNG = np.random.default_rng


def clustered(
    rng: np.random.Generator, prompts: int, most: int = 6, share: float = 0.5
) -> tuple[np.ndarray, np.ndarray]:
    """Return prompt and value of examples, 0 or 1; `share` of the latent variance is the prompt's."""
    sizes = rng.integers(1, most + 1, prompts)
    prompt = np.repeat(np.arange(prompts), sizes)
    latent = np.sqrt(share) * rng.normal(size=prompts)[prompt] + np.sqrt(1 - share) * rng.normal(size=len(prompt))
    return prompt, (latent > -0.4).astype(float)


def test_counts_are_multinomial_seeded_and_the_same_every_time() -> None:
    counts = resample_counts(40, resamples=2500, seed=3)
    assert (counts.sum(1) == 40).all()
    np.testing.assert_array_equal(counts, resample_counts(40, resamples=2500, seed=3))
    assert (counts != resample_counts(40, resamples=2500, seed=4)).any()
    assert counts.mean(0) == pytest.approx(np.ones(40), abs=0.1)
    assert counts.var(0).mean() == pytest.approx(1 - 1 / 40, rel=0.05)


def test_a_resampled_mean_is_the_mean_of_the_examples_drawn() -> None:
    prompt, value = np.array([0, 0, 1, 2, 2, 2]), np.array([1.0, 0.0, np.nan, 1.0, 1.0, 0.0])
    sums, sizes = cluster_sums(prompt, value, 3)
    assert (sums.tolist(), sizes.tolist()) == ([1, 0, 2], [2, 0, 3])
    drawn = resampled_means(np.array([[1, 1, 1], [2, 0, 1], [0, 3, 0]], np.uint16), sums[None], sizes[None])
    np.testing.assert_allclose(drawn[:2, 0], [3 / 5, 4 / 7])
    assert np.isnan(drawn[2, 0])


def test_the_sums_of_several_columns_are_those_of_each() -> None:
    prompt, values = RNG(3).integers(0, 7, 50), RNG(4).normal(size=(2, 3, 50))
    values[0, 1, :20] = np.nan
    sums, sizes = cluster_sums(prompt, values, 7)
    for place in np.ndindex(2, 3):
        one = cluster_sums(prompt, values[place], 7)
        np.testing.assert_array_equal([sums[place], sizes[place]], one)


def test_percentiles_are_numpys_and_resamples_without_an_example_are_left_out() -> None:
    drawn = np.round(RNG(5).normal(size=(999, 4)), 1)
    drawn[:200, 1] = np.nan
    drawn[:, 2] = np.nan
    drawn[:, 3] = 0.5
    low, high = interval(drawn, np.array([0.0, 0.0, np.nan, 0.5]), level=0.9)
    for k, known in ((0, drawn[:, 0]), (1, drawn[200:, 1]), (3, drawn[:, 3])):
        np.testing.assert_allclose([low[k], high[k]], np.quantile(known, [0.05, 0.95]), rtol=1e-15)
    assert np.isnan([low[2], high[2]]).all()


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_intervals_from_the_same_resamples_are_scipys(method: str) -> None:
    prompt, value = clustered(RNG(0), 60)
    sums, sizes = (each[None] for each in cluster_sums(prompt, value, 60))
    drawn = resampled_means(resample_counts(60, 4000), sums, sizes)
    given = interval(drawn, means(sums, sizes), method=method, accelerations=acceleration(means_left_out(sums, sizes)))  # type: ignore[arg-type]  # a literal
    theirs = scipy_stats.bootstrap(
        (sums[0], sizes[0]),
        lambda sums, sizes, axis=-1: sums.sum(axis) / sizes.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=0,
        method=method,
        bootstrap_result=SimpleNamespace(bootstrap_distribution=drawn[:, 0]),
    ).confidence_interval
    assert [float(end[0]) for end in given] == pytest.approx([theirs.low, theirs.high], abs=1e-12)


def test_the_bootstrap_draws_prompts_as_scipys_does() -> None:
    prompt, value = clustered(RNG(1), 60)
    sums, sizes = (each[None] for each in cluster_sums(prompt, value, 60))
    low, high = interval(resampled_means(resample_counts(60), sums, sizes), means(sums, sizes))
    theirs = scipy_stats.bootstrap(
        (sums[0], sizes[0]),
        lambda sums, sizes, axis=-1: sums.sum(axis) / sizes.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=10_000,
        method="percentile",
        rng=RNG(5),
    ).confidence_interval
    assert [low[0], high[0]] == pytest.approx([theirs.low, theirs.high], abs=0.006)


def test_intervals_over_prompts_cover_and_those_over_pairs_do_not() -> None:
    rng, prompts, per = RNG(2), 60, 6
    truth = scipy_stats.norm.cdf(0.4)
    counts, pair_counts = resample_counts(prompts, 1000), resample_counts(prompts * per, 1000)
    covered = np.zeros(2)
    for _ in range(200):
        latent = np.repeat(rng.normal(size=prompts), per) * np.sqrt(0.6) + rng.normal(size=prompts * per) * np.sqrt(0.4)
        value = (latent > -0.4).astype(float)
        for k, (prompt, drawn) in enumerate(
            ((np.repeat(np.arange(prompts), per), counts), (np.arange(360), pair_counts))
        ):
            sums, sizes = (each[None] for each in cluster_sums(prompt, value, prompt.max() + 1))
            low, high = interval(resampled_means(drawn, sums, sizes), means(sums, sizes))
            covered[k] += low[0] <= truth <= high[0]
    assert 0.91 <= covered[0] / 200 <= 0.985
    assert covered[1] / 200 < 0.85


def test_intervals_over_three_seeds_cover_where_a_bootstrap_over_prompts_alone_does_not() -> None:
    rng, prompts, seeds = RNG(3), 60, 3
    counts, covered = resample_counts(prompts, 500), np.zeros(2)
    sizes = np.ones((1, prompts))
    for _ in range(300):
        values = (
            rng.normal(size=prompts) * 0.3
            + rng.normal(size=(seeds, 1)) * 0.04
            + rng.normal(size=(seeds, prompts)) * 0.1
        )
        drawn = resampled_means(counts, values.mean(0, keepdims=True), sizes)
        mean = values.mean(keepdims=True)[0]
        ends = (
            t_interval(mean, *standard_errors(values.mean(1, keepdims=True), drawn.var(0), prompts)),
            interval(drawn, mean),
        )
        covered += [low[0] <= 0 <= high[0] for low, high in ends]
    assert 0.91 <= covered[0] / 300 <= 0.99
    assert covered[1] < covered[0] - 6


def test_satterthwaites_degrees_of_freedom_lie_between_seeds_and_prompts() -> None:
    per_seed = np.array([[0.5, 0.50], [0.6, 0.50], [0.7, 0.50]])
    error, freedom = standard_errors(per_seed, np.array([1e-12, 0.01]), 51)
    assert error == pytest.approx([0.1 / np.sqrt(3), np.sqrt(0.01 * 51 / 50)], rel=1e-6)
    assert freedom == pytest.approx([2, 50], rel=1e-6)
    one, freedom_of_one = standard_errors(per_seed[:1], np.array([0.01, 0.01]), 51)
    assert one == pytest.approx(np.sqrt([0.0102, 0.0102]))
    assert freedom_of_one.tolist() == [50, 50]


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


def test_expanded_percentiles_are_as_wide_as_students_t() -> None:
    drawn = RNG(13).normal(size=(200_000, 1)) * np.sqrt(19 / 20)  # a bootstrap over 20 prompts: factor (P - 1) / P
    low, high = interval(drawn, np.zeros(1), n_prompts=20)
    assert [low[0], high[0]] == pytest.approx(scipy_stats.t.ppf([0.025, 0.975], 19), abs=0.03)


def test_ranks_and_tiers_by_hand() -> None:
    better = np.zeros((4, 4), bool)
    better[0, 2] = better[0, 3] = better[1, 3] = True
    assert rank_ranges(better) == ([1, 1, 2, 3], [2, 3, 4, 4])
    # 1 is not worse than 0; 2 is, and opens a tier; 3 is not worse than 2, the first of that tier
    assert tiers([0, 1, 2, 3], better) == {0: 1, 1: 1, 2: 2, 3: 2}
    assert tiers([], better) == {}
