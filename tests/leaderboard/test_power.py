"""The formula of `harness power` against known variances and simulated runs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.leaderboard.power import Variances, detectable, influence, needed_prompts, needed_seeds, variances
from harness.statistics.intervals import resample_counts, resampled_means, standard_errors
from harness.statistics.pairwise_tests import compare


def two_losses(
    rng: np.random.Generator, difference: float, prompts: int, seeds: int, sd: tuple[float, float, float]
) -> np.ndarray:
    """Return values (2, S, P) whose paired difference varies by prompt, by seed and by both with these deviations."""
    shared = rng.normal(size=prompts)
    apart = (
        difference
        + sd[0] * rng.normal(size=prompts)
        + sd[1] * rng.normal(size=(seeds, 1))
        + sd[2] * rng.normal(size=(seeds, prompts))
    )
    return np.array([shared + apart / 2, shared - apart / 2])


def known(prompts: float, seeds: float, both: float) -> Variances:
    return Variances(prompts=np.array([prompts]), seeds=np.array([seeds]), both=np.array([both]), pool=1)


def test_the_three_variances_are_found_again() -> None:
    value_KSP = two_losses(np.random.default_rng(0), 0.0, 600, 60, (0.4, 0.05, 0.3))
    found = variances(value_KSP - value_KSP.mean(2, keepdims=True), value_KSP.mean(2))
    assert found.prompts[0] == pytest.approx(0.16, rel=0.15)
    assert found.seeds[0] == pytest.approx(0.0025, rel=0.4)
    assert found.both[0] == pytest.approx(0.09, rel=0.05)


def test_one_seed_knows_only_what_prompts_and_the_seed_add_together() -> None:
    value_KSP = two_losses(np.random.default_rng(1), 0.0, 5000, 1, (0.4, 0.05, 0.3))
    found = variances(value_KSP - value_KSP.mean(2, keepdims=True), value_KSP.mean(2))
    assert found.prompts[0] == pytest.approx(0.25, rel=0.1)
    assert np.isnan(found.seeds[0])


def test_influences_vary_as_the_mean_of_unequal_clusters_does() -> None:
    rng = np.random.default_rng(2)
    sizes = rng.integers(1, 6, 200)
    prompt = np.repeat(np.arange(200), sizes)
    value = rng.normal(size=200)[prompt] + rng.normal(size=len(prompt)) + 3
    effect = influence(prompt, value, 200)
    assert effect.sum() == pytest.approx(0, abs=1e-9)
    sums = np.bincount(prompt, weights=value)
    drawn = resampled_means(resample_counts(200, 4000), sums[None], sizes[None].astype(float))
    assert effect.var(ddof=1) / 200 == pytest.approx(drawn.var() * 200 / 199, rel=0.08)


def test_the_error_is_the_one_that_boards_test_with() -> None:
    """At the run's own prompts and seeds; power 0.5 asks for Student's quantile times the error and nothing more."""
    for prompts, seeds in ((20, 3), (40, 6), (300, 1)):
        value_KSP = two_losses(np.random.default_rng(4), 0.0, prompts, seeds, (0.1, 0.2, 0.6))
        per_seed = value_KSP.mean(2)
        found = variances(value_KSP - per_seed[:, :, None], per_seed)
        apart = (value_KSP[0] - value_KSP[1]).mean(0)
        bare = apart.var() / prompts  # what a bootstrap over prompts finds
        error, freedom = standard_errors((per_seed[0] - per_seed[1])[:, None], np.array([bare]), prompts)
        got = detectable(found, np.array([float(prompts)]), seeds, power=0.5)
        assert got == pytest.approx(scipy_stats.t.ppf(0.975, freedom) * error, rel=1e-9)


def test_one_source_of_variance_is_the_textbooks_paired_t_test() -> None:
    """Power of the t-test from the noncentral t, at the number of prompts that the formula asks for."""
    for difference in (0.05, 0.2):
        prompts = needed_prompts(known(0.25, 0.0, 0.0), difference, seeds=1)[0]
        shift = difference / np.sqrt(0.25 / prompts)
        bar = scipy_stats.t.ppf(0.975, prompts - 1)
        assert scipy_stats.nct.sf(bar, prompts - 1, shift) == pytest.approx(0.8, abs=0.01)
        assert detectable(known(0.25, 0.0, 0.0), np.array([prompts - 1]), seeds=1)[0] > difference


def test_seeds_that_vary_too_much_cannot_be_made_up_for_by_prompts() -> None:
    of = known(0.1, 0.01, 0.0)
    assert np.isinf(needed_prompts(of, 0.05, seeds=3)[0])
    seeds = needed_seeds(of, 0.05, prompts=10**6)[0]
    # 2.85 standard errors of 0.1 / S^0.5 reach 0.05 from 33 seeds on, a few more for their unknown variance
    assert 32 <= seeds <= 36
    assert np.isfinite(needed_prompts(of, 0.05, seeds=int(seeds) + 2)[0])
    assert np.isinf(needed_seeds(of, 0.001, prompts=100)[0])


def found_share(
    sd: tuple[float, float, float], difference: float, prompts: int, seeds: int, boards: int, rng: np.random.Generator
) -> float:
    """Return how many simulated runs find a true difference."""
    counts, found = resample_counts(prompts, 400), 0
    for _ in range(boards):
        value_KSP = two_losses(rng, difference, prompts, seeds, sd)
        sums, sizes = value_KSP.mean(1), np.ones((2, prompts))
        found += bool(compare(value_KSP.mean(2).T, sums, sizes, resampled_means(counts, sums, sizes)).better[0, 1])
    return found / boards


@pytest.mark.parametrize(("seeds", "sd"), [(1, (0.4, 0.0, 0.0)), (5, (0.3, 0.02, 0.2))])
def test_the_prompts_asked_for_find_the_difference_four_times_in_five(
    seeds: int, sd: tuple[float, float, float]
) -> None:
    of = known(sd[0] ** 2, sd[1] ** 2, sd[2] ** 2)
    prompts = int(needed_prompts(of, 0.08, seeds)[0])
    share = found_share(sd, 0.08, prompts, seeds, 300, np.random.default_rng(3))
    assert 0.72 <= share <= 0.88  # 80 % and three standard errors of 300 boards


@pytest.mark.stats
@pytest.mark.parametrize("seeds", [1, 3, 5, 10])
def test_power_over_many_runs(seeds: int) -> None:
    for sd in ((0.4, 0.02, 0.0), (0.3, 0.02, 0.2), (0.2, 0.04, 0.3)):
        bare = sd if seeds > 1 else (sd[0], 0.0, sd[2])
        prompts = needed_prompts(known(*(each**2 for each in bare)), 0.1, seeds)[0]
        if not np.isfinite(prompts):
            print(f"\npower, {seeds} seeds, deviations {bare}: out of reach of any number of prompts", end="")
            continue
        share = found_share(bare, 0.1, int(prompts), seeds, 2000, np.random.default_rng(4))
        print(
            f"\npower, {seeds} seeds, deviations {bare}: {int(prompts)} prompts find it in {share:.1%} of runs", end=""
        )
        assert 0.75 <= share <= 0.87
