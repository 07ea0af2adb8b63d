"""Length-controlled win rates against planted truth, scipy and hand counts."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize
from scipy import stats as scipy_stats
from scipy.special import expit, logit

from harness.statistics.length_control import length_controlled_win_rate
from harness.statistics.pairwise_tests import compare, rank_ranges
from harness.statistics.verdicts import win_rate

RNG = np.random.default_rng
NAN = float("nan")


def judged_by_length(
    rng: np.random.Generator, at_equal_length: np.ndarray, strength: float, longer: float, prompts: int, seeds: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return verdicts (S, K, P, 1, 2, 1) and length differences (S, K, P, 1) of a judge that likes length.

    Its chance at dL = 0 is `at_equal_length` (K,); answers are `longer` standard deviations longer than their rivals.
    """
    apart = np.rint(300 * rng.normal(longer, 1, size=(seeds, len(at_equal_length), prompts, 1)))
    chance = expit(logit(at_equal_length)[:, None, None] + strength * np.tanh(apart / 300))
    return (rng.random((*chance.shape, 2, 1)) < chance[..., None, None]).astype(float), apart


def test_a_judge_that_likes_length_is_off_and_the_controlled_number_is_right() -> None:
    verdicts, longer = judged_by_length(RNG(0), np.array([0.5, 0.3]), 1.5, 1.0, 20_000)
    found = length_controlled_win_rate(verdicts, longer, 200)
    assert found.sample.value == pytest.approx([0.5, 0.3], abs=0.015)
    assert (win_rate(verdicts, 100).value > np.array([0.65, 0.48])).all()
    assert found.effect[0] == pytest.approx([1.5, 1.5], abs=0.1)


def test_it_is_scipys_maximum_of_the_likelihood() -> None:
    verdicts, longer = judged_by_length(RNG(1), np.array([0.6]), 1.0, 0.5, 300)
    outcome, apart = verdicts.mean((4, 5)).ravel(), longer.ravel()
    value = np.tanh(apart / apart.std(ddof=1))

    def cost(beta: np.ndarray) -> float:
        logits = np.concatenate([beta[0] + beta[1] * value, beta])
        wanted = np.concatenate([outcome, [0.5, 0.5]])
        return float(wanted @ np.logaddexp(0, -logits) + (1 - wanted) @ np.logaddexp(0, logits))

    theta, phi = optimize.minimize(cost, np.zeros(2), method="BFGS", options={"gtol": 1e-9}).x
    found = length_controlled_win_rate(verdicts, longer, 10)
    assert found.sample.value[0] == pytest.approx(expit(theta), abs=1e-6)
    assert found.effect[0, 0] == pytest.approx(phi, abs=1e-5)


def test_only_the_ratio_of_differences_counts_and_the_judge_may_like_short_answers() -> None:
    verdicts, longer = judged_by_length(RNG(2), np.array([0.6]), -1.0, 0.5, 400)
    one, ten = (length_controlled_win_rate(verdicts, times * longer, 50) for times in (1, 10))
    np.testing.assert_allclose(one.sample.value, ten.sample.value)
    np.testing.assert_allclose(one.effect, ten.effect)
    assert one.effect[0, 0] < 0
    assert one.sample.value[0] > win_rate(verdicts, 100).value[0]


def test_answers_as_long_as_their_rivals_leave_the_win_rate_with_half_a_win_and_half_a_defeat() -> None:
    verdicts = (RNG(3).random((1, 1, 100, 1, 2, 1)) < 0.7).astype(float)
    found = length_controlled_win_rate(verdicts, np.zeros((1, 1, 100, 1)), 2000)
    plain = win_rate(verdicts)
    assert found.sample.value == pytest.approx((100 * plain.value + 0.5) / 101)
    assert found.effect[0, 0] == 0
    assert (found.sample.low[0], found.sample.high[0]) == pytest.approx((plain.low[0], plain.high[0]), abs=0.02)
    assert not found.extrapolated[0]


def test_a_length_difference_that_never_varies_cannot_be_told_from_the_loss() -> None:
    verdicts = RNG(4).integers(0, 2, (1, 2, 50, 1, 2, 1)).astype(float)
    longer = np.stack([np.full((1, 50, 1), 12.0), RNG(5).normal(size=(1, 50, 1))], axis=1)
    found = length_controlled_win_rate(verdicts, longer, 100)
    assert found.reasons == ("every answer is +12 characters from its rival: length cannot be told from the loss", "")
    assert np.isnan([found.sample.value[0], found.sample.low[0], found.sample.high[0], found.effect[0, 0]]).all()
    assert np.isfinite([found.sample.value[1], found.sample.low[1], found.sample.high[1]]).all()


