"""Error rates of the tests over many simulated boards: `tox -e stats`. Each test prints what it found."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.statistics.intervals import resample_counts, resampled_means
from harness.statistics.pairwise_tests import compare, rank_ranges

pytestmark = pytest.mark.stats
RNG = np.random.default_rng


@pytest.mark.parametrize(("seeds", "seed_sd"), [(1, 0.0), (3, 0.0), (3, 0.02), (3, 0.1), (5, 0.02)])
def test_twenty_equal_systems_are_told_apart_on_at_most_six_boards_in_a_hundred(seeds: int, seed_sd: float) -> None:
    """Accuracies of 2 pairs per prompt, 60 prompts, the system's own noise beside the prompt's."""
    systems, prompts, boards = 20, 60, 1500
    rng, false, held = RNG([4, seeds, int(1000 * seed_sd)]), 0, 0
    sizes = np.full((systems, prompts), 2.0)
    for board in range(boards):
        prompt = rng.normal(size=prompts)[:, None]
        latent = prompt + 0.7 * rng.normal(size=(systems, prompts, 2))
        latent = latent + 0.3 * rng.normal(size=(seeds, systems, prompts, 2))
        shift = scipy_stats.norm.ppf(0.66) * np.sqrt(1.58) + seed_sd * 3 * rng.normal(size=(seeds, systems, 1, 1))
        right = (latent + shift > 0).astype(float)
        drawn = resampled_means(resample_counts(prompts, 1000, board % 50), right.mean(0).sum(-1), sizes)
        result = compare(right.mean((2, 3)), drawn, prompts, seed=board)
        low, high = rank_ranges(result.better)
        false += bool(result.better.any())
        held += low == [1] * systems and high == [systems] * systems
    print(f"\n20 equal systems, {seeds} seeds that vary by {seed_sd}: told apart on {false / boards:.1%}", end="")
    assert held == boards - false
    assert false / boards <= 0.06


def test_the_chance_of_a_false_find_is_held_where_some_systems_do_differ() -> None:
    """Ten equal systems behind ten better ones: a step-down test must not find anything within either half."""
    systems, prompts, boards = 20, 60, 1000
    rng, false, found = RNG(5), 0, 0
    shift = np.r_[np.full(10, 0.4), np.zeros(10)][:, None]
    for board in range(boards):
        values = shift + rng.normal(size=prompts) + 0.5 * rng.normal(size=(systems, prompts))
        drawn = resampled_means(resample_counts(prompts, 1000, board % 50), values, np.ones((systems, prompts)))
        better = compare(values.mean(1)[None], drawn, prompts).better
        false += bool(better[:10, :10].any() or better[10:, 10:].any() or better[10:, :10].any())
        found += int(better[:10, 10:].sum())
    print(f"\ntwo tiers of ten: false finds on {false / boards:.1%}, {found / boards:.1f} of 100 true ones", end="")
    assert false / boards <= 0.06
