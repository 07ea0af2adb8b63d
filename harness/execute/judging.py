"""The answers of a finished run, judged: `harness judge`."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from harness.api import Dataset, HarnessError, JudgeCost, JudgeOptions, JudgeSource
from harness.execute.campaign import locked
from harness.execute.elsewhere import data_of
from harness.judge import judgements
from harness.judge.judgements import AGAINST, BASE, CHOSEN, Asking, CellAnswers, Prompts, Rivals, chosen_responses
from harness.manager import Manager, judges, plugin_manager
from harness.run_folder.manifest import read_manifest
from harness.run_folder.paths import GENERATIONS, cache_folder
from harness.run_folder.record import Record
from harness.run_folder.store import read_records

REPLIES = "judges"
"""Folder in the cache: what endpoints replied."""


@dataclass(frozen=True, kw_only=True)
class Judging:
    """What a judge is going to be asked about a run, and what that costs."""

    run: Path
    source: JudgeSource
    what: str
    """What stands behind the colon of the judge's name."""
    identity: str
    options: JudgeOptions
    asked: Mapping[Path, tuple[Asking, ...]]
    """By folder of the cell."""
    cost: JudgeCost

    @property
    def plan(self) -> str:
        """One line for the screen: what will be asked, and what it costs."""
        count = sum(map(len, self.asked.values()))
        kind = "comparisons" if self.source.asks == "pairs" else "ratings"
        free = "nothing to send"
        sent = (
            f"{self.cost.requests} requests to send, about {self.cost.tokens_in:,} tokens in and at most "
            f"{self.cost.tokens_out:,} out"
        )
        return f"{self.identity}: {count} {kind} of {len(self.asked)} cells; {sent if self.cost.requests else free}"


def options_of(max_requests: int | None, parallel: int, timeout: float, trust_remote_code: bool) -> JudgeOptions:
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


def against_of(text: str) -> tuple[str, ...]:
    """Return what answers are compared with, of `base,chosen`. Raises `HarnessError` for anything else."""
    names = tuple(dict.fromkeys(text.replace(" ", "").split(",")))
    if not {*names} <= {*AGAINST}:
        raise HarnessError(f"got --against {text}, expected {', '.join(AGAINST)} or both, as base,chosen; set it so")
    return names


def judging(
    run: Path, judge: str, repeats: int, dataset: str | None, options: JudgeOptions, against: Sequence[str] = (BASE,)
) -> Judging:
    """Return what is asked of a judge, `NAME` or `NAME:WHAT`, about the answers of a finished run; nothing is sent.

    `dataset`: where its data lie now, where that is not where they lay. `against`: what answers are compared with, the
    base's, the data's chosen responses or both. Raises `HarnessError` for an unknown judge or one that cannot judge
    here, for a run without answers, and where more requests are due than the options allow.
    """
    manager = plugin_manager()
    source, what = _found(judge, manager)
    if repeats < 1:
        raise HarnessError(f"got --repeats {repeats}, expected 1 or more; set it so")
    records = _with_answers(run)
    data = data_of(run, read_manifest(run), dataset, manager)[1]
    rivals = _rivals(records, data, against)
    prompts = Prompts.of(data)
    asked = {
        record.folder: tuple(
            judgements.askings(
                CellAnswers.read(record.folder), rivals[record.model.name], prompts, source.asks, repeats
            )
        )
        for record in records
    }
    asked = {folder: questions for folder, questions in asked.items() if questions}
    cost = source.cost(what, [each.request for questions in asked.values() for each in questions], options)
    if options.max_requests is not None and cost.requests > options.max_requests:
        raise HarnessError(
            f"judge '{judge}': got {cost.requests} requests to send, expected at most {options.max_requests}; raise "
            "--max-requests"
        )
    return Judging(
        run=run, source=source, what=what, identity=source.identity(what), options=options, asked=asked, cost=cost
    )


def carry_out_judging(judging: Judging, say: Callable[[str], object]) -> None:
    """Ask the judge about each cell and write its table; what was answered before is not asked again."""
    with locked(judging.run):
        judge = judging.source.open(judging.what, judging.options)
        try:
            for folder, asked in judging.asked.items():
                said = judge.judge([each.request for each in asked])
                table = judgements.table(asked, said, judging.identity)
                judgements.write(folder, table, judging.identity)
                say(f"{folder.name}: {_summary(table)}")
        finally:
            judge.close()


def _found(judge: str, manager: Manager) -> tuple[JudgeSource, str]:
    name, _, what = judge.partition(":")
    known = judges(manager)
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f" (did you mean '{close[0]}'?)" if close else ""
        raise HarnessError(f"got judge '{name}', expected one of {', '.join(sorted(known))}{hint}; name one")
    reason = known[name].why_not(what)
    if reason is not None:
        raise HarnessError(f"judge '{name}' cannot judge: {reason}")
    return known[name], what


def _with_answers(run: Path) -> list[Record]:
    """Return the cells that have answers; each model's base is among them."""
    records = [record for record in read_records(run) if (record.folder / GENERATIONS).exists()]
    bases = {record.model.name for record in records if _is_base(record)}
    lacking = sorted({record.model.name for record in records} - bases)
    if not records or lacking:
        whose = f" of the base of {', '.join(lacking)}" if lacking else ""
        raise HarnessError(
            f"{run}: got no answers{whose} ({GENERATIONS}), expected those of every cell and of its base; run it with "
            "--generate"
        )
    return records


def _is_base(record: Record) -> bool:
    return record.label == BASE


def _rivals(records: Sequence[Record], data: Dataset, against: Sequence[str]) -> dict[str, Rivals]:
    """Return what answers are compared with, by model."""
    return {
        record.model.name: Rivals(
            base=CellAnswers.read(record.folder),
            chosen=chosen_responses(record, data) if CHOSEN in against else {},
            against=against,
        )
        for record in records
        if _is_base(record)
    }


def _summary(table: pd.DataFrame) -> str:
    """Return the mean of what was said, and how much of it could not be read or fits no rule, by reason."""
    rates = (table["against"] == "").any()
    parts = []
    for against, rows in table.groupby("against", sort=False):
        whose = f" of the {against} responses" if against else ""
        mean = rows["rating" if rates else "preference"].mean()
        parts.append(f"mean rating{whose} {mean:.3f}" if rates else f"preferred to {against} {mean:.3f}")
    faults = table.loc[table["reason"] != "", "reason"].value_counts()
    told = "".join(f"; {count} of {len(table)}: {reason}" for reason, count in faults.items())
    return f"{', '.join(parts)}{told}"
