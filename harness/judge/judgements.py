"""The answers of a run's cells -> what a judge is asked of them -> `judgements/<judge>.parquet`, a row per question."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api import (
    Dataset,
    HarnessError,
    JudgeRequest,
    Listwise,
    MadeTask,
    Message,
    OpenPrompt,
    Pair,
    Rating,
    Verdict,
)
from harness.api.judging import Asked
from harness.run_folder.hashes import file_hash
from harness.run_folder.paths import GENERATIONS, ROWS, judgements_file
from harness.run_folder.record import Record
from harness.run_folder.tables import JUDGED, JUDGEMENT_COLUMNS, JUDGEMENT_NUMBERS, read_judgements, write_judgements

if TYPE_CHECKING:
    import pandas as pd

READ = ("prompt_id", "sample", "text")
"""What is read of them."""
ASKED = "asked"
"""In the metadata of such a table: a hash over its questions."""
BASE, CHOSEN = "base", "chosen"
"""What stands in the column `against` for the answers of the start checkpoint, and for the data's chosen responses."""
AGAINST = (BASE, CHOSEN)


@dataclass(frozen=True, kw_only=True)
class CellAnswers:
    """What a cell's model answered."""

    key: str
    folder: Path
    texts: Mapping[tuple[str, int], str]
    """By prompt id and number of the sample."""
    fraction: float = 1.0
    """Of the budget: 1 is the end, what is less a point along its run."""

    @property
    def name(self) -> str:
        """What it is called on the screen."""
        return self.key if self.fraction == 1 else f"{self.key} at {self.fraction:.10g}"

    @classmethod
    def read(cls, record: Record, fraction: float = 1.0) -> CellAnswers:
        """Read the answers of a cell; of its record at a point along the run (`Record.at`), those of that point."""
        table = record.columns(GENERATIONS, READ)
        places = zip(table["prompt_id"].tolist(), table["sample"].astype(int).tolist(), strict=True)
        texts = dict(zip(places, table["text"].tolist(), strict=True))
        return cls(key=record.key, folder=record.folder, texts=texts, fraction=fraction)


@dataclass(frozen=True, kw_only=True)
class Asking:
    """One question about one answer of a cell."""

    sample: int
    against: str
    """Whose answer it is compared with; "" where it is rated alone."""
    order: int
    """0: the judge sees the cell's answer first, 1: it sees it second."""
    request: JudgeRequest


@dataclass(frozen=True, kw_only=True)
class Prompts:
    """The prompts of a data set by id, with what is known of their tasks."""

    contexts: Mapping[str, tuple[Message, ...]]
    tasks: Mapping[str, MadeTask] = field(default_factory=dict)
    second: Mapping[str, OpenPrompt] = field(default_factory=dict)
    """The prompts that have a second turn, by the id of that."""

    @classmethod
    def of(cls, data: Dataset) -> Prompts:
        """Return the prompts that models answer: held-out ones, or those in their place."""
        if data.to_answer is not None:
            asked = data.to_answer.prompts
            return cls(
                contexts={each.prompt_id: each.context for each in asked},
                second={each.second_id: each for each in asked if each.second},
            )
        held_out: tuple[Pair | Listwise, ...] = (
            *data.dev,
            *data.test,
            *data.test_lenbalanced,
            *data.listwise_dev,
            *data.listwise_test,
        )
        return cls(contexts={row.prompt_id: row.context for row in held_out}, tasks=data.tasks)

    def request(
        self, cell: CellAnswers, prompt_id: str, sample: int, answers: tuple[str, ...], repeat: int
    ) -> JudgeRequest:
        """Return the question about these answers. Raises `HarnessError` for a prompt that the data do not have.

        A second turn has the cell's own first answer before it.
        """
        context, second = self.contexts.get(prompt_id), self.second.get(prompt_id)
        first = cell.texts.get((second.prompt_id, sample)) if second else None
        if second and first is not None:
            turns = (Message(role="assistant", content=first), Message(role="user", content=second.second))
            context = (*second.context, *turns)
        if context is None:
            raise HarnessError(
                f"{cell.key}/{GENERATIONS}: got prompt {prompt_id}, which the run's data do not have, expected one of "
                "theirs; generate again"
            )
        task = self.tasks.get(prompt_id)
        return JudgeRequest(prompt_id=prompt_id, context=context, answers=answers, task=task, repeat=repeat)


@dataclass(frozen=True, kw_only=True)
class Rivals:
    """What the answers of a model's cells are compared with."""

    base: CellAnswers
    chosen: Mapping[str, str] = field(default_factory=dict)
    """The data's chosen response by prompt id."""
    against: Sequence[str] = (BASE,)
    """Which of the two, of `AGAINST`."""

    def of(self, cell: CellAnswers, prompt_id: str, sample: int) -> list[tuple[str, str]]:
        """Return the rivals of an answer, each with its text; the base is none of its own."""
        base = None if cell.key == self.base.key else self.base.texts.get((prompt_id, sample))
        texts = {BASE: base, CHOSEN: self.chosen.get(prompt_id)}
        return [(name, text) for name in self.against if (text := texts[name]) is not None]


