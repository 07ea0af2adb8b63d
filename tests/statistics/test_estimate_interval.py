"""The interval of one seed and of several: what each source of variation adds, against scipy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.statistics.estimate_interval import difference_of, estimate_interval
from harness.statistics.intervals import (
    cluster_sums,
    interval,
    means_left_out,
    one_seed_interval,
    resample_counts,
    resampled_means,
)
from harness.statistics.metrics import METRICS, kind_of
from harness.statistics.proportions import difference_interval, proportion_interval

RNG = np.random.default_rng


def sample(
    values: np.ndarray, prompts: int, resamples: int = 1000
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return per_seed (S, 1), sums and sizes (1, P), resampled (R, 1) of values (S, n) of `prompts` prompts in turn."""
    sums, sizes = (each[None] for each in cluster_sums(np.arange(values.shape[1]) % prompts, values.mean(0), prompts))
    drawn = resampled_means(resample_counts(prompts, resamples), sums, sizes)
    return values.mean(1, keepdims=True), sums, sizes, drawn


def test_of_one_seed_it_is_the_interval_over_prompts() -> None:
    values = RNG(0).integers(0, 2, (1, 120)).astype(float)
    per_seed, sums, sizes, drawn = sample(values, 40)
    bca = one_seed_interval(drawn, per_seed[0], means_left_out(sums, sizes))
    for kind, expected in (
        ("proportion", proportion_interval(sums, sizes)),
        ("difference", difference_interval(sums, sizes)),
        ("mean", bca),
    ):
        got = estimate_interval(kind, per_seed, sums, sizes, drawn)  # type: ignore[arg-type]  # a literal
        np.testing.assert_allclose(got, expected, rtol=1e-12)


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_where_only_seeds_vary_it_is_scipys_t_interval_of_the_seeds(seeds: int) -> None:
    values = np.tile(RNG(1).normal(size=(seeds, 1)), 60)
    got = estimate_interval("mean", *sample(values, 30))
    theirs = scipy_stats.ttest_1samp(values[:, 0], 0).confidence_interval()
    assert (got[0][0], got[1][0]) == pytest.approx((theirs.low, theirs.high), rel=1e-9)


def test_the_reaches_of_prompts_seeds_and_a_further_source_add_in_squares() -> None:
    per_seed, sums, sizes, drawn = sample(RNG(2).normal(size=(3, 90)), 45)
    alone = estimate_interval("mean", per_seed.mean(0, keepdims=True), sums, sizes, drawn)
    both = estimate_interval("mean", per_seed, sums, sizes, drawn)
    three = estimate_interval("mean", per_seed, sums, sizes, drawn, (np.array([0.2]), np.array([4.0])))
    nothing = estimate_interval("mean", per_seed, sums, sizes, drawn, (np.array([0.0]), np.array([4.0])))
    of_seeds = scipy_stats.t.ppf(0.975, 2) * per_seed.std(ddof=1) / np.sqrt(3)
    of_extra = scipy_stats.t.ppf(0.975, 4) * 0.2
    for end in (0, 1):
        reach = abs(alone[end] - per_seed.mean(0))
        assert abs(both[end] - per_seed.mean(0)) == pytest.approx(np.hypot(reach, of_seeds))
        assert abs(three[end] - per_seed.mean(0)) == pytest.approx(np.sqrt(reach**2 + of_seeds**2 + of_extra**2))
        np.testing.assert_array_equal(nothing[end], both[end])


def test_seeds_that_are_all_right_leave_the_width_of_the_prompts_and_no_end_leaves_the_scale() -> None:
    low, high = estimate_interval("proportion", *sample(np.ones((3, 40)), 40))
    assert (low[0], high[0]) == pytest.approx((0.025 ** (1 / 40), 1))  # of 40 prompts: the exact interval
    seeds = np.repeat([[0.9], [1.0], [0.8]], 40, axis=1)
    low, high = estimate_interval("proportion", *sample(seeds, 40))
    assert high[0] == 1
    assert estimate_interval("difference", *sample(-seeds, 40))[0][0] == -1


def test_one_prompt_has_no_interval_and_ece_has_none_below_a_hundred() -> None:
    for kind, prompts in (("mean", 1), ("proportion", 1), ("distance", 99)):
        got = estimate_interval(kind, *sample(RNG(3).random((1, 2 * prompts)), prompts))  # type: ignore[arg-type]  # a literal
        assert np.isnan(got).all()
    values = sample(RNG(3).random((1, 200)), 100)
    np.testing.assert_array_equal(estimate_interval("distance", *values), estimate_interval("mean", *values))


def test_every_metric_has_a_kind_and_shares_are_the_ones_of_right_and_wrong() -> None:
    shares = {name.partition("@")[0] for name in METRICS if kind_of(name) == "proportion"}
    assert all(name.startswith(("pairwise_accuracy", "likelihood_displacement")) for name in shares)
    assert {"pairwise_accuracy", "pairwise_accuracy_gap_q4", "likelihood_displacement"} <= shares
    assert (kind_of("ndcg"), kind_of("ece"), kind_of("brier")) == ("mean", "distance", "mean")
    assert [difference_of(kind_of(name)) for name in ("pairwise_accuracy", "ece", "margin")] == [
        "difference", "mean", "mean",
    ]  # fmt: skip


def test_intervals_over_three_seeds_cover_where_a_bootstrap_over_prompts_alone_does_not() -> None:
    rng, prompts, seeds, boards = RNG(3), 60, 3, 300
    values = (
        rng.normal(size=(boards, prompts)) * 0.3
        + rng.normal(size=(seeds, boards, 1)) * 0.04
        + rng.normal(size=(seeds, boards, prompts)) * 0.1
    )
    sums, sizes = values.mean(0), np.ones((boards, prompts))
    drawn = resampled_means(resample_counts(prompts, 500), sums, sizes)
    ends = estimate_interval("mean", values.mean(2), sums, sizes, drawn), interval(drawn, sums.mean(1))
    covered = [int(((low <= 0) & (high >= 0)).sum()) for low, high in ends]
    assert 0.93 * boards <= covered[0]
    assert covered[1] < covered[0] - 6
