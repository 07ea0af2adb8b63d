"""Bradley-Terry with style control against scipy's optimiser, closed forms and planted judges."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize
from scipy.special import expit, logit

from harness.statistics.bradley_terry import Battles, against_base, bradley_terry
from harness.statistics.pairwise_tests import compare, rank_ranges
from harness.statistics.style import style_differences

RNG = np.random.default_rng


def judged_by_style(
    rng: np.random.Generator, chances: np.ndarray, liking: np.ndarray, prompts: int, seeds: int = 1
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return verdicts (S, K, P, 1, 2, 1), styles (S, K, P, 1, 4) and the base's (P, 1, 4) of a judge that likes style.

    Its chances at equal style are `chances` (K,); a difference of 1 in each feature adds `liking` (4,) to the log-odds.
    Losses write twice as much as the base, and half as many headers again.
    """
    shape = (seeds, len(chances), prompts, 1)

    def style(times: float, shape: tuple[int, ...]) -> np.ndarray:
        tokens = rng.integers(20, 300, shape) * times
        return np.stack([tokens, *(rng.poisson(tokens / each) for each in (40, 20, 20))], axis=-1).astype(float)

    own, base = style(2.0, shape), style(1.0, shape[2:])
    apart = style_differences(own.reshape(-1, 4), np.broadcast_to(base, own.shape).reshape(-1, 4)).reshape(own.shape)
    chance = expit(logit(chances)[:, None, None] + apart @ liking)
    return (rng.random((*shape, 2, 1)) < chance[..., None, None]).astype(float), own, base


def test_without_style_every_loss_has_its_win_rate_with_half_a_win_and_half_a_defeat() -> None:
    verdicts = (RNG(0).random((1, 3, 80, 1, 2, 1)) < np.array([0.8, 0.5, 0.3])[None, :, None, None, None, None]) * 1.0
    alike = np.full((1, 3, 80, 1, 4), 7.0)
    found = bradley_terry(against_base(verdicts, alike, alike[0, 0]), 3, 80, 100)
    assert found.sample.value == pytest.approx((verdicts.sum((0, 2, 3, 4, 5)) / 2 + 0.5) / 81)
    np.testing.assert_array_equal(found.liking, 0)


def test_a_judge_that_likes_style_is_off_and_the_controlled_chances_are_right() -> None:
    truth, liking = np.array([0.5, 0.65]), np.array([1.5, 20.0, 0.0, -20.0])
    verdicts, own, base = judged_by_style(RNG(1), truth, liking, 12_000)
    battles = against_base(verdicts, own, base)
    found = bradley_terry(battles, 2, 12_000, 100)
    assert verdicts.mean((0, 2, 3, 4, 5))[0] > 0.57
    assert found.sample.value == pytest.approx(truth, abs=0.02)
    scale = np.sqrt((style_differences(battles[0].style_first, battles[0].style_second) ** 2).mean(0))
    assert found.liking / scale == pytest.approx(liking, abs=4)
    assert ((found.liking_low <= liking * scale) & (liking * scale <= found.liking_high)).all()


def mixed_battles(rng: np.random.Generator, n: int = 300, prompts: int = 60, systems: int = 3) -> Battles:
    """Return battles between any two of the base and the losses."""
    first = rng.integers(0, systems + 1, n)
    return Battles(
        prompt=rng.integers(0, prompts, n),
        first=first,
        second=(first + rng.integers(1, systems + 1, n)) % (systems + 1),
        preference=rng.integers(0, 3, n) / 2,
        style_first=rng.integers(1, 50, (n, 4)).astype(float),
        style_second=rng.integers(1, 50, (n, 4)).astype(float),
        weight=rng.random(n),
    )


