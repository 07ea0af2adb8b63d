"""The estimators of the KL divergence against pairs of models whose divergence is known by enumeration."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest

from harness.statistics.divergence import kl_log_ratio, kl_low_variance
from harness.statistics.intervals import Floats

STOP, LONGEST = 0, 4


class Answer(NamedTuple):
    tokens: tuple[int, ...]
    policy: Floats
    reference: Floats


def answers_of(rng: np.random.Generator, vocabulary: int, apart: float) -> list[Answer]:
    """Return every answer that two models can give, which differ at each place: up to 4 tokens, or to the stop."""
    tables: dict[tuple[int, ...], tuple[Floats, Floats]] = {}
    for length in range(LONGEST):
        for prefix in itertools.product(range(1, vocabulary), repeat=length):
            logits = rng.normal(size=vocabulary)
            tables[prefix] = log_softmax(logits + apart * rng.normal(size=vocabulary)), log_softmax(logits)
    ended = [(*prefix, STOP) for prefix in tables]
    whole = list(itertools.product(range(1, vocabulary), repeat=LONGEST))
    return [
        Answer(
            tokens,
            np.array([tables[tokens[:place]][0][token] for place, token in enumerate(tokens)]),
            np.array([tables[tokens[:place]][1][token] for place, token in enumerate(tokens)]),
        )
        for tokens in [*ended, *whole]
    ]


def log_softmax(logits: Floats) -> Floats:
    result: Floats = logits - np.log(np.exp(logits).sum())
    return result


@pytest.mark.parametrize("apart", [0.2, 1.0])
@pytest.mark.parametrize("estimator", [kl_log_ratio, kl_low_variance], ids=lambda estimator: estimator.__name__)
def test_the_known_divergence_lies_inside_95_percent_intervals_in_92_percent_of_200_draws(
    estimator: Callable[..., Floats], apart: float
) -> None:
    rng = np.random.default_rng(8)
    possible = answers_of(rng, 4, apart)
    chances = np.exp([each.policy.sum() for each in possible])
    assert chances.sum() == pytest.approx(1)
    known = sum(chance * (each.policy - each.reference).sum() for chance, each in zip(chances, possible, strict=True))
    of_each = estimator([each.policy for each in possible], [each.reference for each in possible])
    assert chances @ of_each == pytest.approx(known)  # unbiased

    covered = 0
    for _ in range(200):
        values = of_each[rng.choice(len(possible), size=200, p=chances)]
        half = 1.96 * values.std(ddof=1) / np.sqrt(len(values))
        covered += abs(values.mean() - known) <= half
    assert covered >= 184


def test_the_low_variance_form_is_never_negative_and_varies_less_for_models_that_are_close() -> None:
    rng = np.random.default_rng(9)
    possible = answers_of(rng, 3, 0.2)
    policy, reference = [each.policy for each in possible], [each.reference for each in possible]
    low, ratio = kl_low_variance(policy, reference), kl_log_ratio(policy, reference)
    assert low.min() >= 0
    assert ratio.min() < 0
    chances = np.exp([each.sum() for each in policy])

    def variance(values: Floats) -> float:
        return float(chances @ values**2 - (chances @ values) ** 2)

    assert variance(low) < variance(ratio) / 4


def test_a_policy_that_is_its_reference_is_at_zero() -> None:
    logps = [np.array([-1.0, -2.5]), np.array([-0.1])]
    assert list(kl_log_ratio(logps, logps)) == [0, 0]
    assert list(kl_low_variance(logps, logps)) == [0, 0]
