"""Error rates and power of the tests between systems over many simulated boards: `tox -e stats`; prints its results."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.statistics import pairwise_tests
from harness.statistics.intervals import resample_counts, resampled_means
from harness.statistics.pairwise_tests import PairwiseTests, compare, rank_ranges

pytestmark = pytest.mark.stats
RNG = np.random.default_rng
LATENT = np.sqrt(1 + 0.7**2 + 0.3**2)
"""Standard deviation of a latent margin: the prompt's, the system's own, and the seed's own on a pair."""


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stays open after 16,000 resamples is borderline here, on about one board in fifty: a board takes 80,000."""
    monkeypatch.setattr(pairwise_tests, "MOST_RESAMPLES", 16_000)


def simulated_tests(
    rng: np.random.Generator,
    accuracy: float,
    shift: np.ndarray,
    prompts: int,
    seeds: int = 1,
    seed_sd: float = 0.0,
    number: int = 0,
) -> PairwiseTests:
    """Return the tests of a board of accuracies over 2 pairs per prompt.

    `shift` (K,): how much the true accuracy of each system differs from `accuracy`; `seed_sd`: about the standard
    deviation that seeds add to it; `number` of the board, which seeds its resamples.
    """
    systems = len(shift)
    latent = rng.normal(size=prompts)[:, None] + 0.7 * rng.normal(size=(systems, prompts, 2))
    latent = latent + 0.3 * rng.normal(size=(seeds, systems, prompts, 2))
    bar = scipy_stats.norm.ppf(accuracy + shift)
    bar = bar + seed_sd / scipy_stats.norm.pdf(bar) * rng.normal(size=(seeds, systems))
    right = (latent / LATENT + bar[:, :, None, None] > 0).astype(float)
    sums, sizes = right.mean(0).sum(-1), np.full((systems, prompts), 2.0)
    drawn = resampled_means(resample_counts(prompts, 1000, number % 50), sums, sizes)
    return compare(right.mean((2, 3)), sums, sizes, drawn, seed=number)


@pytest.mark.parametrize(("seeds", "seed_sd"), [(1, 0.0), (3, 0.0), (3, 0.01), (3, 0.04), (5, 0.01)])
@pytest.mark.parametrize("systems", [7, 38])
def test_equal_systems_are_told_apart_on_at_most_six_boards_in_a_hundred(
    systems: int, seeds: int, seed_sd: float
) -> None:
    for accuracy in (0.66, 0.97):
        for prompts in (60, 200):
            boards = 1500 if systems == 7 else 700
            rng = RNG([4, systems, seeds, int(1000 * seed_sd), int(100 * accuracy), prompts])
            false = held = 0
            for board in range(boards):
                found = simulated_tests(rng, accuracy, np.zeros(systems), prompts, seeds, seed_sd, board)
                low, high = rank_ranges(found.better)
                false += bool(found.better.any())
                held += low == [1] * systems and high == [systems] * systems
            share = false / boards
            print(
                f"\n{systems} equal systems of accuracy {accuracy}, {prompts} prompts, {seeds} seeds that vary by "
                f"{seed_sd}: told apart on {share:.1%}",
                end="",
            )
            assert held == boards - false
            assert share <= 0.06


def test_the_chance_of_a_false_find_is_held_where_some_systems_do_differ() -> None:
    """Ten equal systems behind ten better ones: a step-down test must not find anything within either half."""
    systems, prompts, boards = 20, 60, 1000
    rng, false, found = RNG(5), 0, 0
    shift, sizes = np.r_[np.full(10, 0.4), np.zeros(10)][:, None], np.ones((systems, prompts))
    for board in range(boards):
        values = shift + rng.normal(size=prompts) + 0.5 * rng.normal(size=(systems, prompts))
        drawn = resampled_means(resample_counts(prompts, 1000, board % 50), values, sizes)
        better = compare(values.mean(1)[None], values, sizes, drawn).better
        false += bool(better[:10, :10].any() or better[10:, 10:].any() or better[10:, :10].any())
        found += int(better[:10, 10:].sum())
    print(f"\ntwo tiers of ten: false finds on {false / boards:.1%}, {found / boards:.1f} of 100 true ones", end="")
    assert false / boards <= 0.06


@pytest.mark.parametrize(("seeds", "seed_sd"), [(1, 0.0), (3, 0.01)])
@pytest.mark.parametrize(("systems", "prompts"), [(7, 200), (7, 400), (38, 400)])
def test_the_detectable_difference_is_found_by_the_boards_own_test_four_times_in_five(
    systems: int, prompts: int, seeds: int, seed_sd: float
) -> None:
    """The best and the worst system lie that far apart, all others halfway between; each board says its own figure."""
    rng = RNG([6, systems, prompts, seeds])
    said = [simulated_tests(rng, 0.66, np.zeros(systems), prompts, seeds, seed_sd, number=board) for board in range(20)]
    found, size = {}, {}
    for name, boards in (("detectable", 800), ("detectable_planned", 200)):
        size[name] = float(np.mean([getattr(one, name) for one in said]))
        shift = np.zeros(systems)
        shift[0], shift[-1] = size[name] / 2, -size[name] / 2
        found[name] = np.mean(
            [
                simulated_tests(rng, 0.66, shift, prompts, seeds, seed_sd, number=board).better[0, -1]
                for board in range(boards)
            ]
        )
    print(
        f"\n{systems} systems, {prompts} prompts, {seeds} seeds that vary by {seed_sd}: "
        + ", ".join(f"{name} {size[name]:.3f} is found on {share:.1%}" for name, share in found.items()),
        end="",
    )
    assert 0.75 <= found["detectable"] <= 0.85
    assert found["detectable_planned"] < 0.70  # what one comparison can do, the board cannot
