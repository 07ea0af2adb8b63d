"""The held-out data of a run: a list of unique responses to score, and the tables that take their scores."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from harness.api import Dataset, Message, Pair, ScoreRequest
from harness.data.template import RefusedError
from harness.data.tokens import REFUSED, SAME_TOKENS, Encoded, Limits, encode_each, nothing_left, refused_error

SIDES = ("chosen", "rejected")

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
    seams_moved: int
    """Number of held-out pairs whose responses have tokens of the generation prompt."""
    fingerprint: str
    """16 hex digits over the ids of all requests."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Pairs and responses left out, by split and reason."""


def held_out(
    tokenizer: PreTrainedTokenizerBase, dataset: Dataset, evaluate_on: str, limits: Limits, *, lenient: bool = False
) -> HeldOut:
    """Return the held-out data of the split "test" or "dev", tokenised; the length-balanced pairs belong to "test".

    Pairs with the same tokens on both sides are left out and counted. Raises `HarnessError` for the first response
    that the chat template refuses, unless lenient, and where no pair is left.
    """
    rows, responses = _listed(dataset, evaluate_on)
    encoded = encode_each(tokenizer, [(response.context, response.text) for response in responses], limits)
    kept, left_out = _kept(tokenizer, rows, responses, encoded, lenient)
    if not any(row["split"] == evaluate_on for row in kept):
        raise nothing_left(evaluate_on, left_out)
    needed = {row[side] for row in kept for side in SIDES}
    sequences: list[Encoded] = []
    place = {}
    for index, (response, sequence) in enumerate(zip(responses, encoded, strict=True)):
        if isinstance(sequence, Encoded) and (response.listwise or index in needed):
            place[index] = len(sequences)
            sequences.append(sequence)
    table = pd.DataFrame([row | {side: place[int(row[side])] for side in SIDES} for row in kept])
    main = table[table["split"] == evaluate_on]
    cut = np.array([sequence.truncated for sequence in sequences], dtype=bool)
    moved = np.array([sequence.seam_moved for sequence in sequences], dtype=bool)
    requests = tuple(ScoreRequest(prompt=sequence.prompt_ids, response=sequence.response_ids) for sequence in sequences)
    digest = hashlib.sha256(json.dumps([[request.prompt, request.response] for request in requests]).encode())
    return HeldOut(
        requests=requests,
        pairs=table,
        responses=pd.DataFrame([responses[index].row(evaluate_on) for index in place]),
        truncated_pairs=int((cut[main["chosen"]] | cut[main["rejected"]]).sum()),
        seams_moved=int(moved[main["chosen"]].sum()),
        fingerprint=digest.hexdigest()[:16],
        left_out=left_out,
    )


def _listed(dataset: Dataset, evaluate_on: str) -> tuple[list[TableRow], list[_Response]]:
    """Return a row per held-out pair, and every response once."""
    splits: list[tuple[str, Sequence[Pair]]] = [(evaluate_on, dataset.test if evaluate_on == "test" else dataset.dev)]
    if evaluate_on == "test":
        splits.append(("test_lenbalanced", dataset.test_lenbalanced))
    listwise = dataset.listwise_test if evaluate_on == "test" else dataset.listwise_dev
    unique: dict[str, _Response] = {}
    # lists before the pairs: a response keeps its first score, and a pair's may be relative to the pair
    for prompt in listwise:
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
    return rows, list(unique.values())


def _kept(
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[TableRow],
    responses: Sequence[_Response],
    encoded: Sequence[Encoded | RefusedError],
    lenient: bool,
) -> tuple[list[TableRow], dict[str, int]]:
    """Return the rows of the pairs that can be scored and told apart, and how many others there are, by reason."""
    left_out: Counter[str] = Counter()
    kept = []
    for row in rows:
        chosen, rejected = (encoded[int(row[side])] for side in SIDES)
        if isinstance(chosen, RefusedError) or isinstance(rejected, RefusedError):
            if not lenient:
                refusal = chosen if isinstance(chosen, RefusedError) else rejected
                context = responses[int(row["chosen"])].context
                raise refused_error(tokenizer, f"pair '{row['pair_id']}' of {row['split']}", context, refusal)
            left_out[f"{row['split']}: {REFUSED}"] += 1
        elif chosen.response_ids == rejected.response_ids:
            left_out[f"{row['split']}: {SAME_TOKENS}"] += 1
        else:
            kept.append(row)
    for response, sequence in zip(responses, encoded, strict=True):
        if response.listwise and isinstance(sequence, RefusedError):
            if not lenient:
                what = f"response '{response.response_id}' to prompt '{response.prompt_id}'"
                raise refused_error(tokenizer, what, response.context, sequence)
            left_out[f"listwise: {REFUSED}"] += 1
    return kept, dict(left_out)


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
