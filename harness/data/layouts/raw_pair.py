"""Raw rows in one shape, whatever their layout: what `rows.py` checks and makes pairs of."""

from __future__ import annotations

from dataclasses import dataclass


class Absent:
    """The value of a column that a row lacks: not the same as null."""


ABSENT = Absent()


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A value, and the column that errors name for it."""

    name: str
    value: object


@dataclass(frozen=True, slots=True, kw_only=True)
class RawPair:
    """A row of pairs, unchecked."""

    prompt: Column | None
    """Text or turns that must stand in the context; None where the sides alone say what the prompt is."""
    prompt_id: Column | None
    """None where the file has no such column."""
    chosen: Column
    """All turns as a list of {role, content}; the last is the response."""
    rejected: Column
    score_chosen: Column | None = None
    """None where the file has no scores."""
    score_rejected: Column | None = None
    subset: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RawList:
    """A row of several scored responses to one prompt, unchecked."""

    prompt: Column
    """The turns of the context as a list of {role, content}, or a text that is the only one."""
    prompt_id: Column | None
    responses: Column
    """A list of {model, content, score}, under the keys that follow."""
    content: str = "content"
    score: str = "score"
    model: str = "model"
    subset: str = ""
