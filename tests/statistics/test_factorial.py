"""Grids of settings: contrasts and shares against arithmetic, and intervals that cover what was planted."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from harness.statistics.factorial import (
    INTERACTIONS,
    SEEDS,
    GridValues,
    contrasts,
    grouping_test,
    seed_variance,
    variance_shares,
)


def grid_of(cells: np.ndarray) -> GridValues:
    """Return the grid of values (S, C, P), one example per prompt."""
    return GridValues(per_seed=cells.mean(2), sums=cells.mean(0), sizes=np.ones(cells.shape[2]))


def drawn(
    rng: np.random.Generator, means: np.ndarray, seeds: int, prompts: int, of_seed: float, of_prompt: float
) -> GridValues:
    """Return a grid around `means` (C,): each training off by `of_seed`, each prompt in each cell by `of_prompt`."""
    trained = means + of_seed * rng.standard_normal((seeds, len(means))) + rng.standard_normal((seeds, 1))
    prompt = of_prompt * rng.standard_normal((len(means), prompts)) + rng.standard_normal(prompts)
    return grid_of(trained[:, :, None] + prompt)


def test_the_seed_variance_is_the_residual_mean_square_of_a_two_way_layout() -> None:
    per_seed = np.array([[1.0, 2.0, 4.0], [2.0, 5.0, 5.0]])
    # by hand: means of cells 1.5, 3.5, 4.5, of seeds 7/3 and 4, of all 19/6; residuals +-(1/3, -2/3, 1/3)
    assert seed_variance(per_seed) == (pytest.approx(2 * (1 + 4 + 1) / 9 / 2), 2.0)
    assert seed_variance(per_seed[:1])[1] == 0.0


def test_a_seed_that_lifts_every_cell_alike_widens_no_difference() -> None:
    cells = np.random.default_rng(0).standard_normal((3, 4, 50))
    lifted = cells + np.array([0.0, 10.0, -5.0])[:, None, None]
    weights = np.array([[1.0, -1.0, 0.0, 0.0]])
    plain, other = contrasts(grid_of(cells), weights, 500), contrasts(grid_of(lifted), weights, 500)
    assert np.allclose(plain, other)


def test_with_one_seed_a_contrast_is_the_paired_mean_with_about_its_t_interval() -> None:
    rng = np.random.default_rng(1)
    cells = rng.standard_normal((1, 2, 400))
    value, low, high = contrasts(grid_of(cells), np.array([[1.0, -1.0]]))
    apart = cells[0, 0] - cells[0, 1]
    expected = stats.ttest_1samp(apart, 0).confidence_interval(0.95)
    assert value[0] == pytest.approx(apart.mean())
    assert (low[0], high[0]) == (pytest.approx(expected.low, abs=0.01), pytest.approx(expected.high, abs=0.01))


def test_many_cells_know_the_variance_of_seeds_that_two_cells_do_not() -> None:
    rng = np.random.default_rng(2)
    covered, widths = 0, []
    for _ in range(300):
        grid = drawn(rng, np.zeros(20), seeds=2, prompts=60, of_seed=0.3, of_prompt=0.3)
        _, low, high = contrasts(grid, np.eye(20)[:1] - np.eye(20)[1:2], 400)
        covered += bool(low[0] <= 0 <= high[0])
        widths.append(high[0] - low[0])
    assert 0.93 <= covered / 300 <= 1.0  # the larger of two variances: rather wide
    assert np.median(widths) < 6 * 0.3  # a t interval of one degree of freedom would be 2 * 12.7 * 0.3 wide


def test_shares_are_those_of_an_analysis_of_variance_where_nothing_is_noise() -> None:
    # 2 x 3 levels: a = +-3, b = -2, 0, 2, an interaction of +-1 in the corners; every seed and prompt the same
    a, b = np.repeat([0, 1], 3), np.tile([0, 1, 2], 2)
    means = np.array([3.0, -3.0])[a] + np.array([-2.0, 0.0, 2.0])[b] + np.array([1.0, 0, -1, -1, 0, 1])
    found = variance_shares(grid_of(np.broadcast_to(means[None, :, None], (2, 6, 10))), {"a": a, "b": b}, 50)
    # by hand: variances 9, 8/3 and 4/6, none of seeds
    assert found.sources == ("a", "b", INTERACTIONS, SEEDS)
    assert found.value == pytest.approx(np.array([9, 8 / 3, 2 / 3, 0]) / (9 + 8 / 3 + 2 / 3))
    assert np.allclose(found.low, found.value)
    assert np.allclose(found.high, found.value)


def test_a_factor_that_does_nothing_has_no_share_to_speak_of() -> None:
    rng = np.random.default_rng(3)
    a, b = np.repeat([0, 1, 2, 3], 4), np.tile([0, 1, 2, 3], 4)
    shares = [
        variance_shares(drawn(rng, np.array([0.0, 0.5, 1.0, 1.5])[b], 2, 60, 0.2, 0.5), {"a": a, "b": b}, 300)
        for _ in range(60)
    ]
    assert np.mean([each.value[0] for each in shares]) < 0.02
    assert np.mean([each.low[0] == 0 for each in shares]) > 0.9


def test_the_intervals_of_shares_cover_what_was_planted() -> None:
    rng = np.random.default_rng(4)
    a, b = np.repeat([0, 1, 2, 3], 5), np.tile([0, 1, 2, 3, 4], 4)
    means = np.array([0.0, 0.4, 0.8, 0.2])[a] + np.array([0.0, 0.1, 0.3, 0.5, 0.6])[b]
    effects = np.array([means.reshape(4, 5).mean(1).var(), means.reshape(4, 5).mean(0).var(), 0.0, 0.2**2])
    truth = effects / effects.sum()
    runs = [variance_shares(drawn(rng, means, 3, 100, 0.2, 0.6), {"a": a, "b": b}, 300) for _ in range(200)]
    covered = np.mean([(each.low <= truth) & (truth <= each.high) for each in runs], axis=0)
    assert (covered[[0, 1, 3]] >= 0.88).all(), covered  # 0.95 less what 200 draws leave open and percentiles lose


def test_the_grouping_test_counts_every_way_to_part_the_losses() -> None:
    values = np.array([5.0, 6.0, 7.0, 1.0, 2.0, 3.0])
    first = np.array([True, True, True, False, False, False])
    p, ways = grouping_test(values, first)
    outside = stats.permutation_test(
        (values[first], values[~first]), lambda x, y: x.mean() - y.mean(), n_resamples=np.inf
    )
    assert (p, ways) == (pytest.approx(outside.pvalue), 20)
    assert p == pytest.approx(2 / 20)


def test_too_many_groupings_are_refused() -> None:
    with pytest.raises(ValueError, match="ways to part 40 losses"):
        grouping_test(np.arange(40.0), np.arange(40) < 20)
