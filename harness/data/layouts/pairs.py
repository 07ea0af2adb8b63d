"""Rows with two responses -> `RawPair`: chosen and rejected in every spelling, or two responses and which is better."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from harness.data.layouts.names import ENDS, Roles, plain
from harness.data.layouts.raw_pair import ABSENT, Absent, Column, RawPair
from harness.data.layouts.values import Kind, as_transcript, as_turns, number
from harness.data.raw import NoPairError, RowError, quoted

TIES = frozenset({"tie", "both", "neither", "equal", "same", "both bad", "tie bothbad", "tie both bad", "draw"})


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the rows of a table are read: its roles, and the kinds of most of its values."""

    roles: Roles
    side: Kind | None
    prompt: Kind | None
    textual: bool = False
    """Whether every cell is text, as in CSV."""
    scored: bool = False
    """Whether the columns of scores hold any."""

    def column(self, row: Mapping[str, Any], role: str) -> Column | None:
        """Return the value under the column of this role, or None where the file has no such column."""
        name = getattr(self.roles, role)
        return None if name is None else Column(name=name, value=row.get(name, ABSENT))


def chosen_and_rejected(row: Mapping[str, Any], reading: Reading) -> RawPair:
    """Return the pair of a row that says which response is the better one."""
    roles = reading.roles
    assert roles.chosen is not None
    assert roles.rejected is not None
    better = scores(row, reading)
    return _pair(row, reading, roles.chosen, roles.rejected, better)


def scores(row: Mapping[str, Any], reading: Reading) -> tuple[Column, Column] | None:
    """Return the two scores; of a gap alone, the gap and 0."""
    if not reading.scored:
        return None
    chosen, rejected = reading.column(row, "score_chosen"), reading.column(row, "score_rejected")
    if chosen is not None and rejected is not None:
        return _numbers(chosen, reading), _numbers(rejected, reading)
    gap = reading.column(row, "gap")
    assert gap is not None
    return _numbers(gap, reading), Column(name=gap.name, value=0.0)


def two_responses(row: Mapping[str, Any], reading: Reading) -> RawPair:
    """Return the pair of a row whose strength or label says which of two responses is better."""
    roles = reading.roles
    assert roles.first is not None
    assert roles.second is not None
    if (strength := reading.column(row, "strength")) is not None:
        column = _numbers(strength, reading)
        signed = column.value
        if isinstance(signed, bool) or not isinstance(signed, int | float) or signed != signed:
            got = "missing" if isinstance(signed, Absent) else quoted(signed)
            raise RowError("bad strength", (column.name,), f"{column.name} is {got}, expected a signed number")
        names = (roles.second, roles.first) if signed > 0 else (roles.first, roles.second)
        better = Column(name=column.name, value=float(abs(signed))), Column(name=column.name, value=0.0)
        return _pair(row, reading, *names, better)
    label = reading.column(row, "label")
    assert label is not None
    place = _place(label, roles)
    names = (roles.second, roles.first) if place else (roles.first, roles.second)
    return _pair(row, reading, *names, None)


def _place(label: Column, roles: Roles) -> int:
    """Return 0 where the label says that the first response is better, 1 for the second."""
    first, second = plain(str(roles.first)), plain(str(roles.second))
    value = number(label.value, textual=False)
    said = plain(str(int(value)) if isinstance(value, float) and value.is_integer() else str(value))
    ends = next(ends for ends in ENDS if first.endswith(ends[0]) and second.endswith(ends[1]))
    if said.replace("_", " ") in TIES or (said == "0" and ends == ("1", "2")):
        raise NoPairError("no preference", (label.name,), f"{label.name} says that neither response is better")
    for place, (name, end) in enumerate(zip((first, second), ends, strict=True)):
        names = (name, end, f"model_{end}", f"response_{end}")
        if not isinstance(value, bool) and said.removesuffix("_is_better") in names:
            return place
    raise RowError(
        "bad label",
        (label.name,),
        f"{label.name} is {'missing' if isinstance(value, Absent) else quoted(value)}, expected {ends[0]} or "
        f"{ends[1]}, {roles.first} or {roles.second}, or tie",
    )


def _pair(
    row: Mapping[str, Any], reading: Reading, chosen: str, rejected: str, better: tuple[Column, Column] | None
) -> RawPair:
    before = context(row, reading) if reading.side in ("reply", "text") else None
    sides = [_side(Column(name=name, value=row.get(name, ABSENT)), row, reading, before) for name in (chosen, rejected)]
    prompt = reading.column(row, "prompt")
    if prompt is not None and before is None:
        prompt = Column(name=prompt.name, value=_prompt(prompt.value, reading))
    return RawPair(
        prompt=None if before is not None else prompt,
        prompt_id=prompt_id(row, reading),
        chosen=sides[0],
        rejected=sides[1],
        score_chosen=better[0] if better else None,
        score_rejected=better[1] if better else None,
        subset=subset(row, reading),
    )


