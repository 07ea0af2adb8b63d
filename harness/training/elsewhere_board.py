"""Which board a checkpoint that was trained elsewhere stands on: that of a run's model, or one of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness.data.heldout import HeldOut
from harness.models.start import StartCheckpoint
from harness.planning.elsewhere import Brought, ScoreRun
from harness.planning.events import Phase, Tell
from harness.planning.grid import cell_key
from harness.planning.job import Job, board_key, facts_of_test
from harness.planning.run_file import PROTOCOL
from harness.run_folder.facts import DataFacts, LossFacts, ModelFacts, Spend
from harness.run_folder.paths import CELLS, ELSEWHERE_BOARDS, is_run
from harness.run_folder.record import BASELINES, Record
from harness.run_folder.store import read_records
from harness.training.cell_record import environment, finish, scorer_facts
from harness.training.live_engine import LiveEngine

BASE, LONGER_WINS = BASELINES


@dataclass(frozen=True, kw_only=True)
class Checked:
    """A checkpoint that was trained elsewhere, as files and with the held-out pairs as its tokenizer reads them."""

    brought: Brought
    checkpoint: StartCheckpoint
    reference: StartCheckpoint | None
    held: HeldOut


@dataclass(frozen=True, kw_only=True)
class Place:
    """The board that a checkpoint stands on."""

    folder: Path
    """The run folder of the board."""
    baseline: Record
    """The row `longer-wins` of the board's model: what it says of model, data and settings holds for all its rows."""
    base: Record | None
    """The row `base`; None where there is no reference."""


def beside_a_model(job: Job, checked: Checked) -> Place | None:
    """Return the board of the run's model that reads the same tokens, one of this size first; None where none does."""
    if not checked.brought.in_run:
        return None
    records = records_of(job.folder)
    fits = [record for record in records if record.label == LONGER_WINS and _same_tokens(record, checked.held)]
    fits.sort(key=lambda record: (record.model.parameters != checked.checkpoint.parameters, record.key))
    return _place(job.folder, records, fits[0]) if fits else None


def own_board(job: Job, checked: Checked, engine: LiveEngine, tell: Tell) -> Place:
    """Return the board of the reference, or of checkpoints without one; its baseline rows are written where missing."""
    brought, reference, held = checked.brought, checked.reference, checked.held
    folder = job.folder / ELSEWHERE_BOARDS if brought.in_run else job.folder
    if brought.in_run:
        models = ", ".join(sorted({record.model.name for record in records_of(job.folder)}))
        tell(Phase(text=f"{brought.model} reads other tokens than {models}: it stands on a board of its own"))
    start = reference.fingerprint if reference else None
    records = records_of(folder)
    known = [record for record in records if record.label == LONGER_WINS]
    there = [record for record in known if _same_tokens(record, held) and record.model.fingerprint == start]
    if there:
        return _place(folder, records, there[0])
    model = _model_facts(checked)
    if model.name in {record.model.name for record in known}:
        exact = hashlib.sha256(f"{held.fingerprint}{start}".encode()).hexdigest()[:6]
        model = model.model_copy(update={"name": f"{model.name}-{exact}"})
    baseline = _write_baselines(job, folder, model, checked, engine, tell)
    return _place(folder, records_of(folder), baseline)


def records_of(folder: Path) -> list[Record]:
    """Return the finished cells of a folder; none of one that is no run yet."""
    return read_records(folder) if is_run(folder) else []


def _model_facts(checked: Checked) -> ModelFacts:
    """Return what a board of its own calls its model: the reference, or without one the architecture."""
    reference = checked.reference
    if reference is None:
        return ModelFacts(name=checked.checkpoint.family)
    return ModelFacts(
        name=replace(checked.brought, model=str(checked.brought.reference)).name,
        preset=reference.preset,
        id=reference.id,
        revision=reference.revision,
        parameters=reference.parameters,
        fingerprint=reference.fingerprint,
        quantised=reference.quantised,
    )


def _write_baselines(
    job: Job, folder: Path, model: ModelFacts, checked: Checked, engine: LiveEngine, tell: Tell
) -> Record:
    """Write the row `base`, where there is a reference, then `longer-wins`, and return it: it says that both are."""
    reference, held = checked.reference, checked.held
    characters = held.responses["characters"].to_numpy(dtype=np.float64)
    nothing = np.full(len(characters), np.nan)
    if reference is not None:
        tell(Phase(text=f"scoring the reference {reference.id} with {job.scorer.name}"))
        scored = engine.score(reference.folder, held)
        base = _baseline_record(job, model, held, BASE).model_copy(update={"scorer": scored.scorer})
        finish(held, folder / CELLS / base.key, base, scored.sums, scored.sums, nothing)
    record = _baseline_record(job, model, held, LONGER_WINS)
    finish(held, folder / CELLS / record.key, record, nothing, nothing, characters)
    return record


def _baseline_record(job: Job, model: ModelFacts, held: HeldOut, name: str) -> Record:
    data = job.dataset
    return Record(
        protocol=PROTOCOL,
        status="ok",
        reason="",
        kind="reference",
        key=cell_key(model.name, name, name, None),
        label=name,
        loss=LossFacts(name=name, options={}),
        model=model,
        dataset=DataFacts.of(
            {
                "name": data.name,
                "source": data.source,
                "fingerprint": data.fingerprint,
                "test_pairs": int((held.pairs["split"] == job.run.evaluate_on).sum()),
                "truncated_test_pairs": held.truncated_pairs,
                "skipped": dict(data.skipped),
                "left_out": dict(held.left_out),
                "notes": tuple(data.notes),
                **facts_of_test(data),
            }
        ),
        tokens_fingerprint=held.fingerprint,
        board=board_key(replace(job, run=ScoreRun.of(job.run))),
        spend=Spend(),
        scorer=scorer_facts(job),
        environment=environment(job),
        metrics={},
    )


def _place(folder: Path, records: Sequence[Record], baseline: Record) -> Place:
    base = [record for record in records if record.label == BASE and record.model.name == baseline.model.name]
    return Place(folder=folder, baseline=baseline, base=base[0] if base else None)


def _same_tokens(record: Record, held: HeldOut) -> bool:
    """Return whether a record is of these ids; a run's names those of its training pairs too, before them."""
    return (record.tokens_fingerprint or "").rpartition("-")[2] == held.fingerprint
