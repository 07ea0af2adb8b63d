"""Parquet, jsonl and json files -> raw rows, with every defect tied to its row and line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.api import HarnessError

FORMATS = (".parquet", ".jsonl", ".json")
BOM = b"\xef\xbb\xbf"
QUOTE_LENGTH = 60
BATCH_ROWS = 4096


class RowError(Exception):
    """A defective row: a short reason (rows are counted by it), the columns at fault, what was got and expected."""

    def __init__(self, reason: str, columns: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.columns = columns


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRow:
    """A row as read, before any check of its content."""

    number: int
    """Counted from 0, without blank lines."""
    line: int | None
    """Line of the file, counted from 1; None if the format has no lines."""
    values: Mapping[str, Any] | RowError
    """Value of each column, or why the row could not be read."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The rows of one file or of one split of a hub data set."""

    where: str
    """The name of the table in errors and notes; safe to print."""
    columns: frozenset[str]
    """Every column of the file, also those that are not read."""
    rows: Sequence[RawRow]


def printable(text: str) -> str:
    """Return `text` with control characters, line separators, bidi marks and lone surrogates escaped."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def counted(count: int, noun: str) -> str:
    """Return the count with its noun: `1 row`, `2 rows`."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def quoted(value: object) -> str:
    """Return a short description of a value, safe to print: its type, and the value itself if it is small."""
    if value is None:
        return "null"
    kind = f"a {type(value).__name__}"
    if isinstance(value, str):
        text = repr(value[:QUOTE_LENGTH])
        cut = len(value) > QUOTE_LENGTH or len(text) > QUOTE_LENGTH
        return f"{kind} ({text[:QUOTE_LENGTH]}{'...' if cut else ''})"
    if isinstance(value, bool | float):
        return f"{kind} ({value})"
    return kind


def read_table(path: Path, columns: Sequence[str]) -> Table:
    """Return the rows of a .parquet, .jsonl or .json file; of parquet files only `columns` are read.

    Rows that cannot be read become `RowError`s. Raises `HarnessError` if the file as a whole cannot be
    read: another format, 0 bytes, no rows, a truncated parquet or json file, a git-lfs pointer.
    """
    where = printable(str(path))
    if path.suffix.lower() not in FORMATS:
        raise HarnessError(
            f"{where}: got format '{printable(path.suffix)}', expected one of {', '.join(FORMATS)}; convert the file"
        )
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise HarnessError(f"{where}: cannot be read ({error.strerror}); check the path and its permissions") from error
    if size == 0:
        raise HarnessError(f"{where}: the file is empty (0 bytes), expected rows; fetch or write it again")
    if head.startswith(b"version https://git-lfs"):
        raise HarnessError(f"{where}: got a git-lfs pointer, expected the data itself; run `git lfs pull`")
    if path.suffix.lower() == ".parquet":
        return _read_parquet(path, where, columns)
    data = path.read_bytes().removeprefix(BOM)
    if path.suffix.lower() == ".json" and data.lstrip().startswith(b"["):
        rows = _array_rows(data, where)
    else:
        rows = list(_line_rows(data, first_byte=size - len(data)))
    if not rows:
        raise HarnessError(f"{where}: the file holds 0 rows, expected at least one; fetch or write it again")
    names = frozenset(name for row in rows if not isinstance(row.values, RowError) for name in row.values)
    return Table(where=where, columns=names, rows=rows)


def rows_of_batches(batches: Iterator[Any]) -> list[RawRow]:
    """Return the rows of pyarrow record batches or tables, in order; a row that is not UTF-8 becomes a `RowError`."""
    rows: list[RawRow] = []
    for batch in batches:
        try:
            values = batch.to_pylist()
        except UnicodeDecodeError:
            values = [_arrow_row(batch.slice(index, 1)) for index in range(batch.num_rows)]
        rows.extend(RawRow(number=number, line=None, values=value) for number, value in enumerate(values, len(rows)))
    return rows


def _arrow_row(batch: Any) -> Mapping[str, Any] | RowError:
    try:
        row: Mapping[str, Any] = batch.to_pylist()[0]
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        return RowError(
            "invalid UTF-8", (), f"text is not valid UTF-8 (byte 0x{byte:02x} at offset {error.start} of its cell)"
        )
    return row


def _read_parquet(path: Path, where: str, columns: Sequence[str]) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            wanted = [name for name in columns if name in names]
            count = file.metadata.num_rows
            rows = rows_of_batches(file.iter_batches(BATCH_ROWS, columns=wanted)) if wanted else []
    except (pa.ArrowException, OSError) as error:
        reason = printable(str(error).splitlines()[0])[-160:]
        raise HarnessError(
            f"{where}: not a readable parquet file, is it truncated? ({reason}); fetch or write it again"
        ) from error
    if count == 0:
        raise HarnessError(f"{where}: the file holds 0 rows, expected at least one; fetch or write it again")
    return Table(where=where, columns=frozenset(names), rows=rows)


def _line_rows(data: bytes, first_byte: int) -> Iterator[RawRow]:
    """Yield one row per line that is not blank. Only \\n ends a line: U+2028 and U+0085 are text."""
    number = 0
    offset = first_byte
    for line, raw in enumerate(data.split(b"\n"), 1):
        stripped = raw.strip(b" \t\r")
        if stripped:
            yield RawRow(number=number, line=line, values=_attempt(_object_of, raw, offset))
            number += 1
        offset += len(raw) + 1


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


def _array_rows(data: bytes, where: str) -> list[RawRow]:
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        place = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        raise HarnessError(f"{where}: not valid UTF-8 ({place}), expected a JSON array; write it as UTF-8") from None
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = _json_reason(error, text)
        raise HarnessError(
            f"{where}: not valid JSON ({reason}), expected an array of objects; correct the file"
        ) from None
    return [
        RawRow(number=number, line=None, values=value if isinstance(value, dict) else _not_an_object(value))
        for number, value in enumerate(values)
    ]


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
