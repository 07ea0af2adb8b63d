"""Mismatched completions: for each prompt a response that answers another one (KTO's estimate of the KL term).

They are fixed once for a data set: neither the budget, the order nor the batches change which pair has which. The
usual way, the neighbour in the batch, depends on all three, and can give the other answer to the same prompt.
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
    """Return for each pair the ids of a mismatched response: that of a random pair of another prompt, either side.

    `prompt_ids` names the prompt of each pair. A response is cut on the right so that prompt + response fits
    `max_length` tokens. Raises `HarnessError` where there is only one prompt.
    """
    _, prompt = np.unique(np.asarray(prompt_ids), return_inverse=True)
    sizes = np.bincount(prompt)
    if len(sizes) < 2:
        raise HarnessError(
            f"got training pairs of {len(sizes)} prompt, expected at least 2, to mismatch prompts and responses; "
            "give more data or leave out the losses that need it (kto)"
        )
    generator = np.random.default_rng([seed, 23])
    order = np.argsort(prompt, kind="stable")  # a prompt's pairs stand together, and are stepped over
    first, size = (np.cumsum(sizes) - sizes)[prompt], sizes[prompt]
    place = generator.integers(0, len(tokens) - size)
    donors = order[np.where(place >= first, place + size, place)]
    sides = generator.random(len(tokens)) < 0.5
    done = []
    for pair, donor, side in zip(tokens, donors, sides, strict=True):
        response = tokens[donor].chosen_ids if side else tokens[donor].rejected_ids
        room = max_length - len(pair.prompt_ids)
        assert room > 0, "the limits leave room for a response"
        done.append(tuple(response[:room]))
    return tuple(done)


def fingerprint(responses: Sequence[Sequence[int]]) -> str:
    """Return 16 hex digits over all ids."""
    digest = hashlib.sha256()
    for ids in responses:
        digest.update(np.array([len(ids), *ids], dtype="<i4").tobytes())
    return digest.hexdigest()[:16]
