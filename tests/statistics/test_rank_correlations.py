"""Pseudo-values of rank correlations and slopes against scipy and exact re-ranking."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.statistics.intervals import cluster_sums, resample_counts, resampled_means
from harness.statistics.rank_correlations import kendall_examples, slope_examples, spearman_examples

RNG = np.random.default_rng


@pytest.mark.parametrize("digits", [0, 1, 6])
def test_rank_correlations_are_the_mean_of_their_pseudo_values(digits: int) -> None:
    rng = RNG(4)
    x = np.round(rng.normal(size=150), digits)
    y = np.round(x + rng.normal(size=150), digits)
    assert spearman_examples(x, y).mean() == pytest.approx(scipy_stats.spearmanr(x, y)[0], abs=1e-12)
    assert kendall_examples(x, y).mean() == pytest.approx(scipy_stats.kendalltau(x, y)[0], abs=1e-12)
    assert slope_examples(x, y).mean() == pytest.approx(scipy_stats.linregress(x, y / y.std()).slope, abs=1e-12)


@pytest.mark.parametrize("digits", [0, 6])
@pytest.mark.parametrize("name", ["spearman", "kendall", "slope"])
def test_linearised_resamples_follow_exact_re_ranking(name: str, digits: int) -> None:
    rng, prompts, per, resamples = RNG(5), 120, 3, 300
    prompt = np.repeat(np.arange(prompts), per)
    shared = rng.normal(size=prompts)[prompt]
    x = np.round(shared + rng.normal(size=360), digits)
    y = np.round(0.5 * x + rng.normal(size=360), digits)
    counts = resample_counts(prompts, resamples)
    make, exactly = {
        "spearman": (spearman_examples, lambda x, y: scipy_stats.spearmanr(x, y)[0]),
        "kendall": (kendall_examples, lambda x, y: scipy_stats.kendalltau(x, y)[0]),
        "slope": (slope_examples, lambda x, y: scipy_stats.linregress(x, y / y.std()).slope),
    }[name]
    sums, sizes = cluster_sums(prompt, make(x, y), prompts)
    linear = resampled_means(counts, sums[None], sizes[None])[:, 0]
    exact = np.array([exactly(np.repeat(x, each[prompt]), np.repeat(y, each[prompt])) for each in counts])
    assert np.corrcoef(linear, exact)[0, 1] > 0.98
    assert linear.std() == pytest.approx(exact.std(), rel=0.08)
    assert np.quantile(linear, [0.025, 0.975]) == pytest.approx(
        np.quantile(exact, [0.025, 0.975]), abs=0.3 * exact.std()
    )


@pytest.mark.parametrize("name", ["spearman", "kendall"])
def test_the_influence_of_an_example_is_what_a_little_more_of_it_does(name: str) -> None:
    rng = RNG(11)
    x = np.round(rng.normal(size=40), 1)
    y = np.round(x + rng.normal(size=40), 1)
    make = {"spearman": spearman_examples, "kendall": kendall_examples}[name]
    exactly = {"spearman": scipy_stats.spearmanr, "kendall": scipy_stats.kendalltau}[name]
    estimate = exactly(x, y)[0]
    for example in range(5):
        copies = np.full(40, 200)
        copies[example] += 1
        moved = (exactly(np.repeat(x, copies), np.repeat(y, copies))[0] - estimate) * copies.sum()
        assert make(x, y)[example] - estimate == pytest.approx(moved, abs=1e-3)


def test_a_constant_has_no_correlation_and_no_examples_give_none() -> None:
    for make in (spearman_examples, kendall_examples, slope_examples):
        assert np.isnan(make(np.ones(5), np.arange(5.0))).all()
        assert np.isnan(make(np.arange(5.0), np.ones(5))).all()
        assert len(make(np.empty(0), np.empty(0))) == 0
