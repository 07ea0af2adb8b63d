"""The held-out data of a run: a list of unique responses to score, and the tables that take their scores."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from harness.api import Dataset, Message, Pair, ScoreRequest
from harness.data.tokens import Limits, encode_many

TableRow = dict[str, str | float | bool]
"""A row of a table by the names of its columns, before it has scores."""

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Every held-out response once, and for each pair the places of its two responses."""

    requests: tuple[ScoreRequest, ...]
    pairs: pd.DataFrame
    """One row per pair: ids, split, scores, true quality, characters; `chosen`, `rejected` index into `requests`."""
    responses: pd.DataFrame
    """One row per request, in order: ids, split, score, true quality, characters, `listwise`."""
    truncated_pairs: int
    """Number of held-out pairs that were cut to the limits."""
    fingerprint: str
    """16 hex digits over the ids of all requests."""


def held_out(tokenizer: PreTrainedTokenizerBase, dataset: Dataset, evaluate_on: str, limits: Limits) -> HeldOut:
    """Return the held-out data of the split "test" or "dev", tokenised; the length-balanced pairs belong to "test"."""
    splits: list[tuple[str, Sequence[Pair]]] = [(evaluate_on, dataset.test if evaluate_on == "test" else dataset.dev)]
    if evaluate_on == "test":
        splits.append(("test_lenbalanced", dataset.test_lenbalanced))
    listwise = dataset.listwise_test if evaluate_on == "test" else dataset.listwise_dev
    unique: dict[str, _Response] = {}
    for (
        prompt
    ) in listwise:  # before the pairs: a response keeps its first score, and a pair's may be relative to the pair
        for response in prompt.responses:
            _add(unique, prompt.prompt_id, prompt.context, response.text, response.score, response.true_quality, True)
    rows = []
    for split, pairs in splits:
        for pair in pairs:
            sides = [
                _add(unique, pair.prompt_id, pair.context, text, score, truth, False)
                for text, score, truth in (
                    (pair.chosen, pair.score_chosen, pair.true_chosen),
                    (pair.rejected, pair.score_rejected, pair.true_rejected),
                )
            ]
            rows.append(_pair_row(pair, split, sides))
    responses = list(unique.values())
    encoded = encode_many(tokenizer, [(response.context, response.text) for response in responses], limits)
    cut = np.array([sequence.truncated for sequence in encoded], dtype=bool)
    table = pd.DataFrame(rows)
    main = table[table["split"] == evaluate_on]
    requests = tuple(ScoreRequest(prompt=sequence.prompt_ids, response=sequence.response_ids) for sequence in encoded)
    digest = hashlib.sha256(json.dumps([[request.prompt, request.response] for request in requests]).encode())
    return HeldOut(
        requests=requests,
        pairs=table,
        responses=pd.DataFrame([response.row(evaluate_on) for response in responses]),
        truncated_pairs=int((cut[main["chosen"]] | cut[main["rejected"]]).sum()),
        fingerprint=digest.hexdigest()[:16],
    )


@dataclass(frozen=True, kw_only=True)
class _Response:
    index: int
    response_id: str
    prompt_id: str
    context: tuple[Message, ...]
    text: str
    score: float
    true_quality: float
    listwise: bool

    def row(self, split: str) -> TableRow:
        """Return its row of the table of responses, before it has scores."""
        return {
            "prompt_id": self.prompt_id,
            "response_id": self.response_id,
            "split": split,
            "score": self.score,
            "true_quality": self.true_quality,
            "characters": len(self.text),
            "listwise": self.listwise,
        }


def _add(
    unique: dict[str, _Response],
    prompt_id: str,
    context: tuple[Message, ...],
    text: str,
    score: float,
    truth: float,
    listwise: bool,
) -> _Response:
    """Return the response with this text to this prompt, added to `unique` if it is new."""
    turns = [turn.parts for turn in context]
    name = hashlib.sha256(json.dumps([prompt_id, turns, text]).encode()).hexdigest()[:16]
    return unique.setdefault(
        name,
        _Response(
            index=len(unique),
            response_id=name,
            prompt_id=prompt_id,
            context=context,
            text=text,
            score=score,
            true_quality=truth,
            listwise=listwise,
        ),
    )


def _pair_row(pair: Pair, split: str, sides: Sequence[_Response]) -> TableRow:
    """Return a pair's row of the table of pairs; `chosen` and `rejected` say where its responses are."""
    chosen, rejected = sides
    return {
        "pair_id": pair.pair_id,
        "prompt_id": pair.prompt_id,
        "split": split,
        "score_chosen": pair.score_chosen,
        "score_rejected": pair.score_rejected,
        "gap": pair.score_chosen - pair.score_rejected,
        "true_chosen": pair.true_chosen,
        "true_rejected": pair.true_rejected,
        "chosen_characters": len(pair.chosen),
        "rejected_characters": len(pair.rejected),
        "chosen_response_id": chosen.response_id,
        "rejected_response_id": rejected.response_id,
        "chosen": chosen.index,
        "rejected": rejected.index,
    }