def prompt_id(row: Mapping[str, Any], reading: Reading) -> Column | None:
    """Return the given id; null for an empty cell of CSV."""
    given = reading.column(row, "prompt_id")
    if given is not None and (given.value != given.value or (reading.textual and given.value == "")):
        return Column(name=given.name, value=None)
    return given


def subset(row: Mapping[str, Any], reading: Reading) -> str:
    """Return the row's part of the data as text, JSON where it is no text; "" where there is none."""
    given = reading.column(row, "subset")
    if given is None or isinstance(given.value, Absent | None) or given.value != given.value:
        return ""
    return given.value.strip() if isinstance(given.value, str) else json.dumps(given.value, default=str)


def _side(side: Column, row: Mapping[str, Any], reading: Reading, before: list[object] | None) -> Column:
    """Return a side as all its turns."""
    if isinstance(side.value, Absent | None):
        return side
    if before is None:
        turns = _READ[reading.side or "turns"](side)
        system = _system(row, reading)
        if system and isinstance(turns, list) and not _begins_with_system(turns):
            turns = [*system, *turns]
        return Column(name=side.name, value=turns)
    if reading.side == "reply":
        replies = as_turns(side.value)
        if not isinstance(replies, list):
            return Column(name=side.name, value=replies)
        return Column(name=side.name, value=[*before, *replies])
    if not isinstance(side.value, str):
        raise RowError("not text", (side.name,), f"{side.name} is {quoted(side.value)}, expected text as in most rows")
    said = side.value.strip() if reading.prompt == "transcript" else side.value  # as the turns of a transcript
    return Column(name=side.name, value=[*before, {"role": "assistant", "content": said}])


def _transcript(side: Column) -> object:
    turns = as_transcript(side.value)
    if isinstance(turns, str):
        raise RowError(
            "not a transcript",
            (side.name,),
            f"{side.name} is {quoted(turns)}, expected turns that begin with Human: and Assistant: as in most rows",
        )
    return turns


def _listed(side: Column) -> object:
    return as_turns(side.value, alone=False)


_READ: Mapping[Kind, Callable[[Column], object]] = {"turns": _listed, "transcript": _transcript}


def context(row: Mapping[str, Any], reading: Reading) -> list[object]:
    """Return the turns before the response: system, document, prompt and input."""
    column = reading.column(row, "prompt")
    assert column is not None
    value = _prompt(column.value, reading)
    if isinstance(value, list):
        turns = list(value)
    elif isinstance(value, str):
        turns = [{"role": "user", "content": _joined(value, row, reading)}]
    else:
        got = "missing" if isinstance(value, Absent) else quoted(value)
        reason = "null prompt" if value is None or isinstance(value, Absent) else "prompt not a string"
        raise RowError(reason, (column.name,), f"{column.name} is {got}, expected a string or a list of turns")
    return turns if _begins_with_system(turns) else [*_system(row, reading), *turns]


def _prompt(value: object, reading: Reading) -> object:
    """Return a prompt as turns where most of the file's prompts are turns; else as it is."""
    if reading.prompt == "transcript" and isinstance(turns := as_transcript(value), list):
        said = turns[-1]
        return turns[:-1] if isinstance(said, dict) and said["role"] == "assistant" and not said["content"] else turns
    return as_turns(value) if reading.prompt in ("turns", "reply") else value


def _joined(prompt: str, row: Mapping[str, Any], reading: Reading) -> str:
    """Return the prompt with the document before it and the input behind it, where the row has any."""
    texts = [row.get(name) if name else None for name in (reading.roles.document, reading.roles.input)]
    document, further = (text if isinstance(text, str) and text.strip() else "" for text in texts)
    return (f"{document}\n\n" if document else "") + prompt + (f"\n{further}" if further else "")


def _system(row: Mapping[str, Any], reading: Reading) -> list[object]:
    column = reading.column(row, "system")
    if column is None or column.value is None or column.value == "" or isinstance(column.value, Absent):
        return []
    if not isinstance(column.value, str):
        raise RowError("system not text", (column.name,), f"{column.name} is {quoted(column.value)}, expected text")
    return [{"role": "system", "content": column.value}]


def _begins_with_system(turns: list[object]) -> bool:
    return bool(turns) and isinstance(turns[0], dict) and turns[0].get("role") == "system"


def _numbers(column: Column, reading: Reading) -> Column:
    return Column(name=column.name, value=number(column.value, reading.textual))
