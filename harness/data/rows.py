"""Raw rows in the `ultrafeedback_binarized` schema -> checked `Pair`s, `Listwise` prompts and SFT examples.

Strict: the first defective row raises an error that names file, row, line and column. Lenient: defective rows are
skipped and counted by reason. Legal but noteworthy rows (ties, copies, reused prompt ids) are kept and become a note.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from harness.api import HarnessError, Listwise, LoadOptions, Message, Pair, Response
from harness.data.files import RowError, Table, counted, printable, quoted
from harness.data.prompts import clustered, numbered, opening, pair_id_of

SIDES = ("chosen", "rejected")
SCORES = ("score_chosen", "score_rejected")
PAIR_COLUMNS = ("prompt", "prompt_id", *SIDES, *SCORES)
LISTWISE_COLUMNS = ("prompt", "prompt_id", "responses")
SFT_COLUMNS = ("prompt_id", "messages")
ROLES = ("system", "user", "assistant")
LISTED_COLUMNS = 20
NAN = float("nan")

Kind = TypeVar("Kind", Pair, Listwise, "Sft")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sft:
    """One SFT example, with the id by which it may share a prompt with the preference data."""

    prompt_id: str
    context: tuple[Message, ...]
    response: str


@dataclass(frozen=True, kw_only=True)
class Loaded(Generic[Kind]):
    """The usable rows of one table, the number of skipped rows by reason, and notes."""

    rows: tuple[Kind, ...]
    skipped: Mapping[str, int]
    notes: tuple[str, ...] = ()


def pairs_of(table: Table, options: LoadOptions) -> Loaded[Pair]:
    """Return the pairs of `table`, each with its cluster (`prompt_id`) and a `pair_id` unique in the table."""
    scored = any(column in table.columns for column in SCORES)
    _require_columns(table, ("prompt", *SIDES, *(SCORES if scored else ())))
    identified = "prompt_id" in table.columns
    pairs, skipped = _usable(table, partial(_pair, scored=scored, identified=identified), options)
    notes = []
    if not scored:
        notes.append("no annotation scores: gap quartiles, correlations and score-weighted losses cannot be computed")
    if not identified:
        notes.append("no prompt_id: the sha256 of the prompt's text is used")
    if ties := sum(pair.score_chosen == pair.score_rejected for pair in pairs):
        notes.append(f"{counted(ties, 'tie')} (score_chosen = score_rejected), kept")
    pairs, clusters = clustered(pairs)
    pairs, copies = numbered(pairs)
    return Loaded(
        rows=pairs, skipped=skipped, notes=tuple(f"{table.where}: {note}" for note in notes + clusters + copies)
    )


def listwise_of(table: Table, options: LoadOptions) -> Loaded[Listwise]:
    """Return the prompts of `table` with their scored responses (column `responses`: {model, content, score})."""
    _require_columns(table, ("prompt", "responses"))
    rows, skipped = _usable(table, partial(_listwise, identified="prompt_id" in table.columns), options)
    return Loaded(rows=rows, skipped=skipped)


def sft_of(table: Table, options: LoadOptions) -> Loaded[Sft]:
    """Return the SFT examples of `table` (column `messages`); the last turn is the response to learn."""
    _require_columns(table, ("messages",))
    rows, skipped = _usable(table, partial(_sft, identified="prompt_id" in table.columns), options)
    return Loaded(rows=rows, skipped=skipped)


def _require_columns(table: Table, expected: Sequence[str]) -> None:
    missing = [column for column in expected if column not in table.columns]
    readable = any(not isinstance(row.values, RowError) for row in table.rows)
    if not missing or (table.rows and not readable):  # no row is readable: each is reported with its own reason
        return
    names = [printable(name[:40]) for name in sorted(table.columns)]
    listed = ", ".join(names[:LISTED_COLUMNS]) + (", ..." if len(names) > LISTED_COLUMNS else "")
    raise HarnessError(
        f"{table.where}: no column '{missing[0]}'; got columns {listed or 'none'}, expected {', '.join(expected)}; "
        "rename or add the column"
    )


def _usable(
    table: Table, build: Callable[[Mapping[str, Any]], Kind], options: LoadOptions
) -> tuple[tuple[Kind, ...], dict[str, int]]:
    """Return what `build` makes of each row, and the number of rows skipped by reason.

    `build` raises `RowError` for a defective row; strict loading turns the first one into a `HarnessError`.
    """
    built: list[Kind] = []
    skipped: Counter[str] = Counter()
    first = ""
    for row in table.rows:
        try:
            if isinstance(row.values, RowError):
                raise row.values
            built.append(build(row.values))
        except RowError as error:
            skipped[error.reason] += 1
            if not first:
                line = "" if row.line is None else f" (line {row.line})"
                kind = ("", ", column ", ", columns ")[min(len(error.columns), 2)]
                first = f"row {row.number}{line}{kind}{', '.join(error.columns)}: {error}"
    if first and not options.lenient:
        more = f"; {counted(skipped.total() - 1, 'more row')} defective" if skipped.total() > 1 else ""
        raise HarnessError(f"{table.where}: {first}; correct the row, or pass --lenient to skip such rows{more}")
    if not built:
        reasons = ", ".join(f"{reason} {count}" for reason, count in skipped.items())
        raise HarnessError(
            f"{table.where}: got no usable row of {len(table.rows)} ({reasons or 'no rows'}), expected at least one; "
            f"correct the file{'; the first is ' + first if first else ''}"
        )
    return tuple(built), dict(skipped)


def _pair(values: Mapping[str, Any], *, scored: bool, identified: bool) -> Pair:
    prompt = _text(values, "prompt", "prompt")
    prompt_id = _prompt_id(values, prompt, identified)
    context, chosen = _conversation("chosen", values.get("chosen"))
    other, rejected = _conversation("rejected", values.get("rejected"))
    score_chosen = _score(values, "score_chosen") if scored else NAN
    score_rejected = _score(values, "score_rejected") if scored else NAN
    if context != other:
        raise RowError(
            "context mismatch", SIDES, "the turns before the response differ, expected the same turns on both sides"
        )
    if opening(context) != prompt:
        raise RowError(
            "prompt mismatch", ("prompt",), f"prompt is {quoted(prompt)}, expected chosen's first user turn's content"
        )
    if chosen == rejected:
        raise RowError("identical pair", SIDES, "the two responses are identical, expected two different ones")
    if score_chosen < score_rejected:
        raise RowError(
            "negative gap",
            SCORES,
            f"score_chosen {score_chosen} is less than score_rejected {score_rejected}, expected a gap of 0 or more",
        )
    return Pair(
        pair_id=pair_id_of(prompt_id, context, chosen, rejected),
        prompt_id=prompt_id,
        context=context,
        chosen=chosen,
        rejected=rejected,
        score_chosen=score_chosen,
        score_rejected=score_rejected,
    )


def _listwise(values: Mapping[str, Any], *, identified: bool) -> Listwise:
    prompt = _text(values, "prompt", "prompt")
    prompt_id = _prompt_id(values, prompt, identified)
    entries = values.get("responses")
    if not isinstance(entries, list) or len(entries) < 2 or not all(isinstance(entry, dict) for entry in entries):
        got = f"a list of {len(entries)}" if isinstance(entries, list) else quoted(entries)
        raise RowError(
            "bad responses",
            ("responses",),
            f"responses is {got}, expected a list of two or more {{model, content, score}}",
        )
    responses = []
    seen: Counter[str] = Counter()
    for index, entry in enumerate(entries):
        where = f"responses[{index}]"
        text = _response(_text(entry, "content", "responses", f"{where}."), "responses", where)
        name = _text(entry, "model", "responses", f"{where}.") if entry.get("model") is not None else str(index)
        seen[name] += 1
        response_id = name if seen[name] == 1 else f"{name}-{seen[name]}"
        score = _score(entry, "score", "responses", f"{where}.")
        responses.append(Response(response_id=response_id, text=text, score=score))
    return Listwise(prompt_id=prompt_id, context=(Message(role="user", content=prompt),), responses=tuple(responses))


def _sft(values: Mapping[str, Any], *, identified: bool) -> Sft:
    context, response = _conversation("messages", values.get("messages"))
    return Sft(prompt_id=_prompt_id(values, opening(context), identified), context=context, response=response)


def _prompt_id(values: Mapping[str, Any], prompt: str, identified: bool) -> str:
    if not identified:
        return hashlib.sha256(prompt.encode()).hexdigest()
    value = values.get("prompt_id")
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value == "":
        raise RowError("empty prompt_id", ("prompt_id",), "prompt_id is empty, expected an id")
    return _text(values, "prompt_id", "prompt_id")


def _conversation(column: str, turns: object) -> tuple[tuple[Message, ...], str]:
    """Return the turns before the last one, and the last one, which is the response."""
    expected = "expected a list of {role, content}"
    if turns is None:
        raise RowError(f"missing {column}", (column,), f"{column} is missing or null, {expected}")
    if not isinstance(turns, list) or not turns:
        got = "an empty list" if isinstance(turns, list) else quoted(turns)
        raise RowError("not a list of messages", (column,), f"{column} is {got}, {expected}")
    messages = []
    for index, turn in enumerate(turns):
        where = f"{column}[{index}]"
        if not isinstance(turn, dict):
            raise RowError(
                "not a list of messages", (column,), f"{where} is {quoted(turn)}, expected {{role, content}}"
            )
        role = turn.get("role")
        if role not in ROLES:
            got = f"{where} has no 'role'" if role is None else f"{where}.role is {quoted(role)}"
            raise RowError("wrong roles", (column,), f"{got}, expected one of {', '.join(ROLES)}")
        messages.append(Message(role=role, content=_text(turn, "content", column, f"{where}.")))
    last = len(messages) - 1
    if messages[last].role != "assistant":
        raise RowError(
            "wrong roles", (column,), f"{column}'s last role is '{messages[last].role}', expected 'assistant'"
        )
    if last == 0 or messages[last - 1].role != "user":
        got = "no turn" if last == 0 else f"a turn of '{messages[last - 1].role}'"
        raise RowError("wrong roles", (column,), f"{column} has {got} before the response, expected a user turn")
    return tuple(messages[:last]), _response(messages[last].content, column, column)


def _response(text: str, column: str, where: str) -> str:
    if not text.strip():
        got = "whitespace only" if text else "empty"
        raise RowError("empty response", (column,), f"the response of {where} is {got}, expected text")
    return text


def _text(values: Mapping[str, Any], key: str, column: str, prefix: str = "") -> str:
    """Return a value, checked to be a string that can be encoded as UTF-8."""
    value = values.get(key)
    if not isinstance(value, str):
        got = quoted(value) if value is not None or key in values else "missing"
        reason = f"null {key}" if value is None else f"{key} not a string"
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


def _score(values: Mapping[str, Any], key: str, column: str = "", prefix: str = "") -> float:
    value = values.get(key)
    where = f"{prefix}{key}"
    if key not in values:
        raise RowError("missing score", (column or key,), f"{where} is missing, expected a number")
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
        raise RowError("bad score type", (column or key,), f"{where} is {quoted(value)}, expected a number")
    try:
        score = NAN if value is None else float(value)
    except OverflowError:
        score = math.inf
    if not math.isfinite(score):
        got = "null" if value is None else "NaN" if math.isnan(score) else str(score)
        raise RowError("non-finite score", (column or key,), f"{where} is {got}, expected a finite number")
    return score