def chosen_responses(record: Record, data: Dataset) -> dict[str, str]:
    """Return the chosen response by prompt id: that of the prompt's first main pair, which ROUGE-L takes too.

    Of prompts in the place of held-out ones it is the answer that they bring. `record`: a scored cell of the model,
    because a model may have left out pairs that its template refuses.
    """
    if data.to_answer is not None:
        return {each.prompt_id: each.rival.strip() for each in data.to_answer.prompts if each.rival}
    pairs = {pair.pair_id: pair.chosen for pair in (*data.test, *data.dev)}
    rows = record.columns(ROWS, ("pair_id", "prompt_id", "split"))
    found: dict[str, str] = {}
    for pair_id, prompt_id, split in zip(rows["pair_id"], rows["prompt_id"], rows["split"], strict=True):
        if split == record.board.evaluated_on:
            found.setdefault(prompt_id, pairs[pair_id].strip())  # as answers are
    return found


def askings(cell: CellAnswers, rivals: Rivals, prompts: Prompts, asks: Asked, repeats: int) -> list[Asking]:
    """Return what a judge is asked of a cell: each answer alone, or beside each of its rivals in both orders.

    An answer without one of the base is not compared with it, nor are second turns, before which each model has an
    answer of its own. Where a judge rates, the chosen responses are rated with the base's answers, once per prompt.
    """
    made = []
    for (prompt_id, sample), text in cell.texts.items():
        for repeat in range(repeats):
            if asks == "answers":
                request = prompts.request(cell, prompt_id, sample, (text,), repeat)
                made.append(Asking(sample=sample, against="", order=0, request=request))
                continue
            for name, rival in () if prompt_id in prompts.second else rivals.of(cell, prompt_id, sample):
                request = prompts.request(cell, prompt_id, sample, (text, rival), repeat)
                made.append(Asking(sample=sample, against=name, order=0, request=request))
                made.append(Asking(sample=sample, against=name, order=1, request=request.swapped))
    if asks == "answers" and CHOSEN in rivals.against and cell.key == rivals.base.key:
        for prompt_id in dict.fromkeys(prompt_id for prompt_id, _ in cell.texts):
            for repeat in range(repeats if prompt_id in rivals.chosen else 0):
                request = prompts.request(cell, prompt_id, 0, (rivals.chosen[prompt_id],), repeat)
                made.append(Asking(sample=0, against=CHOSEN, order=0, request=request))
    return made


def table(asked: Sequence[Asking], said: Sequence[Verdict | Rating], judge: str) -> pd.DataFrame:
    """Return a row per question; `preference` is for the cell's answer in either order, NaN where there is none."""
    import pandas as pd

    if len(said) != len(asked):
        raise HarnessError(f"judge '{judge}': got {len(said)} answers to {len(asked)} questions; correct the judge")
    rows = []
    for each, answer in zip(asked, said, strict=True):
        preference = rating = None
        if isinstance(answer, Verdict):
            preference = (answer.swapped if each.order else answer).preference
        else:
            rating = answer.value
        place = (each.request.prompt_id, each.sample, each.against, each.order, each.request.repeat)
        rows.append((*place, preference, rating, answer.reason, judge))
    return pd.DataFrame(rows, columns=list(JUDGEMENT_COLUMNS)).astype(JUDGEMENT_NUMBERS)


def write(folder: Path, judgements: pd.DataFrame, judge: str, asked: Sequence[Asking]) -> Path:
    """Write the table of a judge beside the answers, whole or not at all; return where.

    What the judge said before of the same answers against other rivals stays. Its metadata say which answers they are,
    and what was asked, so that `kept` knows it again.
    """
    import pandas as pd

    path, answers = judgements_file(folder, judge), file_hash(folder / GENERATIONS)
    if path.is_file():
        before = read_judgements(path)
        others = before[~before["against"].isin(judgements["against"])]
        if before.attrs.get(JUDGED) == answers and len(others):
            judgements = pd.concat([others, judgements], ignore_index=True)
    judgements.attrs = {JUDGED: answers, ASKED: _digest(asked)}
    write_judgements(path, judgements)
    return path


def kept(folder: Path, judge: str, asked: Sequence[Asking]) -> pd.DataFrame | None:
    """Return the table that lies beside the answers where the judge said something to each of these very questions."""
    path = judgements_file(folder, judge)
    if not path.is_file():
        return None
    there = read_judgements(path)
    answered = there["preference"].notna() | there["rating"].notna()
    return there if there.attrs.get(ASKED) == _digest(asked) and answered.all() else None


def _digest(asked: Sequence[Asking]) -> str:
    """Return 16 hex digits over all that the judge is shown, in order."""
    shown = [
        (
            *(each.sample, each.against, each.order, each.request.prompt_id, each.request.repeat),
            *([turn.parts for turn in each.request.context], each.request.answers, each.request.reference),
        )
        for each in asked
    ]
    return hashlib.sha256(json.dumps(shown).encode()).hexdigest()[:16]
