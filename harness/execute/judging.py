"""The answers of a finished run, judged: `harness judge`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api import Dataset, HarnessError, JudgeCost, JudgeOptions, JudgeSource
from harness.execute.campaign import locked
from harness.execute.elsewhere import data_of
from harness.execute.judge_choice import choose_judge, require_tasks
from harness.judge import judgements
from harness.judge.judgements import AGAINST, BASE, CHOSEN, Asking, CellAnswers, Prompts, Rivals, chosen_responses
from harness.manager import plugin_manager
from harness.run_folder.manifest import read_manifest
from harness.run_folder.paths import GENERATIONS, cache_folder
from harness.run_folder.store import read_records

if TYPE_CHECKING:
    import pandas as pd

REPLIES = "judges"
"""Folder in the cache: what endpoints replied."""
ASKS = {"pairs": "comparisons", "answers": "ratings"}
"""What a judge gives, by what it is asked."""


@dataclass(frozen=True, kw_only=True)
class Questions:
    """What is asked of the answers of a cell, at its end or at a point along its run."""

    answers: CellAnswers
    asked: tuple[Asking, ...]
    kept: pd.DataFrame | None
    """What the judge has said to all of it already."""


@dataclass(frozen=True, kw_only=True)
class Judging:
    """What a judge is going to be asked about a run, and what that costs."""

    run: Path
    source: JudgeSource
    what: str
    """What stands behind the colon of the judge's name."""
    identity: str
    options: JudgeOptions
    questions: tuple[Questions, ...]
    cost: JudgeCost
    """Of those that have no answer yet."""

    @property
    def plan(self) -> str:
        """One line for the screen: what will be asked, and what it costs."""
        count = sum(len(each.asked) for each in self.questions)
        cells = sum(each.answers.fraction == 1 for each in self.questions)
        points, done = len(self.questions) - cells, sum(each.kept is not None for each in self.questions)
        what = f"{count} {ASKS[self.source.asks]} of {cells} cells" + (f" and {points} points" if points else "")
        return f"{self.identity}: {what}{f', {done} of which are judged' if done else ''}; {cost_in_words(self.cost)}"


def cost_in_words(cost: JudgeCost) -> str:
    """Return what is said of a cost."""
    if not cost.requests:
        return "nothing to send"
    sent = f"{cost.requests:,} requests to send, about {cost.tokens_in:,} tokens in"
    return f"{sent} and at most {cost.tokens_out:,} out"


def options_of(
    max_requests: int | None,
    *,
    trust_remote_code: bool,
    parallel: int = JudgeOptions.parallel,
    timeout: float = JudgeOptions.timeout,
) -> JudgeOptions:
    """Return how judges are opened, with the replies kept in the cache of the harness."""
    for name, value in (("--parallel", parallel), ("--timeout", timeout)):
        if value <= 0:
            raise HarnessError(f"got {name} {value}, expected more than 0; set it so")
    return JudgeOptions(
        cache=cache_folder() / REPLIES,
        max_requests=max_requests,
        parallel=parallel,
        timeout=timeout,
        trust_remote_code=trust_remote_code,
    )


def data_to_judge(run: Path, dataset: str | None) -> Dataset:
    """Return the data of a finished run, read again; `dataset`: where they lie now, if not where they lay."""
    return data_of(run, read_manifest(run), dataset, plugin_manager())[1]


def against_of(text: str) -> tuple[str, ...]:
    """Return what answers are compared with, of `base,chosen`. Raises `HarnessError` for anything else."""
    names = tuple(dict.fromkeys(text.replace(" ", "").split(",")))
    if not {*names} <= {*AGAINST}:
        raise HarnessError(f"got --against {text}, expected {', '.join(AGAINST)} or both, as base,chosen; set it so")
    return names


