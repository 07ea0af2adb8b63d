"""A response that stands in several pairs or files is scored once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.api import Dataset, Listwise, Message, Pair, Response, ScorerOptions
from harness.data.heldout import HeldOut, held_out
from harness.data.tokens import Limits
from harness.models.families import FAMILIES
from harness.models.nano import train_tokenizer
from harness.score import transformers as scorer

LIMITS = Limits(max_length=60, max_prompt=40)


def a_pair(name: str, prompt_id: str, question: str, chosen: str, rejected: str) -> Pair:
    context = (Message(role="user", content=question),)
    return Pair(pair_id=name, prompt_id=prompt_id, context=context, chosen=chosen, rejected=rejected)


def with_duplicates() -> HeldOut:
    """Red, Blue and None to one question, met in two pairs and two more files; and asked again under another name."""
    test = (
        a_pair("1", "p", "Which colour?", "Red.", "Blue."),
        a_pair("2", "p", "Which colour?", "Red.", "None."),
        a_pair("3", "q", "Which colour?", "Blue.", "Red."),
    )
    listed = tuple(Response(response_id=str(n), text=text) for n, text in enumerate(("Blue.", "Red.", "None.")))
    listwise = Listwise(prompt_id="p", context=test[0].context, responses=listed)
    data = Dataset(name="few", train=(), dev=(), test=test, test_lenbalanced=test[:1], listwise_test=(listwise,))
    return held_out(train_tokenizer(FAMILIES["qwen"], ["Which colour?"], 290), data, "test", LIMITS)


def test_a_response_in_several_pairs_and_files_is_one_request() -> None:
    held = with_duplicates()
    assert held.responses["prompt_id"].tolist() == ["p", "p", "p", "q", "q"]  # listwise first: Blue, Red, None
    assert held.pairs["split"].tolist() == ["test", "test", "test", "test_lenbalanced"]
    assert held.pairs[["chosen", "rejected"]].to_numpy().tolist() == [[1, 0], [1, 2], [3, 4], [1, 0]]
    assert len(held.requests) == 5


def test_the_same_ids_under_two_prompt_ids_go_through_the_engine_once(
    make_checkpoint: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    held = with_duplicates()
    live = scorer.open_transformers(make_checkpoint("qwen"), ScorerOptions(max_length=60))
    asked: list[int] = []
    plain = scorer.sequence_log_probs
    monkeypatch.setattr(
        scorer, "sequence_log_probs", lambda model, unique: asked.append(len(unique)) or plain(model, unique)
    )
    sums = live.score(held.requests)
    assert asked == [3]
    np.testing.assert_array_equal(sums[[3, 4]], sums[[0, 1]])
