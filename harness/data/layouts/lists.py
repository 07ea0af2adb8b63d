"""Rows with several scored responses to a prompt -> `RawList`; and the rule by which a list becomes a pair."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.api import Listwise, Pair, Response
from harness.data.layouts.pairs import Reading, context, prompt_id, subset
from harness.data.layouts.raw_pair import ABSENT, Absent, Column, RawList
from harness.data.layouts.values import as_list, as_turns, number
from harness.data.prompts import pair_id_of
from harness.data.raw import NoPairError, RowError, quoted

TEXTS = ("content", "response", "text", "completion", "output", "answer", "generation")
SCORES = ("score", "overall_score", "rating", "reward", "average_rating", "avg_rating", "fine-grained_score", "quality")
MODELS = ("model", "model_name", "generator", "name")
LABELS = {**dict.fromkeys(("true", "1", "1.0", "desirable", "good"), 1.0), **dict.fromkeys(("false", "0", "0.0"), 0.0)}
LABELS |= dict.fromkeys(("undesirable", "bad", "-1"), 0.0)
LABEL_RULE = "the good completions of a prompt with its bad ones, in the order of the rows"
RULE = "best score against another response drawn with the data seed, as UltraFeedback was binarised"


@dataclass(frozen=True, kw_only=True)
class Keys:
    """Under which keys the responses of a table have their text, score and model."""

    content: str = "content"
    score: str = "score"
    model: str = "model"


def keys_of(lists: Iterable[object]) -> Keys:
    """Return the keys of the first response that is an object; the first known name counts."""
    entry = next(
        (each for items in map(as_list, lists) if isinstance(items, list) for each in items if isinstance(each, dict)),
        {},
    )
    known = [next((name for name in names if name in entry), names[0]) for names in (TEXTS, SCORES, MODELS)]
    return Keys(content=known[0], score=known[1], model=known[2])


def scored_list(row: Mapping[str, Any], reading: Reading, keys: Keys) -> RawList:
    """Return the prompt of a row with its responses."""
    responses = reading.column(row, "completions")
    assert responses is not None
    assert reading.roles.prompt is not None
    apart = reading.column(row, "scores")
    texts = as_list(responses.value)
    responses = Column(name=responses.name, value=texts)
    if apart is not None and isinstance(texts, list) and all(isinstance(text, str) for text in texts):
        ratings = as_list(apart.value)
        if not isinstance(ratings, list) or len(ratings) != len(texts):
            got = f"a list of {len(ratings)}" if isinstance(ratings, list) else _got(ratings)
            raise RowError("bad scores", (apart.name,), f"{apart.name} is {got}, expected {len(texts)} numbers")
        entries = [{"content": text, "score": score} for text, score in zip(texts, ratings, strict=True)]
        responses, keys = Column(name=responses.name, value=entries), Keys()
    return RawList(
        prompt=Column(name=reading.roles.prompt, value=context(row, reading)),
        prompt_id=prompt_id(row, reading),
        responses=responses,
        content=keys.content,
        score=keys.score,
        model=keys.model,
        subset=subset(row, reading),
    )


def single(row: Mapping[str, Any], reading: Reading) -> RawList:
    """Return the one response of a row as a list: rows of one prompt are put together later."""
    text, score = reading.column(row, "completion"), reading.column(row, "scores")
    assert text is not None
    assert score is not None
    assert reading.roles.prompt is not None
    return _one(row, reading, text, number(score.value, reading.textual))


def labelled(row: Mapping[str, Any], reading: Reading) -> RawList:
    """Return the one response of a row as a list, with the score 1 where its label says that it is good, else 0."""
    text, label = reading.column(row, "completion"), reading.column(row, "desirable")
    assert text is not None
    assert label is not None
    said = LABELS.get(str(label.value).lower())
    if said is None:
        got = _got(label.value)
        raise RowError("bad label", (label.name,), f"{label.name} is {got}, expected true or false")
    return _one(row, reading, text, said)


def _one(row: Mapping[str, Any], reading: Reading, text: Column, score: object) -> RawList:
    assert reading.roles.prompt is not None
    turns = as_turns(text.value)
    only = turns[0] if isinstance(turns, list) and len(turns) == 1 else None
    said = only.get("content") if isinstance(only, dict) and only.get("role") == "assistant" else text.value
    entry = {name: value for name, value in (("content", said), ("score", score)) if value is not ABSENT}
    return RawList(
        prompt=Column(name=reading.roles.prompt, value=context(row, reading)),
        prompt_id=prompt_id(row, reading),
        responses=Column(name=text.name, value=[entry]),
        subset=subset(row, reading),
    )


def by_label(prompt: Listwise) -> list[Pair]:
    """Return the good responses of a prompt paired with its bad ones, the first with the first and so on."""
    good, bad = ([each.text for each in prompt.responses if each.score == score] for score in (1, 0))
    pairs = [
        Pair(
            pair_id=pair_id_of(prompt.prompt_id, prompt.context, chosen, rejected),
            prompt_id=prompt.prompt_id,
            context=prompt.context,
            chosen=chosen,
            rejected=rejected,
            subset=prompt.subset,
        )
        for chosen, rejected in zip(good, bad, strict=False)
        if chosen != rejected
    ]
    if not pairs:
        raise NoPairError("prompts without completions of both labels", (), "the prompt has one label only")
    return pairs


def together(lists: tuple[Listwise, ...]) -> tuple[Listwise, ...]:
    """Return one list per prompt, in the order of their first rows."""
    by_prompt: dict[str, list[Response]] = {}
    first: dict[str, Listwise] = {}
    for each in lists:
        first.setdefault(each.prompt_id, each)
        by_prompt.setdefault(each.prompt_id, []).extend(each.responses)
    return tuple(
        replace(
            first[name],
            responses=tuple(replace(response, response_id=str(index)) for index, response in enumerate(responses)),
        )
        for name, responses in by_prompt.items()
    )


def binarised(prompt: Listwise, seed: int) -> Pair:
    """Return the best response against another one, drawn by the sha256 of seed and prompt id."""
    best = max(prompt.responses, key=lambda response: response.score)
    others = [response for response in prompt.responses if response.text != best.text]
    if not others:
        raise NoPairError("fewer than two different responses", (), "the prompt has no second response")
    draw = hashlib.sha256(f"binarise:{seed}:{prompt.prompt_id}".encode()).digest()
    other = others[int.from_bytes(draw[:8], "big") % len(others)]
    return Pair(
        pair_id=pair_id_of(prompt.prompt_id, prompt.context, best.text, other.text),
        prompt_id=prompt.prompt_id,
        context=prompt.context,
        chosen=best.text,
        rejected=other.text,
        score_chosen=best.score,
        score_rejected=other.score,
        subset=prompt.subset,
    )


def _got(value: object) -> str:
    return "missing" if isinstance(value, Absent) else quoted(value)
