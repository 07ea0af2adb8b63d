"""A trained cell, scored by a live engine at its end and at the points along its run: tables, answers, record."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.api import Generated, OpenScorer
from harness.models.load import load_tokenizer
from harness.planning.events import AnsweringBegins, CellScored, ScoringBegins, Tell
from harness.planning.grid import Cell
from harness.planning.job import cell_folder
from harness.run_folder.generation_facts import GenerationFacts
from harness.run_folder.paths import GENERATIONS, WEIGHTS, answers_folder, point_folder
from harness.run_folder.point_facts import PointFacts
from harness.run_folder.record import Record
from harness.run_folder.store import file_hash, write_record, write_tables
from harness.run_folder.trained import read_trained, remove_scored
from harness.score.canary import canary_parity
from harness.statistics.summary import summarise
from harness.training.asked import Asked
from harness.training.cell_record import cell_record, finish, numbers, scored_record, scored_tables
from harness.training.generations import answers_table, sampled, write_answers
from harness.training.own_rewards import own_rewards
from harness.training.prepared import Prepared


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """What every cell of a model is scored by."""

    prepared: Prepared
    engine: OpenScorer
    canary: OpenScorer | None
    base: np.ndarray
    """(requests,) summed log-probs under the start checkpoint."""
    asked: Asked | None
    """What every model answers; None where a run generates nothing."""
    tell: Tell

    def parity(self, sums: np.ndarray) -> float | None:
        """Return how far the scorer is from the transformers scorer on a few pairs, nats; None without a second one."""
        job, held = self.prepared.job, self.prepared.held_out
        return canary_parity(self.canary, held, sums, scorer=job.scorer.name, dtype=job.run.settings.dtype)

    def score(self, weights: Path) -> np.ndarray:
        """Return the log-probs, (requests,), under other weights, which the engine has afterwards."""
        self.engine.load(weights)
        return self.engine.score(self.prepared.held_out.requests)

    def sample(self, key: str) -> list[Generated]:
        """Return the answers of the weights that the engine has; none where a run generates nothing."""
        if self.asked is None:
            return []
        self.tell(AnsweringBegins(key=key))
        return sampled(self.asked, self.engine)


@dataclass(frozen=True, kw_only=True)
class _At:
    """What the weights at one point of a cell gave."""

    sums: np.ndarray
    """(requests,) summed log-probs."""
    answers: Sequence[Generated]


def score_cell(scoring: Scoring, cell: Cell) -> None:
    """Score one trained cell, and write its record; a diverged one is recorded without scores.

    The end and each point have the time limit of a cell to be scored, and once more for their answers.
    """
    prepared, job, tell = scoring.prepared, scoring.prepared.job, scoring.tell
    folder = cell_folder(job, cell.key)
    trained = read_trained(folder)
    if trained is None:  # failed in training: its record is there
        return
    tell(ScoringBegins(key=cell.key))
    record = cell_record(prepared, cell, trained)
    if record.scored:
        _score(scoring, cell, record, folder)
    else:
        write_record(folder, record)
    tell(CellScored(key=cell.key))
    remove_scored(folder, keep_end=job.keep_checkpoints)
    if (folder / WEIGHTS).is_dir():
        tokenizer = load_tokenizer(prepared.start.folder, job.run.trust_remote_code, job.chat_template)
        tokenizer.save_pretrained(folder / WEIGHTS)


def _score(scoring: Scoring, cell: Cell, record: Record, folder: Path) -> None:
    """Score a cell at its end and at earlier points, then have all answered, then write: what fails leaves no table."""
    began = time.perf_counter()
    sums = scoring.score(folder / WEIGHTS)
    if scoring.canary:
        scoring.canary.load(folder / WEIGHTS)
    record = scored_record(record, scoring.parity(sums), time.perf_counter() - began)
    at = {1.0: _At(sums=sums, answers=scoring.sample(cell.key))}
    for point in record.points:
        if point.fraction < 1:
            scoring.tell(ScoringBegins(key=cell.key))
            sums = scoring.score(point_folder(folder, point.fraction) / WEIGHTS)
            at[point.fraction] = _At(sums=sums, answers=scoring.sample(cell.key))
    held = scoring.prepared.held_out
    lengths = np.array([len(request.response) for request in held.requests], dtype=np.float64)
    rewards = {
        fraction: own_rewards(cell.system.loss, there.sums, lengths=lengths, base=scoring.base)
        for fraction, there in at.items()
    }
    answered = _write_answers(scoring, cell, at, folder)
    points = tuple(
        _written(scoring, record, folder, point, at[point.fraction].sums, rewards[point.fraction], answered)
        for point in record.points
    )
    facts = ({"points": points} if points else {}) | ({"generation": answered[1.0]} if answered else {})
    finish(held, folder, record.model_copy(update=facts), at[1.0].sums, scoring.base, rewards[1.0])


def _write_answers(scoring: Scoring, cell: Cell, at: Mapping[float, _At], folder: Path) -> dict[float, GenerationFacts]:
    """Write the answers at each point and return what the record says of them, by fraction of the budget.

    The engine has the start checkpoint's weights afterwards, which give the reference's log-probs of all answers.
    """
    if scoring.asked is None:
        return {}
    scoring.tell(AnsweringBegins(key=cell.key))
    scoring.engine.load(scoring.prepared.start.folder)
    tables = {fraction: answers_table(scoring.asked, there.answers, scoring.engine) for fraction, there in at.items()}
    return {
        fraction: write_answers(scoring.asked, answers_folder(folder, fraction), table)
        for fraction, table in tables.items()
    }


def _written(
    scoring: Scoring,
    record: Record,
    folder: Path,
    point: PointFacts,
    sums: np.ndarray,
    reward: np.ndarray,
    answered: Mapping[float, GenerationFacts],
) -> PointFacts:
    """Write the two tables of a point; return what the record says of it, with the hashes of all that lie there."""
    place = point_folder(folder, point.fraction)
    rows, responses = scored_tables(scoring.prepared.held_out, sums, scoring.base, reward)
    metrics, _ = summarise(rows, responses, record.averaged)
    files = write_tables(place, record.key, rows, responses)
    if answered and point.fraction < 1:
        files[GENERATIONS] = file_hash(place / GENERATIONS)
    facts = {"metrics": numbers(metrics), "files": files}
    return point.model_copy(update=facts | ({"generation": answered[point.fraction]} if answered else {}))
