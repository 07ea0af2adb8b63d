"""A trained cell, scored by a live engine at its end and at the points along its run: tables, answers, record."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.api import Generated, HarnessError, OpenScorer
from harness.data.heldout import HeldOut
from harness.models.adapters import is_adapter, is_zero
from harness.models.convert import write_merged
from harness.models.load import load_tokenizer
from harness.planning.events import AnsweringBegins, CellScored, ScoringBegins, Tell
from harness.planning.grid import Cell
from harness.planning.job import cell_folder
from harness.run_folder.full_disk import told
from harness.run_folder.generation_facts import GenerationFacts
from harness.run_folder.hashes import file_hash
from harness.run_folder.json_types import Number
from harness.run_folder.paths import DEV, GENERATIONS, MERGED, WEIGHTS, answers_folder, point_folder
from harness.run_folder.point_facts import DevFacts, PointFacts
from harness.run_folder.record import Record
from harness.run_folder.store import write_record, write_tables
from harness.run_folder.trained import read_trained, remove_scored
from harness.score.canary import canary_parity
from harness.statistics.summary import summarise
from harness.training.asked import Asked
from harness.training.cell_record import cell_record, finish, numbers, scored_record, scored_tables
from harness.training.generations import answers_table, sampled, write_answers
from harness.training.own_rewards import own_rewards
from harness.training.prepared import Prepared
from harness.training.trackers import Tracked, report_metrics


@dataclass(frozen=True, kw_only=True)
class Scoring:
    """What every cell of a model is scored by."""

    prepared: Prepared
    engine: OpenScorer
    canary: OpenScorer | None
    base: np.ndarray
    """(requests,) summed log-probs under the start checkpoint."""
    dev: np.ndarray | None
    """The same of the development split, where a run chooses among points on it."""
    asked: Asked | None
    """What every model answers; None where a run generates nothing."""
    tell: Tell

    def parity(self, sums: np.ndarray) -> float | None:
        """Return how far the scorer is from the transformers scorer on a few pairs, nats; None without a second one."""
        job, held = self.prepared.job, self.prepared.held_out
        return canary_parity(self.canary, held, sums, scorer=job.scorer.name, dtype=job.run.settings.dtype)

    def score(self, weights: Path, *, checked: bool = False) -> np.ndarray:
        """Return the log-probs, (requests,), under other weights, which the engine has afterwards.

        `checked`: so has the second scorer, for `parity`. Raises `HarnessError` where an adapter changed none of them.
        """
        with whole(weights, self.prepared) as checkpoint:
            self.engine.load(checkpoint)
            if checked and self.canary:
                self.canary.load(checkpoint)
        sums = self.engine.score(self.prepared.held_out.requests)
        if is_adapter(weights) and np.array_equal(sums, self.base) and not is_zero(weights):
            dtype = self.prepared.job.run.settings.dtype
            raise HarnessError(
                f"the adapter of {weights.parent.name} changed none of {len(sums)} log-probs of the start checkpoint, "
                f"expected some: what it learned is less than {dtype} tells apart; train longer, at a higher "
                "--learning-rate or with --dtype float32"
            )
        return sums

    def score_dev(self) -> np.ndarray | None:
        """Return the log-probs of the development split under the weights that the engine has; None where none is."""
        dev = self.prepared.dev
        return self.engine.score(dev.requests) if dev else None

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
    dev: np.ndarray | None
    """The same of the development split, where a run chooses among points on it."""
    answers: Sequence[Generated]


@contextmanager
def whole(weights: Path, prepared: Prepared) -> Iterator[Path]:
    """Yield a checkpoint that scorers take; an adapter merged onto the start checkpoint, for as long as it is read."""
    if not is_adapter(weights):
        yield weights
        return
    run, merged = prepared.job.run, weights.parent / MERGED
    shutil.rmtree(merged, ignore_errors=True)  # of a run that was killed
    try:
        with told(merged.parent, "the weights that an adapter is merged into"):
            write_merged(prepared.start.folder, weights, merged, run.settings.dtype, run.trust_remote_code)
        yield merged
    finally:
        shutil.rmtree(merged, ignore_errors=True)


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
        record = _score(scoring, cell, record, folder)
        report_metrics(Tracked.of(job, cell), record.metrics, record.spend.steps or 0)
    else:
        write_record(folder, record)
    tell(CellScored(key=cell.key))
    remove_scored(folder, keep_end=job.keep_checkpoints)
    if (folder / WEIGHTS).is_dir():
        tokenizer = load_tokenizer(prepared.start.folder, job.run.trust_remote_code, job.chat_template)
        tokenizer.save_pretrained(folder / WEIGHTS)


def _score(scoring: Scoring, cell: Cell, record: Record, folder: Path) -> Record:
    """Score a cell at its end and at earlier points, then have all answered, then write: what fails leaves no table."""
    began = time.perf_counter()
    sums, dev = scoring.score(folder / WEIGHTS, checked=True), scoring.score_dev()
    record = scored_record(record, scoring.parity(sums), time.perf_counter() - began)
    at = {1.0: _At(sums=sums, dev=dev, answers=scoring.sample(cell.key))}
    for point in record.points:
        if point.fraction < 1:
            scoring.tell(ScoringBegins(key=cell.key))
            sums = scoring.score(point_folder(folder, point.fraction) / WEIGHTS)
            at[point.fraction] = _At(sums=sums, dev=scoring.score_dev(), answers=scoring.sample(cell.key))
    read = {fraction: _read(scoring, cell, there) for fraction, there in at.items()}
    answered = _write_answers(scoring, cell, at, folder)
    points = tuple(_written(record, folder, point, read[point.fraction], answered) for point in record.points)
    facts = ({"points": points} if points else {}) | ({"generation": answered[1.0]} if answered else {})
    end = read[1.0][0]
    return finish(end.held, folder, record.model_copy(update=facts), end.sums, end.base, end.reward)


@dataclass(frozen=True, kw_only=True)
class _Read:
    """A split of held-out data as a cell reads it at one point."""

    held: HeldOut
    sums: np.ndarray
    base: np.ndarray
    reward: np.ndarray
    """(requests,) each: summed log-probs of the cell and of the start checkpoint, and the loss's own rewards."""


