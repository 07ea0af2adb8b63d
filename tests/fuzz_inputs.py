# ruff: noqa: E501  # lists of odd values
"""Hypothesis strategies for what comes from outside: JSON, TOML, rows of data and option strings, near right ones."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

ODD = (
    "", " ", "\0", "\n", "\x1b[2J", "\u202e", "\ud800", "é" * 300, "NaN", "inf", "-1", "1e999", "9" * 5000, "../x", "=1",
    "[" * 3000, '{"a":' * 3000, "{{ x }}", "|", ",", ":", "=", "'", '"', "\\", "null", "None", "__class__", "\ufeff",
)  # fmt: skip
TEXT = st.text(max_size=40) | st.sampled_from(ODD)
NUMBERS = (
    st.integers()
    | st.floats()
    | st.sampled_from((10**400, -1, 0, 2**63, 1e308, float("nan"), float("inf")))
    | st.booleans()
)
ATOMS = st.none() | NUMBERS | TEXT
JSON = st.recursive(
    ATOMS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)
TURNS = st.lists(
    st.fixed_dictionaries({"role": st.sampled_from(("user", "assistant", "system")) | TEXT, "content": TEXT})
    | st.fixed_dictionaries({"from": st.sampled_from(("human", "gpt")) | TEXT, "value": TEXT})
    | ATOMS,
    max_size=4,
)
COLUMNS = st.sampled_from(
    ("prompt", "chosen", "rejected", "question", "instruction", "response_0", "response_1", "response_a", "label",
     "preference", "score_chosen", "score_rejected", "messages", "completions", "completion", "responses", "score",
     "prompt_id", "winner", "subset", "tools", "conversations", "better_response_id", "chosen_score", "overall_preference")
)  # fmt: skip
ROWS = st.dictionaries(COLUMNS | TEXT, ATOMS | TURNS | JSON, max_size=7)
PAIRS = st.fixed_dictionaries(
    {"prompt": TEXT | TURNS, "chosen": TEXT | TURNS, "rejected": TEXT | TURNS}, optional={"score_chosen": ATOMS}
)
DATA_ROWS = st.lists(ROWS | PAIRS, max_size=4)


def option_text(*words: str) -> st.SearchStrategy[str]:
    """Return text of an option: these words, numbers and odd ones between signs."""
    part = st.sampled_from((*words, "=", ":", ",", "|", "=", ":", "-", "0.5", "1", "2")) | TEXT | NUMBERS.map(_short)
    return st.lists(part, max_size=8).map("".join)


def changed(right: Any) -> st.SearchStrategy[str]:
    """Return JSON text: what is right with one or two values of it replaced, left out or added, or anything else."""
    near = st.lists(st.tuples(st.integers(0, 10**6), st.sampled_from(("set", "drop", "add")), JSON), max_size=2).map(
        lambda changes: _text(_changed(right, changes))
    )
    return near | JSON.map(_text) | TEXT | st.tuples(near, st.integers(0, 400)).map(lambda cut: cut[0][: cut[1]])


def toml_of(right: dict[str, Any]) -> st.SearchStrategy[str]:
    """Return TOML text: what is right with one value or two replaced or added, or anything else."""
    values = st.dictionaries(st.sampled_from(sorted(right)) | TEXT, JSON, max_size=2)
    near = values.map(
        lambda more: "".join(f"{_key(name)} = {_toml(each)}\n" for name, each in {**right, **more}.items())
    )
    return near | TEXT | st.lists(st.sampled_from((*right, "[", "]", "=", '"', "\n", "1", "{", "}"))).map("".join)


def _changed(value: Any, changes: list[tuple[int, str, Any]]) -> Any:
    value = json.loads(json.dumps(value))
    for number, how, new in changes:
        places = list(_places(value))
        if not places:
            break
        holder, key = places[number % len(places)]
        if how == "drop":
            del holder[key]
        elif how == "add" and isinstance(holder[key], dict):
            holder[key]["odd"] = new
        else:
            holder[key] = new
    return value


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(items):
        yield value, key
        yield from _places(inner)


def _text(value: Any) -> str:
    try:
        return json.dumps(value)
    except ValueError:  # a number with more digits than Python writes
        return "9" * 5000


def _short(value: Any) -> str:
    try:
        return str(value)
    except ValueError:
        return "9" * 5000


def _key(name: str) -> str:
    return json.dumps(name)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(name)} = {_toml(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return '""' if value is None else _text(value).replace("NaN", "nan").replace("Infinity", "inf")
