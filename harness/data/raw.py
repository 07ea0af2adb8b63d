"""Raw rows as read from people's files, before any check of their content, and how errors quote what they hold."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

QUOTE_LENGTH = 60

Choose = Callable[[Collection[str]], Collection[str]]
"""The names of a file's columns -> those to read."""


class RowError(Exception):
    """A defective row: a short reason (rows are counted by it), the columns at fault, what was got and expected."""

    def __init__(self, reason: str, columns: tuple[str, ...], message: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.columns = columns


class NoPairError(RowError):
    """A row that is in order but gives no pair: left out and counted, strict or lenient."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawRow:
    """A row as read, before any check of its content."""

    number: int
    """Counted from 0 in its file, without blank lines."""
    line: int | None
    """Line of the file, counted from 1; None if the format has no lines."""
    values: Mapping[str, Any] | RowError
    """Value of each column, or why the row could not be read."""
    where: str = ""
    """The row's file, where the table is made of several; safe to print."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The rows of one split: of a file, of several shards, or of a hub data set."""

    where: str
    """The name of the table in errors and notes; safe to print."""
    columns: frozenset[str]
    """Every column of the file, also those that are not read."""
    rows: Sequence[RawRow]
    textual: bool = False
    """Whether every cell is text, as in CSV: numbers are read from text."""


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


def some(names: Iterable[str], most: int = 20) -> str:
    """Return the first names, safe to print: `a, b, ...`; `none` where there are none."""
    listed = [printable(name[:40]) for name in names]
    return (", ".join(listed[:most]) + (", ..." if len(listed) > most else "")) or "none"
