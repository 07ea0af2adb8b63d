"""What a worker process is given, and the record of a cell that came to nothing. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.api import Dataset, Loss, ScorerSource
from harness.manager import Owner
from harness.planning.grid import Cell, System
from harness.planning.run_file import PROTOCOL, Run
from harness.run_folder.store import write_record


@dataclass(frozen=True, kw_only=True)
class Job:
    """The cells of one model, with all that a worker process needs."""

    run: Run
    model: str
    cells: tuple[Cell, ...]
    owners: Mapping[str, Owner]
    """By the loss's name."""
    dataset: Dataset
    scorer: ScorerSource
    canary: ScorerSource | None
    """The transformers scorer, unless it is the scorer or cannot run."""
    scorer_note: str
    """Why this scorer, where it is not the product's first choice; empty otherwise."""
    folder: Path
    cache: Path
    keep_checkpoints: bool
    side_by_side: int
    """Models computed at the same time on this machine; wall-clock seconds are to be read with it."""
    threads: int
    """Threads of the worker on CPU; the same for every model of a run, so that the order of work changes no sum."""


def cell_folder(job: Job, key: str) -> Path:
    """Return the folder of a cell."""
    return job.folder / "cells" / key


def loss_fields(job: Job, loss: Loss) -> dict[str, Any]:
    """Return who the loss is and who brought it."""
    owner = job.owners[loss.name]
    return {
        "name": loss.name,
        "options": loss.options(),
        "needs_reference": loss.needs_reference,
        "tags": [loss.comparison, "averaged" if loss.length_normalised else "summed"],
        "plugin": owner.distribution,
        "version": owner.version,
    }


def system_fields(job: Job, system: System) -> dict[str, Any]:
    """Return what a record says of the system: its loss, its learning rate and, where it was tuned, how."""
    trial, rate = system.trial, learning_rate(job, system)
    fields = {"label": system.label, "loss": loss_fields(job, system.loss), "learning_rate": rate}
    return fields if trial is None else fields | {"tuning": asdict(trial)}


def learning_rate(job: Job, system: System) -> float:
    """Return the system's own learning rate, or the run's."""
    return job.run.settings.learning_rate if system.learning_rate is None else system.learning_rate


def board(job: Job) -> dict[str, Any]:
    """Return the board's key: what must be the same for two records to stand in one table."""
    return job.run.decisive() | {"scorer": job.scorer.name}


def record_failure(job: Job, cell: Cell, status: str, reason: str, fields: Mapping[str, Any]) -> None:
    """Write the record of a cell that has no scores. Needs nothing but the job, so that the parent can write it too."""
    folder = cell_folder(job, cell.key)
    known = {
        "protocol": PROTOCOL,
        "kind": "loss",
        "key": cell.key,
        **system_fields(job, cell.system),
        "model": {"name": job.model, "preset": job.run.preset},
        "dataset": {"name": job.dataset.name, "fingerprint": job.dataset.fingerprint},
        "seed": cell.seed,
        "board": board(job),
        "spend": {},
        "scorer": {"name": job.scorer.name},
        "metrics": {},
    }
    write_record(folder, known | dict(fields) | {"status": status, "reason": reason}, None, None)
