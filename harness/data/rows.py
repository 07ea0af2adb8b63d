"""Raw rows of any layout -> checked `Pair`s, `Listwise` prompts and SFT examples.

Strict: the first defective row raises an error that names file, row, line and column. Lenient: defective rows are
skipped and counted by reason. Legal but noteworthy rows (ties, copies, reused prompt ids) are kept and become a note.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from harness.api import HarnessError, Listwise, LoadOptions, Message, Pair, Response
from harness.data.layouts.lists import binarised, scored_list, together
from harness.data.layouts.raw_pair import ABSENT, Column, RawList, RawPair
from harness.data.layouts.table import Taken, listwise_reading, taken_for
from harness.data.layouts.values import as_turns
from harness.data.prompts import clustered, contradictory, id_of_context, numbered, pair_id_of
from harness.data.raw import NoPairError, RawRow, RowError, Table, counted, quoted, some
from harness.data.turns import NAN, check_context, conversation, given_id, messages_of, response, score, text

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


@dataclass(kw_only=True)
class _Ids:
    """Where the ids of a table's prompts come from; `made` counts those that the data left null."""

    made: int = 0
    given: bool = False

    def of(self, column: Column | None, context: Sequence[Message]) -> str:
        """Return the given id, or the hash of the whole context."""
        self.given = self.given or column is not None
        prompt_id = given_id(column)
        self.made += prompt_id is None
        return id_of_context(context) if prompt_id is None else prompt_id

    def notes(self) -> list[str]:
        """Return what to say of ids that the data does not bring."""
        if not self.given:
            return ["no prompt_id: the sha256 of the prompt is used, of its whole context where it has more turns"]
        return [f"null prompt_id: {counted(self.made, 'row')}, the sha256 of the prompt is used"] if self.made else []


def pairs_of(table: Table, options: LoadOptions) -> Loaded[Pair]:
    """Return the pairs of `table`, each with its cluster (`prompt_id`) and a `pair_id` unique in the table."""
    taken = taken_for(table, options.columns)
    if taken.layout.listed is not None:
        return _pairs_of_lists(table, taken, options)
    read = taken.layout.pair
    assert read is not None, "taken_for raises for a layout that gives no pairs"
    ids = _Ids()
    pairs, skipped = _usable(table, lambda values: _pair(read(values, taken.reading), ids), options)
    return _loaded(table, pairs, skipped, taken, ids)


def _pairs_of_lists(table: Table, taken: Taken, options: LoadOptions) -> Loaded[Pair]:
    """Return a pair for each prompt with rated completions, and the full lists."""
    read, ids = taken.layout.listed, _Ids()
    assert read is not None
    single = taken.layout.one_response_a_row
    fewest = 1 if single else 2
    lists, skipped = _usable(
        table, lambda values: _listwise(read(values, taken.reading, taken.keys), ids, fewest), options
    )
    lists, clusters = clustered(lists)
    if single:
        lists = together(lists)
    pairs, left = [], Counter(skipped)
    for each in lists:
        try:
            pairs.append(binarised(each, options.seed))
        except NoPairError as reason:
            left[reason.reason] += 1
    if not pairs:
        raise HarnessError(
            f"{table.where}: got no prompt with two different rated completions of {len(lists)} prompts, expected at "
            "least one; give the file in which each prompt has all its completions"
        )
    lists = tuple(each for each in lists if len(each.responses) > 1)
    return _loaded(table, tuple(pairs), left, taken, ids, clusters, lists)


def _loaded(
    table: Table,
    pairs: tuple[Pair, ...],
    skipped: Mapping[str, int],
    taken: Taken,
    ids: _Ids,
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
    ids = _Ids()
    rows, skipped = _usable(table, lambda values: _listwise(scored_list(values, reading, keys), ids, 2), options)
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
    ids = _Ids()

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


def _pair(raw: RawPair, ids: _Ids) -> Pair:
    if raw.prompt is not None:
        _check_text(raw.prompt)
    context, chosen = conversation(raw.chosen)
    other, rejected = conversation(raw.rejected)
    score_chosen, score_rejected = (
        NAN if column is None else score(column.value, column.name, column.name)
        for column in (raw.score_chosen, raw.score_rejected)
    )
    sides = (raw.chosen.name, raw.rejected.name)
    if context != other:
        raise RowError(
            "context mismatch", sides, "the turns before the response differ, expected the same turns on both sides"
        )
    if raw.prompt is not None:
        _check_prompt(raw.prompt, context, raw.chosen.name)
    if chosen == rejected:
        raise RowError("identical pair", sides, "the two responses are identical, expected two different ones")
    if score_chosen < score_rejected:
        assert raw.score_chosen is not None
        assert raw.score_rejected is not None
        names = (raw.score_chosen.name, raw.score_rejected.name)
        raise RowError(
            "negative gap",
            names,
            f"{names[0]} {score_chosen} is less than {names[1]} {score_rejected}, expected a gap of 0 or more",
        )
    prompt_id = ids.of(raw.prompt_id, context)
    return Pair(
        pair_id=pair_id_of(prompt_id, context, chosen, rejected),
        prompt_id=prompt_id,
        context=context,
        chosen=chosen,
        rejected=rejected,
        score_chosen=score_chosen,
        score_rejected=score_rejected,
    )


def _check_text(prompt: Column) -> None:
    if isinstance(prompt.value, list):
        messages_of(prompt)
    else:
        text(prompt.value, prompt.name, prompt.name)


def _check_prompt(prompt: Column, context: Sequence[Message], side: str) -> None:
    """Raise where the column is neither the first or last user turn, white space at its ends aside, nor the turns."""
    if isinstance(prompt.value, list):
        turns = [(turn.role, turn.content.strip()) for turn in messages_of(prompt)]
        stand = [(turn.role, turn.content.strip()) for turn in context][-len(turns) :] == turns
    else:
        users = [turn.content.strip() for turn in context if turn.role == "user"]
        stand = str(prompt.value).strip() in (users[0], users[-1])
    if not stand:
        raise RowError(
            "prompt mismatch",
            (prompt.name,),
            f"{prompt.name} is {quoted(prompt.value)}, expected {side}'s first or last user turn, or its turns "
            "before the response",
        )


def _listwise(raw: RawList, ids: _Ids, fewest: int) -> Listwise:
    context = messages_of(raw.prompt)
    check_context(raw.prompt.name, context)
    column, entries = raw.responses.name, raw.responses.value
    if not isinstance(entries, list) or len(entries) < fewest or not all(isinstance(entry, dict) for entry in entries):
        got = f"a list of {len(entries)}" if isinstance(entries, list) else quoted(entries)
        keys = f"{{{raw.model}, {raw.content}, {raw.score}}}"
        raise RowError("bad responses", (column,), f"{column} is {got}, expected a list of two or more {keys}")
    responses = []
    seen: Counter[str] = Counter()
    for index, entry in enumerate(entries):
        where = f"{column}[{index}]"
        said = response(text(entry.get(raw.content, ABSENT), raw.content, column, f"{where}."), column, where)
        name = str(index)
        if entry.get(raw.model) is not None:
            name = text(entry[raw.model], raw.model, column, f"{where}.")
        seen[name] += 1
        responses.append(
            Response(
                response_id=name if seen[name] == 1 else f"{name}-{seen[name]}",
                text=said,
                score=score(entry.get(raw.score, ABSENT), f"{where}.{raw.score}", column),
            )
        )
    return Listwise(prompt_id=ids.of(raw.prompt_id, context), context=context, responses=tuple(responses))
