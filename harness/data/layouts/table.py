"""The table of layouts, and which of them a file has: by its columns and by the kind of most of its first values."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.api import HarnessError, LoadOptions
from harness.data.layouts.lists import LABEL_RULE, RULE, Keys, keys_of, labelled, scored_list, single
from harness.data.layouts.names import LOSERS, PAIR_ROLES, WINNERS, Roles, plain, roles_of
from harness.data.layouts.pairs import Reading, chosen_and_rejected, two_responses
from harness.data.layouts.raw_pair import RawList, RawPair
from harness.data.layouts.values import Kind, most, number
from harness.data.raw import RowError, Table, some

SAMPLE = 100
"""Rows whose values say what a file is."""


PROMPT, CHOSEN, REJECTED, COMPLETION = ("prompt",), ("chosen",), ("rejected",), ("completion",)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """A layout: its name, the roles its columns must have, and how a row is read."""

    name: str
    needs: tuple[tuple[str, ...], ...]
    """Of each tuple of roles one must be there."""
    side: Kind | None = None
    """What the responses must be; None where it does not matter."""
    pair: Callable[[Mapping[str, Any], Reading], RawPair] | None = None
    listed: Callable[[Mapping[str, Any], Reading, Keys], RawList] | None = None
    one_response_a_row: bool = False
    labels: bool = False
    """Whether each response has a label instead of a score: paired only where that is asked for."""

    def lacks(self, roles: Roles) -> list[str]:
        """Return the roles that no column has."""
        return [names[0] for names in self.needs if all(getattr(roles, name) is None for name in names)]

    def shares(self, roles: Roles) -> int:
        """Return how many of its roles are there; a prompt says nothing, since nearly every layout has one."""
        return len(self.needs) - len(self.lacks(roles)) - (PROMPT in self.needs and roles.prompt is not None)


LAYOUTS = (
    Layout(name="chosen and rejected conversations", needs=(CHOSEN, REJECTED), side="turns", pair=chosen_and_rejected),
    Layout(
        name="a prompt with chosen and rejected last turns",
        needs=(PROMPT, CHOSEN, REJECTED),
        side="reply",
        pair=chosen_and_rejected,
    ),
    Layout(
        name="chosen and rejected transcripts (Human: ... Assistant: ...)",
        needs=(CHOSEN, REJECTED),
        side="transcript",
        pair=chosen_and_rejected,
    ),
    Layout(
        name="a prompt with chosen and rejected texts",
        needs=(PROMPT, CHOSEN, REJECTED),
        side="text",
        pair=chosen_and_rejected,
    ),
    Layout(
        name="two conversations and which is better",
        needs=(("first",), ("second",), ("strength", "label")),
        side="turns",
        pair=two_responses,
    ),
    Layout(
        name="a prompt with two responses and which is better",
        needs=(PROMPT, ("first",), ("second",), ("strength", "label")),
        pair=two_responses,
    ),
    Layout(name="a prompt with a list of rated completions", needs=(PROMPT, ("completions",)), listed=scored_list),
    Layout(
        name="a prompt with one rated completion a row",
        needs=(PROMPT, COMPLETION, ("scores",)),
        listed=lambda row, reading, keys: single(row, reading),
        one_response_a_row=True,
    ),
    Layout(
        name="unpaired labels",
        needs=(PROMPT, COMPLETION, ("desirable",)),
        listed=lambda row, reading, keys: labelled(row, reading),
        one_response_a_row=True,
        labels=True,
    ),
)
HOUSE = Layout(name="conversations", needs=(CHOSEN, REJECTED), pair=chosen_and_rejected)
"""For a file without a readable row: each row is reported with its own reason."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What a table was taken for."""

    layout: Layout
    reading: Reading
    keys: Keys
    words: str
    """In a note: the layout and the columns that it was read from."""


def columns_read(columns: Collection[str], given: str = "") -> list[str]:
    """Return the columns of which some layout may read values; `given` is `prompt=question,...`."""
    roles = roles_of(columns, given)
    if roles.chosen and roles.rejected:  # what other layouts read is not needed then
        names = [getattr(roles, role) for role in PAIR_ROLES]
        return [name for name in columns if name in names]
    read = set(roles.columns())
    return [name for name in columns if name in read]


