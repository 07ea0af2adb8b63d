"""Training lists -> all their pairs, for selectors that pair anew."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from itertools import combinations

from harness.api import Dataset, Listwise, Pair, Response
from harness.data.prompts import PromptSet, pair_id_of, without


def list_pairs(data: Dataset) -> tuple[Pair, ...]:
    """Return every pair of two responses with different scores and texts to a training prompt, the higher one chosen.

    A prompt that is held out gives none, whoever brings the data.
    """
    held_out = PromptSet.of((*data.dev, *data.test, *data.test_lenbalanced, *data.listwise_dev, *data.listwise_test))
    return tuple(
        pair_of(prompt, *both, pair_id_of(prompt.prompt_id, prompt.context, *(each.text for each in both)))
        for prompt in without(data.listwise_train, held_out)
        for both in _apart(prompt)
    )


def pairable(lists: Iterable[Listwise]) -> int:
    """Return how many prompts have a pair."""
    return len({prompt.prompt_id for prompt in lists if any(True for _ in _apart(prompt))})


def _apart(prompt: Listwise) -> Iterator[tuple[Response, Response]]:
    scored = [response for response in prompt.responses if math.isfinite(response.score)]
    for first, second in combinations(scored, 2):
        if first.score != second.score and first.text != second.text:
            yield (first, second) if first.score > second.score else (second, first)


def pair_of(prompt: Listwise, chosen: Response, rejected: Response, pair_id: str) -> Pair:
    """Return the pair of two responses of a list."""
    return Pair(
        pair_id=pair_id,
        prompt_id=prompt.prompt_id,
        context=prompt.context,
        chosen=chosen.text,
        rejected=rejected.text,
        score_chosen=chosen.score,
        score_rejected=rejected.score,
        true_chosen=chosen.true_quality,
        true_rejected=rejected.true_quality,
        subset=prompt.subset,
    )
