"""Small training pairs of random tokens, for tests of what a training does with them."""

from __future__ import annotations

import numpy as np

from harness.api import Message, Pair
from harness.data.tokens import TokenPair


def made_tokens(rng: np.random.Generator, count: int) -> list[TokenPair]:
    """Return pairs of four tokens of prompt and responses of three to seven and of three to five."""
    return [
        TokenPair(
            pair_id=str(i),
            prompt_ids=tuple(rng.integers(5, 60, 4).tolist()),
            chosen_ids=tuple(rng.integers(5, 60, 3 + i % 5).tolist()),
            rejected_ids=tuple(rng.integers(5, 60, 3 + i % 3).tolist()),
            truncated=False,
        )
        for i in range(count)
    ]


def made_pairs(count: int) -> list[Pair]:
    """Return the pairs as text, each of a prompt of its own, with scores."""
    return [
        Pair(
            pair_id=str(i), prompt_id=str(i), context=(Message(role="user", content="do"),), chosen="a b",
            rejected="a c", score_chosen=3.0 + i % 3, score_rejected=2.0,
        )
        for i in range(count)
    ]  # fmt: skip