def taken_for(table: Table, options: LoadOptions) -> Taken:
    """Return the layout of a table of pairs. Raises `HarnessError` where it fits none."""
    roles = _strength_or_label(table, roles_of(table.columns, options.columns, table.where))
    sides = (roles.chosen, roles.rejected) if roles.chosen and roles.rejected else (roles.first, roles.second)
    side = most(row.get(name) for row in _sample(table) for name in sides if name)
    prompt = most(row.get(roles.prompt) for row in _sample(table)) if roles.prompt else None
    if table.rows and all(isinstance(row.values, RowError) for row in table.rows):
        return Taken(layout=HOUSE, reading=Reading(roles=roles, side="turns", prompt="text"), keys=Keys(), words="")
    layout = _fitting(roles, side)
    if layout is None:
        raise _fits_none(table, roles, side)
    if layout.labels and not options.pairs_from_labels:
        raise _unpaired(table)
    if prompt is None and roles.prompt and layout.side in ("turns", "transcript"):
        roles = _without_prompt(table, roles)
    reading = Reading(roles=roles, side=side, prompt=prompt, textual=table.textual, scored=_scored(table, roles))
    keys = keys_of(row.get(roles.completions) for row in _sample(table)) if roles.completions else Keys()
    return Taken(layout=layout, reading=reading, keys=keys, words=_words(layout, reading, keys))


def _unpaired(table: Table) -> HarnessError:
    return HarnessError(
        f"{table.where}: these are unpaired labels, one completion a row with a label whether it is good; got columns "
        f"{some(sorted(table.columns))}, expected two responses to compare; --pairs-from-labels pairs the completions "
        f"of prompts that have both labels. Layouts that load: {_known()}"
    )


def _known() -> str:
    """Return the layouts that load, each with its columns."""
    return "; ".join(f"{layout.name}: {_columns(layout)}" for layout in LAYOUTS if not layout.labels)


def listwise_reading(table: Table) -> tuple[Reading, Keys]:
    """Return how the rows of a table of scored lists are read. Raises `HarnessError` where a column is missing."""
    roles = roles_of(table.columns, where=table.where)
    missing = [name for name in ("prompt", "completions") if getattr(roles, name) is None]
    if missing and any(_sample(table)):
        name = {"completions": "responses"}.get(missing[0], missing[0])
        raise HarnessError(
            f"{table.where}: no column '{name}'; got columns {some(sorted(table.columns))}, expected prompt, "
            "responses; rename or add the column"
        )
    prompt = most(row.get(roles.prompt) for row in _sample(table)) if roles.prompt else None
    reading = Reading(roles=roles, side=None, prompt=prompt, textual=table.textual)
    return reading, keys_of(row.get(roles.completions) for row in _sample(table)) if roles.completions else Keys()


def _sample(table: Table) -> Iterator[Mapping[str, Any]]:
    readable = (row.values for row in table.rows if not isinstance(row.values, RowError))
    return itertools.islice(readable, SAMPLE)


def _fitting(roles: Roles, side: Kind | None) -> Layout | None:
    paired = roles.chosen is not None and roles.rejected is not None
    for layout in LAYOUTS:
        if paired and layout.pair is not chosen_and_rejected:
            return None
        if not layout.lacks(roles) and (layout.side is None or layout.side == (side or "turns")):
            return layout
    return None


def _fits_none(table: Table, roles: Roles, side: Kind | None) -> HarnessError:
    near = [layout for layout in LAYOUTS if side is None or layout.side in (None, side)] or list(LAYOUTS)
    nearest = max(near, key=lambda layout: (layout.shares(roles), -len(layout.lacks(roles))))
    if not nearest.shares(roles):
        nearest = next(layout for layout in LAYOUTS if layout.side == "text")
    lacks = nearest.lacks(roles)
    asked = ",".join(f"{role}=COLUMN" for role in lacks)
    return HarnessError(
        f"{table.where}: no column '{lacks[0]}'; got columns {some(sorted(table.columns))}, which fit no layout; the "
        f"nearest is '{nearest.name}', which lacks {', '.join(lacks)}; rename or add the column, or name it with "
        f"--columns {asked}. Layouts: {_known()}"
    )


