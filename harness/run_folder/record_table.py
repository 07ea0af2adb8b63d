"""The table of record.json in docs/run-folder.md, made from its type: `python -m harness.run_folder.record_table`."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterator

from harness.api.option_notes import option_notes
from harness.run_folder.json_types import Facts
from harness.run_folder.record import Record

WORDS = {str: "text", int: "whole number", float: "number", bool: "yes or no", list: "list", tuple: "list"}


def record_table() -> str:
    """Return a Markdown table with a line per key of record.json: its name, its type and its meaning."""
    lines = [f"| `{name}` | {kind} | {meaning} |" for name, kind, meaning in _keys(Record, "")]
    return "\n".join(["| key | type | meaning |", "| --- | --- | --- |", *lines])


def _keys(facts: type[Facts], prefix: str) -> Iterator[tuple[str, str, str]]:
    """Yield name, type and meaning of each key, those of an inner object after it."""
    notes = option_notes(facts)
    hints = typing.get_type_hints(facts)
    for name, field in facts.model_fields.items():
        if field.exclude:  # not a key of the file
            continue
        kinds = [kind for kind in _alternatives(hints[name]) if kind is not type(None)]
        inner = _facts(kinds[0])
        listed = _facts(next(iter(typing.get_args(kinds[0])), None)) if typing.get_origin(kinds[0]) is tuple else None
        described = " ".join((inner.__doc__ or "").split()) if inner else f"What `--{name.replace('_', '-')}` settled."
        meaning = notes.get(name) or described
        kind = "object" if inner else _word(kinds)
        yield f"{prefix}{name}", kind if field.is_required() else f"{kind} (may be missing)", meaning
        if inner:
            yield from _keys(inner, f"{prefix}{name}.")
        if listed:
            yield from _keys(listed, f"{prefix}{name}[].")


def _facts(kind: typing.Any) -> type[Facts] | None:
    """Return a type that is an inner object's; None for any other."""
    return kind if isinstance(kind, type) and issubclass(kind, Facts) else None


def _alternatives(hint: typing.Any) -> list[typing.Any]:
    """Return the types of a union; a type alone is one of one."""
    return list(typing.get_args(hint)) if isinstance(hint, types.UnionType) or _is_union(hint) else [hint]


def _is_union(hint: typing.Any) -> bool:
    return typing.get_origin(hint) is typing.Union


def _word(kinds: list[typing.Any]) -> str:
    """Return the name of a JSON type for people."""
    if float in kinds:
        return "number"
    origin = typing.get_origin(kinds[0]) or kinds[0]
    if origin is typing.Literal:
        return "text"
    return "object" if origin is dict else WORDS[origin]


if __name__ == "__main__":
    print(record_table())
