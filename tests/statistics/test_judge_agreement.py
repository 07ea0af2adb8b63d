"""Agreement of judges with themselves and each other: published and hand counts, scipy, planted noise."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.statistics.judge_agreement import (
    first_place,
    judge_noise,
    judges_agreement,
    rankings_agreement,
    self_agreement,
)
from harness.statistics.verdicts import prompt_scores

RNG = np.random.default_rng
NAN = float("nan")


def questions(values: np.ndarray) -> np.ndarray:
    """Return verdicts of n questions with T repeats, (n, T), as n / 2 prompts of one sample in two orders."""
    return values.reshape(1, 1, -1, 1, 2, values.shape[-1])


def test_kappa_of_two_judges_is_that_of_a_hand() -> None:
    """20 both yes, 5 and 10 apart, 15 both no: share 0.7, by chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5, kappa 0.4."""
    one = np.repeat([1.0, 1.0, 0.0, 0.0], [20, 5, 10, 15])[:, None]
    other = np.repeat([1.0, 0.0, 1.0, 0.0], [20, 5, 10, 15])[:, None]
    found = judges_agreement(questions(one), questions(other))
    assert (found.share, found.kappa, found.questions) == (pytest.approx(0.7), pytest.approx(0.4), 50)
    assert found.low < 0.7 < found.high
    assert found.kappa_low < 0.4 < found.kappa_high
    assert judges_agreement(questions(other), questions(one)).kappa == pytest.approx(0.4)


def test_kappa_with_ties_is_that_of_a_hand() -> None:
    table = np.array([[4, 1, 1], [2, 6, 0], [0, 2, 4]])  # defeat, tie, win
    pairs = np.array([(a, b) for a in range(3) for b in range(3) for _ in range(table[a, b])]) / 2
    found = judges_agreement(questions(pairs[:, :1]), questions(pairs[:, 1:]), 100)
    by_chance = (6 * 6 + 8 * 9 + 6 * 5) / 400
    assert found.kappa == pytest.approx((14 / 20 - by_chance) / (1 - by_chance))


def test_what_one_judge_could_not_read_is_no_question() -> None:
    one, other = np.array([[1.0], [NAN], [0.0], [0.5]]), np.array([[1.0], [0.0], [NAN], [0.0]])
    found = judges_agreement(questions(one), questions(other), 100)
    assert (found.questions, found.share) == (2, 0.5)
    nothing = judges_agreement(questions(one), questions(np.full((4, 1), NAN)), 100)
    assert (nothing.questions, np.isnan(nothing.share), np.isnan(nothing.low)) == (0, True, True)


def test_a_judge_that_always_says_the_same_agrees_and_has_no_kappa() -> None:
    found = self_agreement(questions(np.ones((40, 2))), 100)
    assert found.share == 1
    assert found.low == pytest.approx(0.025 ** (1 / 20))  # of 20 prompts, which count once each
    assert np.isnan([found.kappa, found.kappa_low]).all()


def test_self_agreement_is_that_of_a_hand_over_all_pairs_of_repeats() -> None:
    values = np.array([[1, 1, 1], [1, 1, 0], [0.5, 0, 1], [0, NAN, 0], [1, NAN, NAN], [0, 0, 0]])
    found = self_agreement(questions(values), 100)
    assert found.questions == 5
    assert found.share == pytest.approx((1 + 1 / 3 + 0 + 1 + 1) / 5)
    win = (1 + 2 / 3 + 1 / 3 + 0 + 0) / 5  # the margin: each question's share of wins
    tie, defeat = (1 / 3) / 5, (1 / 3 + 1 / 3 + 1 + 1) / 5
    by_chance = win**2 + tie**2 + defeat**2
    assert found.kappa == pytest.approx((found.share - by_chance) / (1 - by_chance))


def test_a_judge_of_mere_noise_has_a_kappa_of_nought() -> None:
    found = self_agreement(questions(RNG(0).integers(0, 2, (4000, 2)).astype(float)), 400)
    assert found.share == pytest.approx(0.5, abs=0.03)
    assert found.kappa_low < 0 < found.kappa_high


def test_the_ranking_of_two_judges_is_compared_by_scipys_tau() -> None:
    rng = RNG(1)
    one, other = np.round(rng.normal(size=12), 1), np.round(rng.normal(size=12), 1)
    assert rankings_agreement(one, other) == pytest.approx(scipy_stats.kendalltau(one, other)[0])
    one[3] = NAN
    assert rankings_agreement(one, other) == pytest.approx(
        scipy_stats.kendalltau(np.delete(one, 3), np.delete(other, 3))[0]
    )
    assert rankings_agreement(np.arange(5.0), np.arange(5.0)) == pytest.approx(1)
    assert np.isnan(rankings_agreement(np.ones(5), np.arange(5.0)))
    assert np.isnan(rankings_agreement(np.full(2, NAN), np.arange(2.0)))


def test_a_liking_for_the_first_place_is_found_whoever_wins() -> None:
    of_first = np.where(RNG(2).random((1, 2, 300, 1, 2, 1)) < 0.7, 1.0, 0.0)  # shown first wins in 70 %
    verdicts = of_first.copy()
    verdicts[..., 1, :] = 1 - of_first[..., 1, :]
    verdicts[0, 0, :5, 0, 0] = NAN
    value, low, high = first_place(verdicts)
    known = np.delete(of_first[0, 0], np.arange(5), axis=0).sum() + of_first[0, 1].sum()
    assert value == pytest.approx(known / (2 * 595))
    assert 0.6 < low < 0.7 < high < 0.8
    fair = np.broadcast_to(RNG(3).integers(0, 2, (1, 2, 50, 1, 1, 1)).astype(float), (1, 2, 50, 1, 2, 1))
    assert first_place(fair)[0] == 0.5


@pytest.mark.parametrize("repeats", [2, 3])
def test_the_part_of_the_noise_is_that_of_the_plan_and_nought_for_a_steady_judge(repeats: int) -> None:
    """Chances of 0.2 or 0.8 by prompt: noise 0.16 / (2 T), chances 0.09 over prompts."""
    rng = RNG(4)
    chance = rng.choice([0.2, 0.8], (1, 1, 20_000, 1, 1, 1))
    verdicts = (rng.random((1, 1, 20_000, 1, 2, repeats)) < chance).astype(float)
    noise = 0.16 / (2 * repeats)
    assert judge_noise(verdicts)[0] == pytest.approx(noise / (noise + 0.09), abs=0.01)
    assert prompt_scores(verdicts).var() == pytest.approx(noise + 0.09, rel=0.02)
    steady = np.repeat(verdicts[..., :1], 2, axis=-1)
    assert judge_noise(steady)[0] == 0
    assert np.isnan(judge_noise(verdicts[..., :1])[0])


def test_the_part_of_the_noise_is_right_over_several_seeds_and_samples() -> None:
    rng = RNG(5)
    chance = rng.choice([0.2, 0.8], (1, 2, 4000, 1, 1, 1))
    verdicts = (rng.random((3, 2, 4000, 2, 2, 2)) < chance).astype(float)
    noise = 0.16 / (3 * 2 * 2 * 2)
    assert judge_noise(verdicts) == pytest.approx(np.full(2, noise / (noise + 0.09)), abs=0.01)
