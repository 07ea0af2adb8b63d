"""What is checked of the answers that models sampled, and of what judges said of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from harness.api.errors import HarnessError
from harness.exchange.cell_checks import Check, near, some
from harness.exchange.untrusted import WholeCell, WholePoint
from harness.run_folder.generation_facts import GenerationFacts
from harness.run_folder.hashes import file_hash
from harness.run_folder.paths import CELLS, GENERATIONS, JUDGEMENTS, RECORD, judgements_file
from harness.run_folder.tables import (
    ANSWER_COLUMNS,
    ANSWER_KEYS,
    ANSWER_METRICS,
    JUDGED,
    JUDGEMENT_COLUMNS,
    QUESTION_KEYS,
    read_frame,
    read_judgements,
)
from harness.statistics.answers import distinct, longest_loop

if TYPE_CHECKING:
    import pandas as pd

AGAINST = ("", "base", "chosen")
FINISHED = ("stop", "length")
REASON = 100
"""Characters that a reason may have; a text or an error of a server has more."""
SECRET = re.compile(r"\b(?:sk|key|token)-[A-Za-z0-9_-]{8,}|bearer |://[^/@\s]+:[^/@\s]+@|[?&](?:api_?)?key=", re.I)
"""What a key looks like that came into a name or a reason."""
ANEW = "; generate again"
JUDGE_AGAIN = "; delete the file and judge again"


def check_answers(cells: Sequence[WholeCell]) -> Check:
    """Answers are to the first held-out prompts, by the same seeds in all cells; their numbers follow from them."""
    problems, checked = [], 0
    asked: dict[str, tuple[str, pd.DataFrame]] = {}
    for cell in filter(_has_own_answers, cells):
        facts, path = cell.record.generation, cell.record.folder / GENERATIONS
        if facts is None or not path.is_file():
            problems.append(
                f"{cell.file(GENERATIONS)}: got {'a' if facts is None else 'no'} table, expected "
                f"{'none' if facts is None else 'one'} as {RECORD} says{ANEW}"
            )
            continue
        try:
            table = read_frame(path, ANSWER_COLUMNS)
        except HarnessError as error:
            problems.append(str(error))
            continue
        checked += len(table)
        where, others = asked.setdefault(cell.record.model.name, (cell.name, table))
        same = all(list(table[name]) == list(others[name]) for name in (*ANSWER_KEYS, "seed"))
        problems += [f"{cell.file(GENERATIONS)}: {said}{ANEW}" for said in _wrong_answers(cell, table, facts)]
        problems += [] if same else [f"{cell.file(GENERATIONS)}: got other prompts or seeds than {where}{ANEW}"]
        problems += [f"{cell.file(RECORD)}: {said}{ANEW}" for said in _other_means(table, facts)]
    return Check(
        summary=f"{checked:,} answers are to the same prompts, and metrics are what their tokens and log-probs give",
        problems=tuple(problems),
        notes=("not checked: kl_low_variance and rouge_l by answer, whose log-probs and texts are elsewhere",)
        if checked
        else (),
    )


def _has_own_answers(cell: WholeCell) -> bool:
    """Say whether a cell or a point has answers, or should have; those of the last point are the cell's."""
    if isinstance(cell, WholePoint) and cell.record.folder.name == "1":
        return False
    return cell.record.generation is not None or (cell.record.folder / GENERATIONS).exists()


def _wrong_answers(cell: WholeCell, table: pd.DataFrame, facts: GenerationFacts) -> Iterator[str]:
    """Yield what is wrong with a table of answers by itself."""
    main = cell.rows[cell.rows["split"] == cell.record.board.evaluated_on]
    wanted = [
        (prompt, sample) for prompt in main["prompt_id"].unique()[: facts.prompts] for sample in range(facts.samples)
    ]
    if facts.asked is None and list(zip(table["prompt_id"], table["sample"], strict=True)) != wanted:
        yield (
            f"got {len(table)} answers, expected {facts.samples} to each of the first {facts.prompts} held-out prompts "
            "in order"
        )
    if not table["finish"].isin(FINISHED).all():
        yield f"got finish other than {', '.join(FINISHED)}"
    if (table[["sum_logp", "ref_sum_logp"]] > 0).any(axis=None):
        yield "got a log-prob above 0"
    tokens = [list(ids) for ids in table["tokens"]]
    follow = {
        "length": [len(ids) for ids in tokens],
        "cut": (table["finish"] == "length").to_numpy(np.float64),
        "distinct_2": [distinct(ids, 2) for ids in tokens],
        "longest_loop": [longest_loop(ids) for ids in tokens],
    }
    plain = facts.temperature == 1 and facts.top_p == 1
    ratio = (table["sum_logp"] - table["ref_sum_logp"]).to_numpy(np.float64)
    follow["kl_log_ratio"] = ratio if plain else np.full(len(table), np.nan)
    for name, values in follow.items():
        off = ~near(table[name].to_numpy(np.float64), np.asarray(values, dtype=np.float64))
        if off.any():
            yield f"got another {name} of {off.sum()} answers ({some(table['prompt_id'][off])}) than their rows give"
    if max(map(len, tokens), default=0) > facts.max_new_tokens:
        yield f"got an answer of more than {facts.max_new_tokens} tokens"
    if (table["kl_low_variance"] < 0).any() or not table["rouge_l"].dropna().between(0, 1).all():
        yield "got a kl_low_variance below 0 or a rouge_l outside 0 to 1"


