"""The control `shuffled-labels`: training pairs of which exactly half have chosen and rejected swapped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from harness.api import Pair
from harness.data.tokens import TokenPair


def shuffled(pairs: Sequence[Pair], visited: np.ndarray, control: str, seed: int) -> np.ndarray:
    """Return which training pairs have chosen and rejected swapped, (pairs,) bool: none but under `shuffled-labels`.

    The visited pairs are sorted by score gap and taken two by two; of every two one is swapped, at random. So exactly
    half are, of the large gaps as of the small ones: independent swaps would leave a chance surplus of right labels,
    which a loss then learns.
    """
    swapped = np.zeros(len(pairs), dtype=bool)
    if control == "shuffled-labels":
        gaps = np.nan_to_num([pairs[i].score_chosen - pairs[i].score_rejected for i in visited])
        ordered = visited[np.argsort(gaps, kind="stable")]
        first = np.random.default_rng([seed, 17]).random(len(ordered) // 2) < 0.5
        swapped[ordered[0 : 2 * len(first) : 2]] = first
        swapped[ordered[1 : 2 * len(first) : 2]] = ~first
    return swapped


def swap_pairs(pairs: Sequence[Pair], swapped: np.ndarray) -> list[Pair]:
    """Return the pairs with chosen and rejected exchanged where `swapped`, (pairs,) bool."""
    return [
        replace(pair, chosen=pair.rejected, rejected=pair.chosen) if swap else pair
        for pair, swap in zip(pairs, swapped, strict=True)
    ]


def swap_tokens(tokens: Sequence[TokenPair], swapped: np.ndarray) -> list[TokenPair]:
    """Return the ids with chosen and rejected exchanged where `swapped`, (pairs,) bool."""
    return [
        replace(ids, chosen_ids=ids.rejected_ids, rejected_ids=ids.chosen_ids) if swap else ids
        for ids, swap in zip(tokens, swapped, strict=True)
    ]
