"""The canary: a scorer that is off is caught in fp32 and reported in bf16."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.api import HarnessError, ScoreRequest
from harness.score.canary import PAIRS, canary_parity

REQUESTS = tuple(ScoreRequest(prompt=(1,), response=(index,)) for index in range(20))
HELD_OUT: Any = SimpleNamespace(requests=REQUESTS, pairs=pd.DataFrame({"chosen": range(10), "rejected": range(10, 20)}))
SUMS = -np.arange(20.0)


class Canary:
    """Gives the same sums but for an error, and remembers what it was asked."""

    def __init__(self, error: float) -> None:
        self.error, self.asked = error, list[ScoreRequest]()

    def score(self, requests: list[ScoreRequest]) -> np.ndarray:
        self.asked += requests
        return np.array([SUMS[request.response[0]] for request in requests]) + self.error


def test_only_the_responses_of_the_first_pairs_are_scored_again() -> None:
    canary: Any = Canary(0.0)
    assert canary_parity(canary, HELD_OUT, SUMS, scorer="vllm", dtype="float32") == 0.0
    assert [request.response[0] for request in canary.asked] == [0, 1, 2, 3, 10, 11, 12, 13]
    assert PAIRS == 4


def test_a_difference_is_an_error_in_fp32_and_a_number_in_bf16() -> None:
    canary: Any = Canary(0.25)
    assert canary_parity(canary, HELD_OUT, SUMS, scorer="vllm", dtype="bfloat16") == 0.25
    with pytest.raises(HarnessError, match=r"vllm and transformers disagree by 0\.25 nats .* pass --scorer transf"):
        canary_parity(canary, HELD_OUT, SUMS, scorer="vllm", dtype="float32")


def test_without_a_second_scorer_there_is_no_parity() -> None:
    assert canary_parity(None, HELD_OUT, SUMS, scorer="transformers", dtype="float32") is None