def test_battles_between_losses_count_too_and_it_is_scipys_maximum() -> None:
    one = mixed_battles(RNG(2))
    apart = style_differences(one.style_first, one.style_second)
    apart = apart / np.sqrt((apart**2).mean(0))
    both_ways = np.concatenate([apart, -apart])
    np.testing.assert_allclose(apart, (both_ways[: len(apart)] - both_ways.mean(0)) / both_ways.std(0), atol=1e-12)

    def cost(beta: np.ndarray) -> float:
        strength = np.concatenate([[0], beta[:3]])
        logits = np.concatenate([strength[one.first] - strength[one.second] + apart @ beta[3:], beta])
        weight = np.concatenate([one.weight, np.ones(7)])
        wanted = np.concatenate([one.preference, np.full(7, 0.5)])
        return float(weight @ (wanted * np.logaddexp(0, -logits) + (1 - wanted) * np.logaddexp(0, logits)))

    theirs = optimize.minimize(cost, np.zeros(7), method="BFGS", options={"gtol": 1e-9}).x
    found = bradley_terry([one], 3, 60, 50)
    np.testing.assert_allclose(found.sample.value, expit(theirs[:3]), atol=1e-5)
    np.testing.assert_allclose(found.liking, theirs[3:], atol=1e-5)


def test_which_answer_is_called_the_first_changes_nothing() -> None:
    one = mixed_battles(RNG(3))
    turned = replace(
        one,
        first=one.second,
        second=one.first,
        preference=1 - one.preference,
        style_first=one.style_second,
        style_second=one.style_first,
    )
    found, other = (bradley_terry([each], 3, 60, 50) for each in (one, turned))
    np.testing.assert_allclose(found.sample.value, other.sample.value)
    np.testing.assert_allclose(found.sample.low, other.sample.low)
    np.testing.assert_allclose(found.liking, other.liking)


def test_chances_are_compared_and_ranked_like_accuracy() -> None:
    verdicts, own, base = judged_by_style(RNG(4), np.array([0.75, 0.5, 0.5]), np.array([1.0, 0, 0, 0]), 400)
    found = bradley_terry(against_base(verdicts, own, base), 3, 400).sample
    tests = compare(found.per_seed, found.sums, found.sizes, found.resampled)
    assert rank_ranges(tests.better) == ([1, 2, 2], [1, 3, 3])
    assert found.resampled.std(0) == pytest.approx(
        np.sqrt(((found.sums - found.value[:, None]) ** 2).sum(1)) / 400, rel=0.1
    )


def test_a_style_that_never_varies_cannot_be_told_from_the_loss() -> None:
    verdicts = RNG(5).integers(0, 2, (1, 1, 50, 1, 2, 1)).astype(float)
    base = np.full((50, 1, 4), 10.0)
    found = bradley_terry(against_base(verdicts, np.full((1, 1, 50, 1, 4), 20.0), base), 1, 50, 20)
    assert "cannot be told from the tokens, headers, lists, bold of their answers" in found.reasons[0]
    assert np.isnan([found.sample.value[0], found.sample.low[0]]).all()


def test_a_loss_without_verdicts_has_no_number_and_costs_the_others_nothing() -> None:
    verdicts, own, base = judged_by_style(RNG(6), np.array([0.7, 0.5]), np.zeros(4), 60)
    verdicts[:, 1] = np.nan
    found = bradley_terry(against_base(verdicts, own, base), 2, 60, 50)
    alone = bradley_terry(against_base(verdicts[:, :1], own[:, :1], base), 1, 60, 50)
    assert found.reasons == ("", "it has no battle")
    assert np.isnan([found.sample.value[1], found.sample.high[1]]).all()
    np.testing.assert_allclose(found.sample.value[0], alone.sample.value[0])
    np.testing.assert_allclose(found.sample.low[0], alone.sample.low[0])


def test_a_loss_that_always_wins_has_a_number_and_an_interval_with_width() -> None:
    verdicts, own, base = judged_by_style(RNG(7), np.array([0.5, 0.5]), np.zeros(4), 100)
    verdicts[:, 0] = 1.0
    found = bradley_terry(against_base(verdicts, own, base), 2, 100, 200).sample
    assert 0.98 < found.value[0] < 1
    assert 0.93 < found.low[0] < 0.97
    assert found.high[0] > 0.999


def test_seeds_are_fitted_apart_and_averaged() -> None:
    verdicts, own, base = judged_by_style(RNG(8), np.array([0.6, 0.4]), np.array([1.0, 0, 0, 0]), 100, seeds=3)
    battles = against_base(verdicts, own, base)
    found = bradley_terry(battles, 2, 100, 200)
    assert found.sample.per_seed.shape == (3, 2)
    assert found.sample.value == pytest.approx(found.sample.per_seed.mean(0))
    again = bradley_terry(battles, 2, 100, 200)
    np.testing.assert_array_equal(found.sample.low, again.sample.low)