def _columns(layout: Layout) -> str:
    return ", ".join(" or ".join(SHOWN.get(name, name) for name in names) for names in layout.needs)


SHOWN = {
    "first": "response_1",
    "second": "response_2",
    "strength": "preference_strength",
    "scores": "score",
    "desirable": "label",
}
"""A column to name in errors for a role that is no column's name."""


def _strength_or_label(table: Table, roles: Roles) -> Roles:
    """Return the roles with one of the two: a column is a strength where most values are numbers, some below 0."""
    if roles.strength is None:
        return roles
    values = [number(row.get(roles.strength), table.textual) for row in _sample(table)]
    numbers = [value for value in values if isinstance(value, int | float) and not isinstance(value, bool)]
    shared = roles.strength == roles.label
    signed = 2 * len(numbers) >= len(values) and (not shared or any(value < 0 for value in numbers))
    return replace(roles, label=None) if signed else replace(roles, strength=None)


def _without_prompt(table: Table, roles: Roles) -> Roles:
    """Return the roles without a column of prompts that is null in every row: the sides say what the prompt is."""
    name = str(roles.prompt)
    if any(row.values.get(name) is not None for row in table.rows if not isinstance(row.values, RowError)):
        return roles
    return roles_of(table.columns - {name})


def _scored(table: Table, roles: Roles) -> bool:
    """Return whether there are scores: columns for them, not empty in every row."""
    names = (roles.score_chosen, roles.score_rejected)
    if any(names) and not all(names) and roles.gap is None:
        have = next(name for name in names if name)
        lost = _other_side(have)
        raise HarnessError(
            f"{table.where}: no column '{lost}'; got columns {some(sorted(table.columns))}, expected it beside "
            f"'{have}'; rename or add the column"
        )
    columns = names if all(names) else (roles.gap,)
    read = (row.values for row in table.rows if not isinstance(row.values, RowError))
    present = [name for name in columns if name]
    return any(name in row and not _empty(number(row[name], table.textual)) for row in read for name in present)


def _empty(value: object) -> bool:
    """Return whether a cell holds nothing: null, NaN as tables write a missing number, or a blank."""
    return value is None or value != value or (isinstance(value, str) and not value.strip())


def _other_side(name: str) -> str:
    """Return the name that the score of the other side would have: `score_rejected` for `score_chosen`."""
    words = plain(name).split("_")
    for these, those in ((WINNERS, LOSERS), (LOSERS, WINNERS)):
        for this, that in zip(these, those, strict=True):
            if this in words:
                return name.lower().replace(this, that) if this not in ("w", "l") else f"{name[:-1]}{that}"
    return name


def _words(layout: Layout, reading: Reading, keys: Keys) -> str:
    roles = reading.roles
    shown = [role for names in layout.needs for role in names if getattr(roles, role)][: len(layout.needs)]
    if layout.pair is chosen_and_rejected:
        if reading.roles.prompt and "prompt" not in shown:
            shown.insert(0, "prompt")
        if reading.scored:
            shown += ["score_chosen", "score_rejected"] if roles.score_chosen and roles.score_rejected else ["gap"]
    elif layout.listed and roles.scores and "scores" not in shown and keys == Keys():
        shown.append("scores")
    shown += [role for role in ("system", "document", "input") if getattr(roles, role) and reading.side != "turns"]
    shown += ["subset"] if roles.subset else []
    columns = [str(getattr(roles, role)) for role in shown]
    words = f"{layout.name} (columns {some(columns)})"
    if layout.pair is chosen_and_rejected and not roles.prompt:
        words += "; the turns that both sides share are the prompt"
    if {"gap", "strength"} & set(shown):
        words += "; the gap of the scores is the size of that number, 0 is a tie"
    if layout.listed is None:
        return words
    score = roles.scores if layout.one_response_a_row else keys.score
    return words + (f"; pairs: {LABEL_RULE}" if layout.labels else f"; pairs: {RULE}, by {score}")
