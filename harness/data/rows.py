"""Raw rows of any layout -> checked `Pair`s, `Listwise` prompts and SFT examples.

Strict: the first defective row raises an error that names file, row, line and column. Lenient: defective rows are
skipped and counted by reason. Legal but noteworthy rows (ties, copies, reused prompt ids) are kept and become a note.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from harness.api import HarnessError, Listwise, LoadOptions, Message, Pair
from harness.data.checked import Ids, list_of, pair_of
from harness.data.layouts.lists import binarised, by_label, scored_list, together
from harness.data.layouts.raw_pair import ABSENT, Column
from harness.data.layouts.table import Taken, listwise_reading, taken_for
from harness.data.layouts.values import as_turns
from harness.data.prompts import clustered, contradictory, numbered
from harness.data.raw import NoPairError, RawRow, RowError, Table, counted, some
from harness.data.turns import conversation

SFT_COLUMNS = ("prompt_id", "messages")

Kind = TypeVar("Kind", Pair, Listwise, "Sft")
Built = TypeVar("Built")


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
    taken_for: str = ""
    """The layout of a table of pairs."""
    listwise: tuple[Listwise, ...] = ()
    """The full lists that pairs were made from, where the data has rated completions."""


def pairs_of(table: Table, options: LoadOptions) -> Loaded[Pair]:
    """Return the pairs of `table`, each with its cluster (`prompt_id`) and a `pair_id` unique in the table."""
    taken = taken_for(table, options)
    if taken.layout.listed is not None:
        return _pairs_of_lists(table, taken, options)
    read = taken.layout.pair
    assert read is not None, "taken_for raises for a layout that gives no pairs"
    ids = Ids()
    pairs, skipped = _usable(table, lambda values: pair_of(read(values, taken.reading), ids), options)
    return _loaded(table, pairs, skipped, taken, ids)


def _pairs_of_lists(table: Table, taken: Taken, options: LoadOptions) -> Loaded[Pair]:
    """Return a pair for each prompt with rated completions, and the full lists."""
    read, ids = taken.layout.listed, Ids()
    assert read is not None
    single = taken.layout.one_response_a_row
    fewest = 1 if single else 2
    lists, skipped = _usable(
        table, lambda values: list_of(read(values, taken.reading, taken.keys), ids, fewest), options
    )
    lists, clusters = clustered(lists)
    if single:
        lists = together(lists)
    pairs, left = [], Counter(skipped)
    for each in lists:
        try:
            pairs += by_label(each) if taken.layout.labels else [binarised(each, options.seed)]
        except NoPairError as reason:
            left[reason.reason] += 1
    if not pairs:
        raise HarnessError(
            f"{table.where}: got no prompt of {len(lists)} with two completions to compare, expected at least "
            "one; give the file in which each prompt has all its completions"
        )
    lists = () if taken.layout.labels else tuple(each for each in lists if len(each.responses) > 1)
    return _loaded(table, tuple(pairs), left, taken, ids, clusters, lists)


def _loaded(
    table: Table,
    pairs: tuple[Pair, ...],
    skipped: Mapping[str, int],
    taken: Taken,
    ids: Ids,
    clusters: list[str] | None = None,
    lists: tuple[Listwise, ...] = (),
) -> Loaded[Pair]:
    notes = []
    if all(pair.score_chosen != pair.score_chosen for pair in pairs):
        notes.append("no annotation scores: gap quartiles, correlations and score-weighted losses cannot be computed")
    notes += ids.notes()
    if ties := sum(pair.score_chosen == pair.score_rejected for pair in pairs):
        notes.append(f"{counted(ties, 'tie')} (score_chosen = score_rejected), kept")
    if clusters is None:
        pairs, clusters = clustered(pairs)
    notes += clusters + contradictory(pairs)
    pairs, copies = numbered(pairs)
    return Loaded(
        rows=pairs,
        skipped=dict(skipped),
        notes=tuple(f"{table.where}: {note}" for note in notes + copies),
        taken_for=taken.words,
        listwise=lists,
    )


def listwise_of(table: Table, options: LoadOptions) -> Loaded[Listwise]:
    """Return the prompts of `table` with their scored responses (column `responses`: {model, content, score})."""
    reading, keys = listwise_reading(table)
    ids = Ids()
    rows, skipped = _usable(table, lambda values: list_of(scored_list(values, reading, keys), ids, 2), options)
    return Loaded(rows=rows, skipped=skipped)


def sft_of(table: Table, options: LoadOptions) -> Loaded[Sft]:
    """Return the SFT examples of `table` (column `messages`); the last turn is the response to learn."""
    readable = any(not isinstance(row.values, RowError) for row in table.rows)
    if "messages" not in table.columns and (readable or not table.rows):
        raise HarnessError(
            f"{table.where}: no column 'messages'; got columns {some(sorted(table.columns))}, expected messages; "
            "rename or add the column"
        )
    identified = "prompt_id" in table.columns
    ids = Ids()

    def build(values: Mapping[str, Any]) -> Sft:
        messages = Column(name="messages", value=as_turns(values.get("messages", ABSENT)))
        context, answer = conversation(messages)
        given = Column(name="prompt_id", value=values.get("prompt_id", ABSENT)) if identified else None
        return Sft(prompt_id=ids.of(given, context), context=context, response=answer)

    rows, skipped = _usable(table, build, options)
    return Loaded(rows=rows, skipped=skipped)


def sft_columns(columns: Collection[str]) -> list[str]:
    """Return the columns of SFT examples that there are."""
    return [name for name in columns if name in SFT_COLUMNS]


def _usable(
    table: Table, build: Callable[[Mapping[str, Any]], Built], options: LoadOptions
) -> tuple[tuple[Built, ...], dict[str, int]]:
    """Return what `build` makes of each row, and the number of rows skipped by reason.

    `build` raises `RowError` for a defective row; strict loading turns the first one into a `HarnessError`.
    """
    built: list[Built] = []
    skipped: Counter[str] = Counter()
    defective = 0
    first, where = "", table.where
    for row in table.rows:
        try:
            if isinstance(row.values, RowError):
                raise row.values
            built.append(build(row.values))
        except RowError as error:
            skipped[error.reason] += 1
            defective += not isinstance(error, NoPairError)
            if not first and not isinstance(error, NoPairError):
                first, where = _place(row, error), row.where or table.where
    if first and not options.lenient:
        more = f"; {counted(defective - 1, 'more row')} defective" if defective > 1 else ""
        raise HarnessError(f"{where}: {first}; correct the row, or pass --lenient to skip such rows{more}")
    if not built:
        reasons = ", ".join(f"{reason} {count}" for reason, count in skipped.items())
        raise HarnessError(
            f"{table.where}: got no usable row of {len(table.rows)} ({reasons or 'no rows'}), expected at least one; "
            f"correct the file{'; the first is ' + first if first else ''}"
        )
    return tuple(built), dict(skipped)


def _place(row: RawRow, error: RowError) -> str:
    line = "" if row.line is None else f" (line {row.line})"
    columns = list(dict.fromkeys(error.columns))
    kind = ("", ", column ", ", columns ")[min(len(columns), 2)]
    return f"row {row.number}{line}{kind}{some(columns)}: {error}" if columns else f"row {row.number}{line}: {error}"
