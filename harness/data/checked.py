"""Raw pairs and lists -> `Pair` and `Listwise`: the single place that judges what a row says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from harness.api import Listwise, Message, Pair, Response
from harness.data.layouts.raw_pair import ABSENT, Column, RawList, RawPair
from harness.data.prompts import id_of_context, pair_id_of
from harness.data.raw import RowError, counted, quoted
from harness.data.turns import NAN, check_context, conversation, given_id, messages_of, response, score, text


@dataclass(kw_only=True)
class Ids:
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


def pair_of(raw: RawPair, ids: Ids) -> Pair:
    """Return the pair, after every check of its content."""
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
        _check_prompt(raw.prompt, context, (chosen, rejected), raw.chosen.name)
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
        subset=raw.subset,
    )


def _check_text(prompt: Column) -> None:
    if isinstance(prompt.value, list):
        messages_of(prompt)
    else:
        text(prompt.value, prompt.name, prompt.name)


def _check_prompt(prompt: Column, context: Sequence[Message], responses: Sequence[str], side: str) -> None:
    """Raise where the column is neither the first or last user turn, white space at its ends aside, nor the turns.

    The turns may have one of the responses after them, as a copy of a side has.
    """
    if isinstance(prompt.value, list):
        turns = [(turn.role, turn.content.strip()) for turn in messages_of(prompt)]
        if turns[-1] in [("assistant", response.strip()) for response in responses]:
            turns = turns[:-1]
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


def list_of(raw: RawList, ids: Ids, fewest: int) -> Listwise:
    """Return the prompt with its responses, at least `fewest`, after every check of their content."""
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
    prompt_id = ids.of(raw.prompt_id, context)
    return Listwise(prompt_id=prompt_id, context=context, responses=tuple(responses), subset=raw.subset)
