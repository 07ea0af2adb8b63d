"""Win rates from verdicts: hand counts, scipy's exact interval, and the board's own comparisons."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.api.errors import HarnessError
from harness.statistics.intervals import resample_counts, resampled_means
from harness.statistics.pairwise_tests import compare, rank_ranges
from harness.statistics.proportions import proportion_interval
from harness.statistics.verdicts import both_orders, counted, prompt_scores, win_rate

RNG = np.random.default_rng
NAN = float("nan")


def verdicts(*prompts: list[list[list[float]]]) -> np.ndarray:
    """Return verdicts of one seed and one system: of each prompt its samples, of each the repeats of both orders."""
    return np.array(prompts, dtype=float)[None, None]


def test_both_orders_and_samples_are_averaged_within_the_prompt_before_anything_else() -> None:
    got = verdicts(
        [[[1.0], [1.0]], [[1.0], [0.0]]],  # a clear win, and a judge that goes by the place: 1 and 0.5
        [[[0.5], [0.5]], [[0.0], [0.0]]],  # a tie and a defeat
        [[[1.0], [0.5]], [[0.0], [0.5]]],
    )
    np.testing.assert_array_equal(both_orders(got)[0, 0], [[1, 0.5], [0.5, 0], [0.75, 0.25]])
    np.testing.assert_array_equal(prompt_scores(got)[0, 0], [0.75, 0.25, 0.5])
    assert win_rate(got, 100).value == pytest.approx([0.5])


def test_repeats_count_once_however_many_could_be_read() -> None:
    got = verdicts([[[1.0, 1.0, 0.0], [1.0, NAN, NAN]]])
    assert both_orders(got)[0, 0, 0, 0] == pytest.approx((2 / 3 + 1) / 2)


def test_a_comparison_with_one_order_is_left_out_and_counted_and_never_filled_in() -> None:
    some = np.full((1, 1, 100, 1, 2, 1), 0.7)
    some[..., 1, :] = 0.3  # two equal answers, a judge that prefers the first
    some[:, :, ::2, :, 1, :] = NAN
    assert win_rate(some, 100).value == pytest.approx([0.5])
    assert np.nanmean(some, axis=(4, 5)).mean() == pytest.approx(0.6)  # what one order instead of both would give
    found = counted(some)
    assert (found.asked[0, 0], found.unread[0, 0]) == (200, 50)
    assert (found.one_order[0, 0], found.lost_prompts[0, 0]) == (50, 50)


def test_counts_of_what_is_missing_are_those_of_a_hand() -> None:
    got = verdicts(
        [[[1.0, NAN], [0.0, 1.0]], [[NAN, NAN], [1.0, 1.0]]],  # one repeat missing; one order missing
        [[[NAN, NAN], [NAN, NAN]], [[NAN, NAN], [NAN, 1.0]]],  # nothing; one order
    )
    found = counted(got)
    assert [int(each[0, 0]) for each in (found.asked, found.unread, found.one_order, found.lost_prompts)] == [
        16,
        10,
        2,
        1,
    ]
    assert prompt_scores(got)[0, 0] == pytest.approx([0.75, NAN], nan_ok=True)


def test_the_interval_is_the_exact_one_of_shares_and_never_without_width() -> None:
    wins = win_rate(np.ones((1, 1, 40, 1, 2, 1)), 100)
    theirs = scipy_stats.binomtest(40, 40).proportion_ci()
    assert (wins.low[0], wins.high[0]) == pytest.approx((theirs.low, theirs.high))
    some = RNG(0).integers(0, 3, (1, 1, 60, 1, 2, 1)) / 2
    got, scores = win_rate(some, 100), prompt_scores(some)[0]
    np.testing.assert_array_equal((got.low, got.high), proportion_interval(scores, np.ones_like(scores)))


def test_seeds_add_to_the_interval_and_a_prompt_counts_where_all_seeds_have_it() -> None:
    some = RNG(1).integers(0, 2, (3, 2, 50, 1, 2, 1)).astype(float)
    some[1, 0, 7] = NAN
    got = win_rate(some, 100)
    assert got.sizes.sum(1).tolist() == [49, 50]
    assert got.value[0] == pytest.approx(np.delete(prompt_scores(some)[:, 0], 7, axis=1).mean())
    one = win_rate(some.mean(0, keepdims=True), 100)
    assert ((got.high - got.low) > (one.high - one.low)).all()


def test_scores_go_through_the_comparisons_and_rank_ranges_that_accuracy_goes_through() -> None:
    """Four losses that win in 80, 50, 50 and 20 % of 200 prompts: the best and the worst are told apart from all."""
    rng, chances = RNG(2), np.array([0.8, 0.5, 0.5, 0.2])[None, :, None, None, None, None]
    some = (rng.random((1, 4, 200, 1, 2, 1)) < chances).astype(float)
    scores = prompt_scores(some)
    sizes = np.ones(scores.shape[1:])
    by_hand = compare(scores.mean(2), scores[0], sizes, resampled_means(resample_counts(200), scores[0], sizes))
    got = win_rate(some)
    found = compare(got.per_seed, got.sums, got.sizes, got.resampled)
    np.testing.assert_array_equal(found.better, by_hand.better)
    assert rank_ranges(found.better) == ([1, 2, 2, 4], [1, 3, 3, 4])


def test_losses_with_different_prompts_missing_are_still_compared_in_pairs() -> None:
    rng, false = RNG(3), 0
    for board in range(200):
        latent = rng.normal(size=(1, 1, 80, 1, 1, 1)) + rng.normal(size=(1, 3, 80, 1, 2, 1))
        some = np.where(rng.random(latent.shape) < 0.1, NAN, (latent > 0).astype(float))
        got = win_rate(some, 400, board)
        false += bool(compare(got.per_seed, got.sums, got.sizes, got.resampled).better.any())
    assert false / 200 <= 0.09  # 5 % and two and a half standard errors


def test_a_verdict_that_is_no_preference_is_refused_with_its_place() -> None:
    some = np.full((1, 2, 3, 1, 2, 1), 0.5)
    some[0, 1, 2, 0, 1, 0] = 7
    with pytest.raises(HarnessError, match=r"is 7 \(seed 0, system 1, prompt 2, sample 0, .*expected a preference"):
        win_rate(some)


def test_a_system_without_any_score_has_no_number() -> None:
    some = np.full((1, 2, 30, 1, 2, 1), 1.0)
    some[:, 1] = NAN
    got = win_rate(some, 100)
    assert np.isnan([got.value[1], got.low[1], got.high[1]]).all()
    assert got.value[0] == 1