def test_a_chance_outside_the_data_says_so() -> None:
    verdicts, longer = judged_by_length(RNG(6), np.array([0.5, 0.5]), 1.0, 0.0, 60)
    longer[0, 0] = np.abs(longer[0, 0]) + 1
    assert length_controlled_win_rate(verdicts, longer, 10).extrapolated == (True, False)


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_a_loss_that_always_wins_or_loses_has_a_number_near_the_end_and_the_width_of_the_exact_interval(
    outcome: float,
) -> None:
    longer = RNG(7).normal(size=(1, 1, 200, 1)) * 100
    found = length_controlled_win_rate(np.full((1, 1, 200, 1, 2, 1), outcome), longer, 500).sample
    low, high = scipy_stats.binomtest(round(200 * outcome), 200).proportion_ci()
    assert found.value[0] == pytest.approx((200 * outcome + 0.5) / 201, abs=1e-3)
    assert (found.low[0], found.high[0]) == pytest.approx((low, high), abs=0.006)


def test_verdicts_that_follow_length_alone_give_a_finite_number_about_which_little_is_known() -> None:
    longer = RNG(8).normal(size=(1, 1, 100, 1)) * 100
    verdicts = np.broadcast_to((longer > 0)[..., None, None], (1, 1, 100, 1, 2, 1)).astype(float)
    found = length_controlled_win_rate(verdicts, longer, 500)
    assert 0 < found.sample.low[0] < 0.5 < found.sample.high[0] < 1
    assert found.effect[0, 0] > 5


def test_a_prompt_weighs_the_same_however_many_samples_it_has() -> None:
    verdicts, longer = judged_by_length(RNG(9), np.array([0.6]), 1.0, 0.5, 80)
    thrice, many = np.repeat(verdicts, 3, axis=3), np.repeat(longer, 3, axis=3)
    many[:, :, ::2, 1:] = NAN  # every other prompt has one sample left
    once = length_controlled_win_rate(verdicts, longer * 1.0, 50)
    got = length_controlled_win_rate(thrice, many, 50)
    assert got.sample.value == pytest.approx(once.sample.value, abs=2e-3)  # std dL counts samples, the fit prompts


def test_what_has_one_order_only_is_left_out() -> None:
    verdicts, longer = judged_by_length(RNG(10), np.array([0.6]), 1.0, 0.5, 80)
    some = verdicts.copy()
    some[:, :, 60:, :, 1] = NAN
    np.testing.assert_allclose(
        length_controlled_win_rate(some, longer, 50).sample.value,
        length_controlled_win_rate(verdicts[:, :, :60], longer[:, :, :60], 50).sample.value,
    )
    some[:] = NAN
    assert length_controlled_win_rate(some, longer, 50).reasons == ("no comparison has a verdict in both orders",)


def test_the_same_seed_gives_the_same_interval_and_one_prompt_gives_none() -> None:
    verdicts, longer = judged_by_length(RNG(11), np.array([0.6, 0.4]), 1.0, 0.5, 60)
    one, again, other = (length_controlled_win_rate(verdicts, longer, 300, seed).sample for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.low, again.low)
    assert (one.low != other.low).all()
    assert np.isnan(length_controlled_win_rate(verdicts[:, :, :1], longer[:, :, :1], 100).sample.low).all()


def test_losses_are_compared_and_ranked_at_equal_length_where_the_win_rate_ranks_the_longest_first() -> None:
    rng = RNG(12)
    short, short_by = judged_by_length(rng, np.array([0.7, 0.5]), 2.0, -0.6, 600)
    long, long_by = judged_by_length(rng, np.array([0.5]), 2.0, 1.0, 600)
    verdicts, longer = np.concatenate([short, long], axis=1), np.concatenate([short_by, long_by], axis=1)
    assert win_rate(verdicts, 100).value.argmax() == 2
    found = length_controlled_win_rate(verdicts, longer).sample
    tests = compare(found.per_seed, found.sums, found.sizes, found.resampled)
    assert rank_ranges(tests.better) == ([1, 2, 2], [1, 3, 3])
    deviations = found.resampled - found.value
    linear = (found.sums - found.value[:, None]) / 600
    assert deviations.std(0) == pytest.approx(np.sqrt((linear**2).sum(1)), rel=0.1)


def test_seeds_that_differ_widen_the_interval() -> None:
    verdicts, longer = judged_by_length(RNG(13), np.array([0.5]), 1.0, 0.5, 150, seeds=3)
    verdicts[0] = np.maximum(verdicts[0], RNG(14).random(verdicts[0].shape) < 0.6)
    found = length_controlled_win_rate(verdicts, longer, 500).sample
    apart = [length_controlled_win_rate(verdicts[[s]], longer[[s]], 500).sample for s in range(3)]
    assert found.value[0] == pytest.approx(np.mean([one.value[0] for one in apart]))
    assert found.high[0] - found.low[0] > max(one.high[0] - one.low[0] for one in apart)
