"""JSON files -> raw rows: an object a line, an array, objects under a key, or columns as pandas writes them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from harness.api import HarnessError
from harness.data.raw import RawRow, RowError, quoted

BOM = b"\xef\xbb\xbf"
WRAPPERS = ("data", "rows", "examples", "items", "records", "instances")
"""Keys under which a file may have its array of objects."""
TURN_KEYS = frozenset({"role", "content", "from", "value"})


def line_rows(data: bytes, where: str, first_byte: int) -> Iterator[RawRow]:
    """Yield one row per line that is not blank. Only \\n ends a line: U+2028 and U+0085 are text."""
    number = 0
    offset = first_byte
    for line, raw in enumerate(data.split(b"\n"), 1):
        if raw.strip(b" \t\r"):
            yield RawRow(number=number, line=line, values=_attempt(_object_of, raw, offset), where=where)
            number += 1
        offset += len(raw) + 1


def json_rows(data: bytes, where: str) -> list[RawRow] | None:
    """Return the rows of a .json file that is one JSON value, or None where it has an object a line."""
    if data.lstrip().startswith(b"["):
        return _numbered(_whole(data, where), where)
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, dict):
        return None
    if (rows := _wrapped(value)) is None and (rows := _split(value)) is None:
        rows = _columns(value, where)
    return None if rows is None else _numbered(rows, where)


def _wrapped(value: Mapping[str, Any]) -> list[Any] | None:
    """Return the array of objects that the file has under a key."""
    keys = [key for key in WRAPPERS if key in value] or (list(value) if len(value) == 1 else [])
    for key in keys:
        rows = value[key]
        if isinstance(rows, list) and rows and all(isinstance(row, dict) for row in rows):
            return rows
    return None


def _split(value: Mapping[str, Any]) -> list[Any] | None:
    """Return the rows of `{"columns": [...], "data": [[...], ...]}`, pandas' orient="split"."""
    names, rows = value.get("columns"), value.get("data")
    if not isinstance(names, list) or not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        return None
    return [dict(zip(map(str, names), row, strict=False)) for row in rows]


def _columns(value: Mapping[str, Any], where: str) -> list[Any] | None:
    """Return the rows of `{"prompt": {"0": ...}, ...}` or `{"prompt": [...], ...}`, None for the object of one row."""
    columns = list(value.values())
    if columns and all(isinstance(column, dict) and column and not TURN_KEYS & column.keys() for column in columns):
        keys = list(dict.fromkeys(key for column in columns for key in column))
        if all(name.isdecimal() for name in value) and not all(key.isdecimal() for key in keys):
            return columns  # pandas' orient="index": the rows under their numbers
        return [{name: column[key] for name, column in value.items() if key in column} for key in keys]
    if len(columns) < 2 or not all(isinstance(column, list) and column for column in columns):
        return None
    if all(isinstance(cell, dict) for column in columns for cell in column):
        return None  # the lists of turns of a single row
    if len({len(column) for column in columns}) > 1:
        lengths = ", ".join(f"{name[:40]} {len(column)}" for name, column in value.items())
        raise HarnessError(f"{where}: got columns of {lengths} cells, expected the same number; correct the file")
    return [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]


def _numbered(values: list[Any], where: str) -> list[RawRow]:
    return [
        RawRow(
            number=number, line=None, values=value if isinstance(value, dict) else _not_an_object(value), where=where
        )
        for number, value in enumerate(values)
    ]


def _attempt(read: Callable[[bytes, int], Mapping[str, Any]], raw: bytes, offset: int) -> Mapping[str, Any] | RowError:
    try:
        return read(raw, offset)
    except RowError as error:
        return error.with_traceback(None)


def _object_of(raw: bytes, offset: int) -> Mapping[str, Any]:
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        place = f"byte 0x{raw[error.start]:02x} at offset {error.start} of the line, {offset + error.start} of the file"
        raise RowError("invalid UTF-8", (), f"the line is not valid UTF-8 ({place})") from None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RowError(
            "invalid JSON",
            (),
            f"the line is not valid JSON ({_json_reason(error, text)}), expected one object per line",
        ) from None
    if not isinstance(value, dict):
        hint = "; a JSON array belongs in a .json file" if isinstance(value, list) else ""
        raise RowError("not an object", (), f"the line is {quoted(value)}, expected one JSON object per line{hint}")
    return value


def _whole(data: bytes, where: str) -> list[Any]:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        place = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        raise HarnessError(f"{where}: not valid UTF-8 ({place}), expected a JSON array; write it as UTF-8") from None
    try:
        values: list[Any] = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = _json_reason(error, text)
        raise HarnessError(
            f"{where}: not valid JSON ({reason}), expected an array of objects; correct the file"
        ) from None
    return values


def _not_an_object(value: object) -> RowError:
    return RowError("not an object", (), f"the element is {quoted(value)}, expected a JSON object")


def _json_reason(error: Exception, text: str) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if not isinstance(error, json.JSONDecodeError):
        return "a number with too many digits"
    # the parser reports an unterminated string at its start, though it is the end that is missing
    ended = error.pos >= len(text.rstrip()) or error.msg.startswith("Unterminated string")
    return f"{error.msg.removesuffix(' at')} at character {error.pos}" + (
        ": unexpected end, is the file truncated?" if ended else ""
    )