def _other_means(table: pd.DataFrame, facts: GenerationFacts) -> Iterator[str]:
    """Yield which means of a record are not those of the table."""
    means = table.groupby("prompt_id")[list(ANSWER_METRICS)].mean().mean()
    for name in ANSWER_METRICS:
        value = facts.metrics.get(name)
        got, wanted = np.nan if value is None else float(value), float(means[name])
        if not near(got, wanted):
            yield f"got {name} = {got:.12g} of answers, expected {wanted:.12g} as their table gives"


def check_judgements(run: Path, cells: Sequence[WholeCell]) -> Check:
    """Each judge's table is about the answers beside it, complete, within bounds, and holds no text and no key."""
    problems, tables, questions = [], 0, 0
    answered = {cell.record.folder for cell in cells if (cell.record.folder / GENERATIONS).is_file()}
    for folder in sorted((run / CELLS).rglob(JUDGEMENTS)):
        for path in sorted(folder.iterdir()):
            tables += 1
            name = path.relative_to(run)
            try:
                if path.suffix != ".parquet" or folder.parent not in answered:
                    raise HarnessError(f"{name}: got a file that is no judge's table about answers{JUDGE_AGAIN}")
                table = read_judgements(path)
                answers = read_frame(folder.parent / GENERATIONS, ANSWER_KEYS)
            except HarnessError as error:
                problems.append(str(error))
                continue
            questions += len(table)
            problems += [f"{name}: {said}{JUDGE_AGAIN}" for said in _wrong_table(path, table, answers)]
    return Check(
        summary=f"{questions:,} questions to judges, in {tables} tables, are about the answers beside them",
        problems=tuple(problems),
    )


def _wrong_table(path: Path, table: pd.DataFrame, answers: pd.DataFrame) -> Iterator[str]:
    """Yield what is wrong with a judge's table."""
    extra = [str(column) for column in table.columns if column not in JUDGEMENT_COLUMNS]
    if extra:
        yield f"got the columns {', '.join(extra)}, expected {', '.join(JUDGEMENT_COLUMNS)} alone"
    judges = list(table["judge"].unique())
    if len(judges) != 1 or judgements_file(path.parent.parent, str(judges[0])) != path:
        yield f"got the judges {some(judges)}, expected the one that the file is named after"
    if table.attrs.get(JUDGED) != file_hash(path.parent.parent / GENERATIONS):
        yield f"got verdicts about other answers than those in {GENERATIONS} beside it"
    if len(table.merge(answers[list(ANSWER_KEYS)])) != len(table) or table.duplicated(list(QUESTION_KEYS)).any():
        yield f"got a question twice, or about an answer that {GENERATIONS} does not have, expected each once"
    reasons = [str(reason) for reason in table["reason"].unique()]
    if max(map(len, reasons), default=0) > REASON or any(map(SECRET.search, [*reasons, *map(str, judges)])):
        yield f"got a reason of more than {REASON} characters, or a key, expected a few words"
    yield from _wrong_values(table)


def _wrong_values(table: pd.DataFrame) -> Iterator[str]:
    """Yield which values of a judge's table cannot be."""
    if not (
        table["against"].isin(AGAINST).all() and table["order"].isin((0, 1)).all() and (table["repeat"] >= 0).all()
    ):
        yield f"got against, order or repeat outside {', '.join(map(repr, AGAINST))}; 0, 1; 0 and more"
    rates = (table["against"] == "").any()
    value, other = (table["rating"], table["preference"]) if rates else (table["preference"], table["rating"])
    if other.notna().any():
        yield "got ratings beside preferences, expected one of them"
    outside = np.isinf(value) if rates else (value < 0) | (value > 1)
    if outside.any():
        yield f"got {'an infinite rating' if rates else 'a preference outside 0 to 1'} in {outside.sum()} rows"
    unread = value.isna()
    if (unread & (table["reason"] == "")).any() or (not rates and (~unread & (table["reason"] != "")).any()):
        yield "got a row with neither a value nor a reason, or with both"
    orders = table.groupby(["prompt_id", "sample", "against", "repeat"])["order"].agg(set)
    if not rates and (orders != {0, 1}).any():
        yield f"got one order only of {int((orders != {0, 1}).sum())} comparisons, expected both"
