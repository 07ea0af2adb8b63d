"""Intervals against scipy, hand counts and simulation."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.statistics.intervals import (
    acceleration,
    cluster_sums,
    interval,
    means,
    means_left_out,
    resample_counts,
    resampled_means,
    standard_errors,
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


def test_satterthwaites_degrees_of_freedom_lie_between_seeds_and_prompts() -> None:
    per_seed = np.array([[0.5, 0.50], [0.6, 0.50], [0.7, 0.50]])
    error, freedom = standard_errors(per_seed, np.array([1e-12, 0.01]), 51)
    assert error == pytest.approx([0.1 / np.sqrt(3), np.sqrt(0.01 * 51 / 50)], rel=1e-6)
    assert freedom == pytest.approx([2, 50], rel=1e-6)
    one, freedom_of_one = standard_errors(per_seed[:1], np.array([0.01, 0.01]), 51)
    assert one == pytest.approx(np.sqrt([0.0102, 0.0102]))
    assert freedom_of_one.tolist() == [50, 50]


def test_expanded_percentiles_are_as_wide_as_students_t() -> None:
    drawn = RNG(13).normal(size=(200_000, 1)) * np.sqrt(19 / 20)  # a bootstrap over 20 prompts: factor (P - 1) / P
    low, high = interval(drawn, np.zeros(1), n_prompts=20)
    assert [low[0], high[0]] == pytest.approx(scipy_stats.t.ppf([0.025, 0.975], 19), abs=0.03)