def _read(scoring: Scoring, cell: Cell, there: _At) -> list[_Read]:
    """Return the held-out data as a cell reads them at one point, and behind them the development split, if any."""
    splits = [(scoring.prepared.held_out, there.sums, scoring.base)]
    if scoring.prepared.dev is not None:
        assert there.dev is not None, "it is scored where there is a dev split"
        assert scoring.dev is not None, "and so is that of the start checkpoint"
        splits.append((scoring.prepared.dev, there.dev, scoring.dev))
    found = []
    for held, sums, base in splits:
        lengths = np.array([len(request.response) for request in held.requests], dtype=np.float64)
        reward = own_rewards(cell.system.loss, sums, lengths=lengths, base=base)
        found.append(_Read(held=held, sums=sums, base=base, reward=reward))
    return found


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
    record: Record, folder: Path, point: PointFacts, read: Sequence[_Read], answered: Mapping[float, GenerationFacts]
) -> PointFacts:
    """Write the tables of a point; return what the record says of it, with the hashes of all that lie there."""
    place, (held, *dev) = point_folder(folder, point.fraction), read
    metrics, files = _tables(record, place, held)
    if answered and point.fraction < 1:
        files[GENERATIONS] = file_hash(place / GENERATIONS)
    facts: dict[str, object] = {"metrics": metrics, "files": files}
    facts |= {"generation": answered[point.fraction]} if answered else {}
    for split in dev:
        on_dev, files_on_dev = _tables(record, place / DEV, split)
        facts["dev"] = DevFacts(metrics=on_dev, files=files_on_dev)
    return point.model_copy(update=facts)


def _tables(record: Record, folder: Path, read: _Read) -> tuple[dict[str, Number], dict[str, str]]:
    """Write the two tables of a split; return its metrics and the hashes of its files."""
    rows, responses = scored_tables(read.held, read.sums, read.base, read.reward)
    metrics, _ = summarise(rows, responses, record.averaged)
    return numbers(metrics), write_tables(folder, record.key, rows, responses)
