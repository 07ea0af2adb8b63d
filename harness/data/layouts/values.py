"""What a cell holds: turns in any spelling of the field, a transcript, or plain text; and numbers in CSV."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from typing import Literal

Kind = Literal["turns", "reply", "transcript", "text"]
"""Turns from the first one on, the last turn alone, turns as one text, any other text."""
KINDS: tuple[Kind, ...] = ("turns", "reply", "transcript", "text")
SPEAKERS = {
    **dict.fromkeys(("human", "user", "prompter"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bot", "model", "bing", "bard"), "assistant"),
    "system": "system",
    **dict.fromkeys(("tool", "observation", "function_response"), "tool"),
}
"""Roles by the names that sharegpt's `from` and transcripts have for them."""
MARK = re.compile(r"(?:\A\s*|\n[ \t]*\n\s*)(Human|User|Assistant|System):[ \t]*", re.IGNORECASE)
LINE_MARK = re.compile(r"(?:\A\s*|\n\s*)(Human|User|Assistant|System):[ \t]*", re.IGNORECASE)


def as_turns(value: object, *, alone: bool = True) -> object:
    """Return turns as a list of {role, content}, whatever they were written as; any other value as it is.

    `alone`: whether one turn may stand without a list around it.
    """
    if isinstance(value, str):
        value = _from_text(value)
    if isinstance(value, dict):
        columns = [value.get(key) for key in ("role", "content")]
        if all(isinstance(column, list) for column in columns):  # a column for each key: how older `datasets` save
            value = [dict(zip(value, cells, strict=False)) for cells in zip(*value.values(), strict=False)]
        elif alone:
            value = [value]
    return [_turn(turn) for turn in value] if isinstance(value, list) else value


def as_transcript(text: object) -> object:
    """Return the turns of `Human: ... Assistant: ...` as a list; any other value as it is."""
    if not isinstance(text, str):
        return text
    for mark in (MARK, LINE_MARK):
        pieces = mark.split(text)
        speakers = [SPEAKERS[name.lower()] for name in pieces[1::2]]
        if not pieces[0].strip() and speakers and speakers[0] != "assistant":
            turns = [{"role": role, "content": said.strip()} for role, said in zip(speakers, pieces[2::2], strict=True)]
            if len(turns) > 1:
                return turns
    return text


def kind_of(value: object) -> Kind | None:
    """Return what kind of value this is; None for one that says nothing: null, a number."""
    turns = as_turns(value)
    if isinstance(turns, list):
        first = turns[0] if turns else None
        return "reply" if isinstance(first, dict) and first.get("role") == "assistant" else "turns"
    if isinstance(value, str):
        return "transcript" if isinstance(as_transcript(value), list) else "text"
    return None


def most(values: Iterable[object]) -> Kind | None:
    """Return the kind of most of these values, so that a few defective rows do not decide what a file is."""
    votes = Counter(kind_of(value) for value in values)
    votes.pop(None, None)
    return max(KINDS, key=lambda kind: votes[kind]) if votes else None


def number(value: object, textual: bool) -> object:
    """Return a decimal or a cell of a CSV file as a number, an empty cell as None; any other value as it is."""
    if isinstance(value, Decimal):
        return float(value)
    if not textual or not isinstance(value, str):
        return value
    if not value.strip():
        return None
    try:
        return float(value)
    except ValueError:
        return value


def _from_text(text: str) -> object:
    """Return turns that were written as JSON, or as Python shows them; any other text as it is."""
    if "content" not in text and "value" not in text:
        return text
    value = as_list(text)
    turns = value if isinstance(value, list) else [value]
    return value if turns and all(isinstance(turn, dict) and _spoken(turn) for turn in turns) else text


def as_list(value: object) -> object:
    """Return the list or object that a text is, as JSON or as Python shows it; any other value as it is."""
    if not isinstance(value, str) or value.lstrip()[:1] not in ("[", "{"):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of escapes in a text that was no list at all
                return ast.literal_eval(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            return value


def _spoken(turn: dict[str, object]) -> bool:
    return "role" in turn or ("from" in turn and "value" in turn)


def _turn(turn: object) -> object:
    """Return sharegpt's {from, value} as {role, content}; any other turn as it is."""
    if not isinstance(turn, dict) or "role" in turn or not ("from" in turn and "value" in turn):
        return turn
    said = turn["from"]
    return {"role": SPEAKERS.get(said.lower(), said) if isinstance(said, str) else said, "content": turn["value"]}
