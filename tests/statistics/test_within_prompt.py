"""NDCG and best-of-n against hand counts and brute force over the orders of ties."""

from __future__ import annotations

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.statistics.within_prompt import Lists, best_of_n, correlations, lists, ndcg

NAN = float("nan")


def one_list(reward: list[float], score: list[float]) -> Lists:
    return lists(np.array(["p"] * len(reward), dtype=object), np.array(reward, float), np.array(score, float))


def brute_force_ndcg(reward: list[float], score: list[float], k: int) -> float:
    """Return the mean NDCG@k over every order that the rewards allow."""
    gains = np.array(score) - min(score)
    found = []
    for order in permutations(range(len(reward))):
        if all(reward[a] >= reward[b] for a, b in pairwise(order)):
            found.append(sum(gains[i] / np.log2(place + 2) for place, i in enumerate(order[:k])))
    ideal = sum(gain / np.log2(place + 2) for place, gain in enumerate(sorted(gains, reverse=True)[:k]))
    return float(np.mean(found) / ideal)


def test_ndcg_by_hand() -> None:
    # gains 2, 0, 1 in the order of rewards 0, 2, 1: 0/1 + 2/log2(3) + 1/2 of the ideal 2/1 + 1/log2(3)
    got = ndcg(one_list([2.0, 3.0, 1.0], [5.0, 3.0, 4.0]))
    assert got[0] == pytest.approx((2 / np.log2(3) + 1 / 2) / (2 + 1 / np.log2(3)))
    assert ndcg(one_list([9.0, 1.0, 5.0], [5.0, 3.0, 4.0]))[0] == pytest.approx(1)
    assert ndcg(one_list([2.0, 3.0, 1.0], [5.0, 3.0, 4.0]), k=1)[0] == 0


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(1, 5)), min_size=2, max_size=6),
    st.integers(1, 6),
)
def test_tied_rewards_give_the_mean_over_their_orders(drawn: list[tuple[int, int]], k: int) -> None:
    reward, score = [float(one) for one, _ in drawn], [float(one) for _, one in drawn]
    got = ndcg(one_list(reward, score), k)[0]
    if len(set(score)) == 1:
        assert np.isnan(got)
    else:
        assert got == pytest.approx(brute_force_ndcg(reward, score, k), abs=1e-12)


def test_the_scale_and_origin_of_scores_and_rewards_change_nothing() -> None:
    rng = np.random.default_rng(0)
    prompt = np.array([f"p{i % 7}" for i in range(40)], dtype=object)
    reward, score = rng.normal(size=40), rng.normal(size=40)
    for metric in (ndcg, best_of_n):
        np.testing.assert_allclose(
            metric(lists(prompt, np.exp(reward), 20 * score - 3)), metric(lists(prompt, reward, score))
        )


def test_best_of_n_by_hand() -> None:
    scores = [1.0, 2.0, 6.0]  # mean 3, best 6
    assert best_of_n(one_list([0, 0, 1], scores))[0] == 1
    assert best_of_n(one_list([0, 1, 0], scores))[0] == pytest.approx((2 - 3) / (6 - 3))
    assert best_of_n(one_list([1, 1, 0], scores))[0] == pytest.approx((1.5 - 3) / 3)  # a tie counts its mean
    assert best_of_n(one_list([0, 0, 0], scores))[0] == pytest.approx(0)


def test_a_random_reward_gains_nothing() -> None:
    rng = np.random.default_rng(1)
    prompt = np.repeat(np.arange(4000).astype(str), 4).astype(object)
    assert best_of_n(lists(prompt, rng.normal(size=16000), rng.normal(size=16000))).mean() == pytest.approx(0, abs=0.04)


def test_lists_of_unlike_length_and_missing_values_stand_apart() -> None:
    prompt = np.array(["a", "a", "a", "b", "b", "c", "d", "d"], dtype=object)
    reward = np.array([1.0, 2.0, 3.0, 1.0, NAN, 1.0, 1.0, 2.0])
    score = np.array([1.0, 2.0, 3.0, 1.0, 2.0, 3.0, 4.0, 4.0])
    found = lists(prompt, reward, score)
    assert found.prompt.tolist() == ["a", "b", "c", "d"]
    assert found.sizes.tolist() == [3, 1, 1, 2]
    for values in (ndcg(found), best_of_n(found), correlations(found)[0]):
        assert values[0] == 1
        assert np.isnan(values[1:]).all()  # one usable response, one response, equal scores
    nothing = lists(prompt[:0], reward[:0], score[:0])
    assert [len(ndcg(nothing)), len(best_of_n(nothing)), len(correlations(nothing)[1])] == [0, 0, 0]
