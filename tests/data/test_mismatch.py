"""Mismatched completions: another prompt's, either side, fixed once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.api import HarnessError
from harness.data.mismatch import fingerprint, mismatched
from harness.data.tokens import TokenPair


def pair(index: int, prompt_length: int = 2, length: int = 3) -> TokenPair:
    """A pair whose responses name it: chosen is [index, 1, ...], rejected [index, 2, ...]."""
    chosen, rejected = ((index, side, *[9] * (length - 2)) for side in (1, 2))
    prompt = (7,) * prompt_length
    return TokenPair(pair_id=str(index), prompt_ids=prompt, chosen_ids=chosen, rejected_ids=rejected, truncated=False)


@given(
    st.lists(st.integers(0, 4), min_size=2, max_size=30).filter(lambda names: len(set(names)) > 1), st.integers(0, 9)
)
def test_a_mismatch_is_never_the_same_prompts(names: list[int], seed: int) -> None:
    found = mismatched([pair(i) for i in range(len(names))], [f"p{name}" for name in names], 100, seed)
    assert len(found) == len(names)
    assert all(names[donor] != name for name, (donor, *_) in zip(names, found, strict=True))


def test_every_response_of_the_other_prompts_is_as_likely_as_any_other() -> None:
    names = ["a", "a", "b", "b", "b", "c"]
    tokens = [pair(i) for i in range(6)]
    counts = np.zeros((6, 3))
    for seed in range(4000):
        donor, side, _ = mismatched(tokens, names, 100, seed)[0]
        counts[donor, side] += 1
    # 4 pairs of other prompts x 2 sides, 500 each expected, standard deviation sqrt(4000 * 1/8 * 7/8) = 21
    assert np.abs(counts[2:, 1:] - 500).max() < 4 * 21
    assert counts[:2].sum() == 0


def test_they_depend_on_the_seed_alone() -> None:
    tokens, names = [pair(i) for i in range(20)], [f"p{i}" for i in range(20)]
    assert mismatched(tokens, names, 100, 1) == mismatched(tokens, names, 100, 1)
    assert mismatched(tokens, names, 100, 1) != mismatched(tokens, names, 100, 2)


def test_prompt_and_mismatch_fit_the_limit() -> None:
    tokens = [pair(i, prompt_length=3 + 5 * (i % 2), length=6) for i in range(8)]
    found = mismatched(tokens, [str(i) for i in range(8)], 10, 0)
    assert [len(ids) for ids in found] == [6, 2] * 4  # 10 - 3 leaves room for all 6, 10 - 8 for 2


def test_one_prompt_alone_has_nothing_to_mismatch() -> None:
    with pytest.raises(HarnessError, match=r"got training pairs of 1 prompt, expected at least 2.*give more data"):
        mismatched([pair(0), pair(1)], ["a", "a"], 100, 0)


def test_the_fingerprint_tells_other_ids_and_other_borders_apart() -> None:
    assert len({fingerprint(ids) for ids in ([(1, 2), (3,)], [(1,), (2, 3)], [(1, 2), (4,)])}) == 3