def judging(
    run: Path, judge: str, repeats: int, data: Dataset, options: JudgeOptions, against: Sequence[str] = (BASE,)
) -> Judging:
    """Return what is asked of a judge, `NAME` or `NAME:WHAT`, about the answers of a finished run; nothing is sent.

    `against`: what answers are compared with, the base's, the data's chosen responses or both. Raises `HarnessError`
    for an unknown judge or one that cannot judge here, for a run without answers, and where more requests are due than
    the options allow.
    """
    source, what = choose_judge(judge, plugin_manager())
    if repeats < 1:
        raise HarnessError(f"got --repeats {repeats}, expected 1 or more; set it so")
    cells, prompts, identity = _with_answers(run, data, against), Prompts.of(data), source.identity(what)
    require_tasks(source, data, {prompt for cell, _ in cells for prompt, _ in cell.texts} & prompts.contexts.keys())
    questions = []
    for cell, rivals in cells:
        asked = tuple(judgements.askings(cell, rivals, prompts, source.asks, repeats))
        if asked:
            there = judgements.kept(cell.folder, identity, asked)
            questions.append(Questions(answers=cell, asked=asked, kept=there))
    left = [each.request for of_cell in questions if of_cell.kept is None for each in of_cell.asked]
    cost = source.cost(what, left, options)
    if options.max_requests is not None and cost.requests > options.max_requests:
        raise HarnessError(
            f"judge '{judge}': got {cost.requests} requests to send, expected at most {options.max_requests}; raise "
            "--max-requests"
        )
    return Judging(
        run=run, source=source, what=what, identity=identity, options=options, questions=tuple(questions), cost=cost
    )


def carry_out_judging(judging: Judging, say: Callable[[str], object]) -> None:
    """Ask the judge about each cell and point and write its table; what was answered before is not asked again."""
    for each in judging.questions:
        if each.kept is not None:
            say(f"{each.answers.name}: {_summary(each.kept)}")
    left = [each for each in judging.questions if each.kept is None]
    if left:
        with locked(judging.run):
            _ask(judging, left, say)


def _ask(judging: Judging, left: Sequence[Questions], say: Callable[[str], object]) -> None:
    judge = judging.source.open(judging.what, judging.options)
    try:
        for each in left:
            said = judge.judge([asking.request for asking in each.asked])
            table = judgements.table(each.asked, said, judging.identity)
            judgements.write(each.answers.folder, table, judging.identity, each.asked)
            say(f"{each.answers.name}: {_summary(table)}")
    finally:
        judge.close()


def _with_answers(run: Path, data: Dataset, against: Sequence[str]) -> list[tuple[CellAnswers, Rivals]]:
    """Return each cell that has answers, and each point along its run that has, with what they are compared with."""
    records = [record for record in read_records(run) if record.scored and (record.folder / GENERATIONS).exists()]
    bases = {record.model.name: record for record in records if record.label == BASE}
    lacking = sorted({record.model.name for record in records} - set(bases))
    if not records or lacking:
        whose = f" of the base of {', '.join(lacking)}" if lacking else ""
        raise HarnessError(
            f"{run}: got no answers{whose} ({GENERATIONS}), expected those of every cell and of its base; run it with "
            "--generate"
        )
    rivals = {
        model: Rivals(
            base=CellAnswers.read(record),
            chosen=chosen_responses(record, data) if CHOSEN in against else {},
            against=against,
        )
        for model, record in bases.items()
    }
    return [
        (CellAnswers.read(there, fraction), rivals[record.model.name])
        for record in records
        for fraction, there in (
            (1.0, record),
            *((at.fraction, record.at(at)) for at in record.points if at.generation and at.fraction < 1),
        )
    ]


def _summary(table: pd.DataFrame) -> str:
    """Return the mean of what was said, and how much of it could not be read or fits no rule, by reason."""
    rates = (table["against"] == "").any()
    parts = []
    for against in table["against"].unique():
        rows = table[table["against"] == against]
        whose = f" of the {against} responses" if against else ""
        mean = rows["rating" if rates else "preference"].mean()
        parts.append(f"mean rating{whose} {mean:.3f}" if rates else f"preferred to {against} {mean:.3f}")
    faults = table.loc[table["reason"] != "", "reason"].value_counts()
    told = "".join(f"; {count} of {len(table)}: {reason}" for reason, count in faults.items())
    return f"{', '.join(parts)}{told}"
