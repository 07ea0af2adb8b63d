"""Mismatched completions: for each pair a response to another prompt, for KTO's estimate of the KL divergence.

They are drawn once for a data set: budget, order and batches do not change which pair has which. The usual choice, the
next response in the batch, depends on all three, and may be another answer to the same prompt.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from harness.api import HarnessError
from harness.data.tokens import TokenPair


def mismatched(
    tokens: Sequence[TokenPair], prompt_ids: Sequence[str], max_length: int, seed: int
) -> tuple[tuple[int, ...], ...]:
    """Return for each pair the ids of a mismatched response: either side of a random pair of another prompt.

    `prompt_ids` names the prompt of each pair. A response is cut on the right so that prompt + response fits
    `max_length` tokens. Raises `HarnessError` if there is only one prompt.
    """
    _, prompt = np.unique(np.asarray(prompt_ids), return_inverse=True)
    sizes = np.bincount(prompt)
    if len(sizes) < 2:
        raise HarnessError(
            f"got training pairs of {len(sizes)} prompt, expected at least 2, for responses to another prompt; "
            "give more data or leave out the losses that need mismatched completions (kto)"
        )
    generator = np.random.default_rng([seed, 23])
    order = np.argsort(prompt, kind="stable")  # the pairs of a prompt lie side by side, so that a draw can skip them
    first, size = (np.cumsum(sizes) - sizes)[prompt], sizes[prompt]
    place = generator.integers(0, len(tokens) - size)
    donors = order[np.where(place >= first, place + size, place)]
    sides = generator.random(len(tokens)) < 0.5
    cut = []
    for pair, donor, side in zip(tokens, donors, sides, strict=True):
        response = tokens[donor].chosen_ids if side else tokens[donor].rejected_ids
        room = max_length - len(pair.prompt_ids)
        assert room > 0, "the limits leave room for a response"
        cut.append(tuple(response[:room]))
    return tuple(cut)


def fingerprint(responses: Sequence[Sequence[int]]) -> str:
    """Return 16 hex digits over the ids of all responses."""
    digest = hashlib.sha256()
    for ids in responses:
        digest.update(np.array([len(ids), *ids], dtype="<i4").tobytes())
    return digest.hexdigest()[:16]
