"""Checks of what a row holds: turns, texts, responses and scores. Each failing one is a `RowError`."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from harness.api import Message
from harness.data.layouts.raw_pair import ABSENT, Absent, Column
from harness.data.raw import RowError, quoted

ROLES = ("system", "user", "assistant", "tool")
TOOL_KEYS = ("tool_calls", "tool_call_id", "name")
NAN = float("nan")


def conversation(side: Column) -> tuple[tuple[Message, ...], str]:
    """Return the turns before the last one, and the last one, which is the response."""
    name = side.name
    messages = messages_of(side)
    last = len(messages) - 1
    if messages[last].role != "assistant":
        raise RowError("wrong roles", (name,), f"{name}'s last role is '{messages[last].role}', expected 'assistant'")
    if messages[last].tools:
        raise RowError("tool call as response", (name,), f"{name}'s last turn calls a tool, expected a text response")
    if last == 0:
        raise RowError("wrong roles", (name,), f"{name} has no turn before the response, expected a user turn")
    check_context(name, messages[:last])
    return messages[:last], response(messages[last].content, name, name)


def check_context(name: str, context: tuple[Message, ...]) -> None:
    """Raise where the turns before a response do not lead to one."""
    if context[-1].role not in ("user", "tool") or not any(turn.role == "user" for turn in context):
        got = f"a turn of '{context[-1].role}'" if context[-1].role != "tool" else "no user turn"
        raise RowError("wrong roles", (name,), f"{name} has {got} before the response, expected a user turn")


def messages_of(column: Column) -> tuple[Message, ...]:
    """Return the turns of a list of {role, content}."""
    name, turns = column.name, column.value
    expected = "expected a list of {role, content}"
    if turns is None or isinstance(turns, Absent):
        raise RowError(f"missing {name}", (name,), f"{name} is missing or null, {expected}")
    if not isinstance(turns, list) or not turns:
        got = "an empty list" if isinstance(turns, list) else quoted(turns)
        raise RowError("not a list of messages", (name,), f"{name} is {got}, {expected}")
    return tuple(_message(turn, name, f"{name}[{index}]") for index, turn in enumerate(turns))


def _message(turn: object, name: str, where: str) -> Message:
    if not isinstance(turn, dict):
        raise RowError("not a list of messages", (name,), f"{where} is {quoted(turn)}, expected {{role, content}}")
    role = turn.get("role")
    if role not in ROLES:
        got = f"{where} has no 'role'" if role is None else f"{where}.role is {quoted(role)}"
        raise RowError("wrong roles", (name,), f"{got}, expected one of {', '.join(ROLES)}")
    tools = _tools(turn)
    content = turn.get("content", ABSENT)
    if content is None and turn.get("tool_calls"):
        content = ""
    if isinstance(content, list):
        content = _joined(content, name, where)
    return Message(role=role, content=text(content, "content", name, f"{where}."), tools=tools)


def _joined(parts: list[object], name: str, where: str) -> str:
    """Return the text parts of a content, a line each, as vLLM joins them."""
    texts = []
    for index, part in enumerate(parts):
        said = part.get("text") if isinstance(part, dict) and part.get("type", "text") == "text" else part
        if not isinstance(said, str):
            got = f"of type {quoted(part['type'])}" if isinstance(part, dict) and "type" in part else quoted(said)
            raise RowError(
                "content part not text",
                (name,),
                f"{where}.content[{index}] is {got}, expected {{type: text, text}}: only text can be scored",
            )
        texts.append(said)
    return "\n".join(texts)


def _tools(turn: Mapping[str, Any]) -> str:
    """Return the keys of a turn that calls a tool or answers for one, as JSON."""
    if not (turn["role"] == "tool" or (turn["role"] == "assistant" and turn.get("tool_calls"))):
        return ""
    return json.dumps({key: turn[key] for key in TOOL_KEYS if turn.get(key) is not None}, default=str, sort_keys=True)


def response(said: str, column: str, where: str) -> str:
    """Return the response, checked to be more than white space."""
    if not said.strip():
        got = "whitespace only" if said else "empty"
        raise RowError("empty response", (column,), f"the response of {where} is {got}, expected text")
    return said


def text(value: object, key: str, column: str, prefix: str = "") -> str:
    """Return a value, checked to be a string that can be encoded as UTF-8."""
    if not isinstance(value, str):
        absent = isinstance(value, Absent)
        got = "missing" if absent else quoted(value)
        reason = f"null {key}" if value is None or absent else f"{key} not a string"
        raise RowError(reason, (column,), f"{prefix}{key} is {got}, expected a string")
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError as error:
            code = f"U+{ord(value[error.start]):04X}"
            raise RowError(
                "lone surrogate",
                (column,),
                f"{prefix}{key} holds a lone surrogate {code} at character {error.start}, expected valid Unicode",
            ) from None
    return value


def score(value: object, where: str, column: str) -> float:
    """Return a score, checked to be a finite number."""
    if isinstance(value, Absent):
        raise RowError("missing score", (column,), f"{where} is missing, expected a number")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float | Decimal)):
        raise RowError("bad score type", (column,), f"{where} is {quoted(value)}, expected a number")
    try:
        number = NAN if value is None else float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        got = "null" if value is None else "NaN" if math.isnan(number) else str(number)
        raise RowError("non-finite score", (column,), f"{where} is {got}, expected a finite number")
    return number


def given_id(column: Column | None) -> str | None:
    """Return the id that the row brings, or None where it has none."""
    if column is None or isinstance(column.value, Absent | None):
        return None
    value = column.value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value == "":
        raise RowError("empty prompt_id", (column.name,), f"{column.name} is empty, expected an id")
    return text(value, column.name, column.name)
