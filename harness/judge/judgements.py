"""The answers of a run's cells -> what a judge is asked of them -> `judgements/<judge>.parquet`, a row per question."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api import Dataset, HarnessError, JudgeRequest, Listwise, MadeTask, Message, Pair, Rating, Verdict
from harness.api.judging import Asked
from harness.run_folder.paths import GENERATIONS, answers_folder
from harness.run_folder.tables import read_frame

if TYPE_CHECKING:
    import pandas as pd

READ = ("prompt_id", "sample", "text")
"""What is read of them."""
JUDGEMENTS = "judgements"
"""Folder in a cell's folder: a table per judge."""
ASKED = "asked"
"""In the metadata of such a table: a hash over its questions."""
BASE = "base"
"""What stands for the answers of the start checkpoint in the column `against`."""


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
    def read(cls, cell: Path, fraction: float = 1.0) -> CellAnswers:
        """Read the answers of the cell in the folder `cell`, at its end or at a point along its run."""
        folder = answers_folder(cell, fraction)
        table = read_frame(folder / GENERATIONS, READ)
        places = zip(table["prompt_id"].astype(str), table["sample"].astype(int), strict=True)
        texts = dict(zip(places, table["text"].astype(str), strict=True))
        return cls(key=cell.name, folder=folder, texts=texts, fraction=fraction)


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

    @classmethod
    def of(cls, data: Dataset) -> Prompts:
        """Return the held-out prompts of a data set."""
        held_out: tuple[Pair | Listwise, ...] = (
            *data.dev,
            *data.test,
            *data.test_lenbalanced,
            *data.listwise_dev,
            *data.listwise_test,
        )
        return cls(contexts={row.prompt_id: row.context for row in held_out}, tasks=data.tasks)

    def request(self, prompt_id: str, answers: tuple[str, ...], repeat: int, cell: str) -> JudgeRequest:
        """Return the question about these answers. Raises `HarnessError` for a prompt that the data do not have."""
        if prompt_id not in self.contexts:
            raise HarnessError(
                f"{cell}/{GENERATIONS}: got prompt {prompt_id}, which the run's data do not have, expected one of "
                "theirs; generate again"
            )
        task = self.tasks.get(prompt_id)
        return JudgeRequest(
            prompt_id=prompt_id, context=self.contexts[prompt_id], answers=answers, task=task, repeat=repeat
        )


def askings(cell: CellAnswers, base: CellAnswers, prompts: Prompts, asks: Asked, repeats: int) -> list[Asking]:
    """Return what a judge is asked of a cell: each answer alone, or beside that of the base in both orders.

    Where a judge compares, the base itself is asked nothing, and an answer without one of the base is left out.
    """
    made = []
    for (prompt_id, sample), text in cell.texts.items():
        for repeat in range(repeats):
            if asks == "answers":
                request = prompts.request(prompt_id, (text,), repeat, cell.key)
                made.append(Asking(sample=sample, against="", order=0, request=request))
            elif cell.key != base.key and (prompt_id, sample) in base.texts:
                answers = (text, base.texts[prompt_id, sample])
                request = prompts.request(prompt_id, answers, repeat, cell.key)
                made.append(Asking(sample=sample, against=BASE, order=0, request=request))
                made.append(Asking(sample=sample, against=BASE, order=1, request=request.swapped))
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
    names = ["prompt_id", "sample", "against", "order", "repeat", "preference", "rating", "reason", "judge"]
    return pd.DataFrame(rows, columns=names).astype({"preference": "float64", "rating": "float64"})


def write(folder: Path, judgements: pd.DataFrame, judge: str, asked: Sequence[Asking]) -> Path:
    """Write the table of a judge beside the answers, whole or not at all; return where.

    Its metadata say what was asked, so that `kept` knows it again.
    """
    path = _path(folder, judge)
    path.parent.mkdir(exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    judgements.attrs = {ASKED: _digest(asked)}
    judgements.to_parquet(unfinished, index=False, compression="zstd")
    unfinished.replace(path)
    return path


def kept(folder: Path, judge: str, asked: Sequence[Asking]) -> pd.DataFrame | None:
    """Return the table that lies beside the answers where the judge said something to each of these very questions."""
    path = _path(folder, judge)
    if not path.is_file():
        return None
    there = read_frame(path, ("preference", "rating"))
    answered = there["preference"].notna() | there["rating"].notna()
    return there if there.attrs.get(ASKED) == _digest(asked) and answered.all() else None


def _path(folder: Path, judge: str) -> Path:
    return folder / JUDGEMENTS / f"{file_name(judge)}.parquet"


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


def file_name(judge: str) -> str:
    """Return the identity of a judge as the name of a file."""
    return re.sub(r"[^A-Za-z0-9.@-]+", "-", judge)
