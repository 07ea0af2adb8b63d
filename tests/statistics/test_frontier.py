"""Quality against distance: the curves by hand, planted forms, and intervals against a known truth."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from harness.statistics.frontier import FORMS, Sums, at_distance, fits, interpolated


def one_curve(kl: list[float], gain: list[float], target: float) -> float:
    return float(interpolated(np.array([kl]), np.array([gain]), target)[0])


@pytest.mark.parametrize(
    ("target", "by_hand"),
    [
        (1.0, 0.1),  # a point of the run
        (0.25, 0.05),  # halfway in sqrt(KL) from the start, which has no gain
        (2.25, 0.2),  # d = 1.5, halfway between d = 1 and d = 2
        (6.25, 0.25),  # d = 2.5, halfway between 0.3 and 0.2
        (9.0, 0.2),
    ],
)
def test_the_gain_at_a_distance_lies_on_the_line_between_its_neighbours(target: float, by_hand: float) -> None:
    assert one_curve([1.0, 4.0, 9.0], [0.1, 0.3, 0.2], target) == pytest.approx(by_hand)


def test_nothing_is_said_beyond_the_farthest_point() -> None:
    assert np.isnan(one_curve([1.0, 4.0, 9.0], [0.1, 0.3, 0.2], 9.01))


def test_a_run_that_comes_back_is_read_where_it_first_was_so_far() -> None:
    assert one_curve([4.0, 1.0, 4.0], [0.4, 0.9, 0.8], 4.0) == pytest.approx(0.4)


@pytest.mark.parametrize("form", [0, 1])
def test_a_planted_form_is_found_again(form: int) -> None:
    distance = np.array([0.5, 1.0, 2.0, 3.0, 5.0])
    bend = distance if form == 0 else np.log(distance)
    found = fits(distance, distance * (0.3 - 0.02 * bend))[form]
    assert (found.form, found.points) == (FORMS[form], 5)
    assert (found.alpha, found.beta, found.residual) == pytest.approx((0.3, 0.02, 0.0), abs=1e-9)


def test_what_a_form_leaves_is_its_residual_with_two_degrees_of_freedom_spent() -> None:
    distance = np.array([1.0, 2.0, 3.0, 4.0])
    gain = np.array([0.2, 0.5, 0.4, 0.9])
    design = np.column_stack([distance, -(distance**2)])
    left = gain - design @ np.linalg.solve(design.T @ design, design.T @ gain)  # the normal equations
    assert fits(distance, gain)[0].residual == pytest.approx(float(np.sqrt((left**2).sum() / 2)))


def test_two_points_fit_no_form() -> None:
    assert fits(np.array([1.0, 2.0, 2.0, 0.0]), np.array([0.1, 0.2, 0.3, 0.0])) == ()


def drawn(rng: np.random.Generator, prompts: int, seeds: int = 1) -> tuple[Sums, Sums]:
    """Return KL and gain of one loss with points at a KL of 2 and 8, which differ from prompt to prompt together."""
    common = rng.normal(size=(seeds, 1, 1, prompts))
    kl = np.array([2.0, 8.0])[:, None] + common + rng.normal(size=(seeds, 1, 2, prompts))
    gain = np.array([0.2, 0.5])[:, None] + 0.3 * common + 0.5 * rng.normal(size=(seeds, 1, 2, prompts))
    return Sums(sums=kl, sizes=np.ones(kl.shape)), Sums(sums=gain, sizes=np.ones(gain.shape))


TRUTH = 0.2 + 0.3 * (2 - 2**0.5) / (8**0.5 - 2**0.5)
"""The gain at a KL of 4 nats on the line from (sqrt 2, 0.2) to (sqrt 8, 0.5)."""


@pytest.mark.parametrize("seeds", [1, 3])
def test_intervals_cover_the_gain_at_a_distance_with_the_noise_of_both(seeds: int) -> None:
    rng, inside, draws = np.random.default_rng(6), 0, 200
    for draw in range(draws):
        found = at_distance(*drawn(rng, 80, seeds), 4.0, resamples=400, seed=draw)
        inside += bool(found.low[0] <= TRUTH <= found.high[0])
    assert inside >= binom.ppf(0.001, draws, 0.95)
    assert inside <= binom.ppf(0.999, draws, 0.95) or seeds > 1  # of several seeds they are rather wide


def test_the_pseudo_values_of_prompts_average_to_the_gain() -> None:
    found = at_distance(*drawn(np.random.default_rng(1), 400), 4.0, resamples=200)
    assert found.sums.mean() == pytest.approx(float(found.per_seed[0, 0]), abs=2e-3)
    assert found.resampled.std() == pytest.approx(found.sums.std(ddof=1) / 20, rel=0.15)


def test_a_loss_that_reaches_a_distance_in_some_resamples_only_has_no_number_there() -> None:
    kl, gain = drawn(np.random.default_rng(2), 80)
    far = float(kl.sums[0, 0, 1].mean())
    assert np.isfinite(at_distance(kl, gain, 4.0, resamples=200).per_seed).all()
    assert np.isnan(at_distance(kl, gain, far - 0.01, resamples=200).per_seed).all()


def test_a_loss_has_a_number_where_every_seed_reaches_it() -> None:
    kl, gain = drawn(np.random.default_rng(3), 80, seeds=2)
    short = Sums(sums=kl.sums * np.array([1.0, 0.2])[:, None, None, None], sizes=kl.sizes)
    assert np.isnan(at_distance(short, gain, 4.0, resamples=100).per_seed).all()
