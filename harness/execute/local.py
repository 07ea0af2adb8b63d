"""Run the unfinished cells of a model on this machine: in worker processes, watched from outside.

A loss that hangs or brings the interpreter down costs its own cell: the worker is ended, the cell recorded as failed,
and a new worker goes on with the rest.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from harness.api import HarnessError
from harness.execute.cell_queue import Turn
from harness.execute.status import read_cell_status
from harness.execute.stop import GRACE, Stop, Training
from harness.execute.worker import Died, NotStartedError, Worker
from harness.planning.events import (
    AnsweringBegins,
    CellFailed,
    CellScored,
    CellTrained,
    CellWanted,
    CheckpointWritten,
    Phase,
    Report,
    ScorerRestarts,
    ScoringBegins,
    StepTaken,
    Stopping,
    TrainingBegins,
    TrainingGoesOn,
    WorkerDone,
    WorkerFailed,
)
from harness.planning.job import Job, log_path, record_failure

Start = Callable[[Job], Worker]
"""`start(job)`: how a worker is started, wherever that is. Raises `NotStartedError`."""


@dataclass(frozen=True, kw_only=True)
class _Trouble:
    """Why a worker ended before its work was done."""

    key: str | None
    """The cell that it was at; None: something that all cells need."""
    reason: str
    resumable: bool = False
    """Whether somebody else ended it: its training, as far as it is kept, is sound."""
    scoring: bool = False
    """Whether it died while it scored: what it was to score is there still."""
    lost: bool = False
    """Whether it was lost with its machine."""


def execute(turn: Turn, start: Start, report: Report, stop: Stop) -> None:
    """Compute the cells of one model that a worker is given, one after the other, until there are no more.

    Each ends with a record, whatever happens, unless `stop` is set. Raises `HarnessError` where the model, the data or
    the scorer cannot be prepared at all.
    """
    job, name = turn.job, turn.name
    restarted = set[str | None]()  # the cells, or the start checkpoint (None), that the scorer was started anew for
    while turn.mine:
        trouble = _watch(replace(job, cells=tuple(turn.mine)), start, report, stop, turn)
        if stop.is_set():
            return
        left = [cell for cell in turn.mine if read_cell_status(job.folder, cell.key) is None]
        turn.goes_on_with(left)
        if trouble is None and not left:
            return
        if trouble is not None and trouble.lost and turn.puts_back(left, trouble.key):
            report(name, Phase(text=f"{trouble.reason}; what it had is tried again"))
            return
        active, reason = (trouble.key, trouble.reason) if trouble else (None, "the worker ended without a result")
        if active is not None and active not in {cell.key for cell in left}:
            continue  # the worker died after it had written the record of its cell
        if trouble is not None and trouble.scoring and active not in restarted:
            restarted.add(active)
            report(name, ScorerRestarts(reason=reason))
            continue
        if active is None:
            for cell in left:  # none of them is at fault
                record_failure(job, cell, reason, resumable=True)
            raise HarnessError(f"model '{job.model}'{turn.where}: {reason}")
        failed = next(cell for cell in left if cell.key == active)
        report(name, CellFailed(key=active, reason=reason))
        record_failure(job, failed, reason, resumable=trouble is not None and trouble.resumable)
        turn.goes_on_with([cell for cell in left if cell.key != active])


def execute_scoring(job: Job, start: Start, report: Report, stop: Stop) -> None:
    """Score the checkpoints from elsewhere of a job without cells. Raises `HarnessError` where that fails."""
    trouble = _watch(job, start, report, stop)
    if trouble is not None:
        raise HarnessError(trouble.reason)


def execute_trial(job: Job, start: Start, report: Report, stop: Stop) -> None:
    """Prepare a model and open its scorer, in a worker that trains nothing. Raises `HarnessError` where that fails."""
    trouble = _watch(replace(job, only_tried=True), start, report, stop)
    if trouble is not None:
        raise HarnessError(f"model '{job.model}': {trouble.reason}")


def _watch(job: Job, start: Start, report: Report, stop: Stop, turn: Turn | None = None) -> _Trouble | None:
    """Run one worker to its end; return what went wrong."""
    try:
        worker = start(job)
    except NotStartedError as error:
        return _Trouble(key=None, reason=str(error))
    done = False
    try:
        trouble = _follow(job, worker, report, stop, turn)
        done = trouble is None and not stop.is_set()
        return trouble
    finally:
        worker.end(done=done)


def _death(died: Died, job: Job, active: str | None, *, scoring: bool) -> _Trouble:
    reason = f"the worker process {died.how}; its output is in {log_path(job)}"
    resumable = died.from_outside or died.lost
    return _Trouble(key=active, reason=reason, resumable=resumable, scoring=scoring, lost=died.lost)


def _follow(job: Job, worker: Worker, report: Report, stop: Stop, turn: Turn | None = None) -> _Trouble | None:
    """Report what a worker tells until it is done, in trouble, or `stop` is set; return its trouble.

    `turn`: what gives it further cells.
    """
    name, wants = turn.name if turn else job.model, False
    active: str | None = None  # the cell it is at; None: something that all cells need
    training: Training | None = None
    scoring, since, limit = False, time.monotonic(), job.run.settings.cell_timeout
    while not stop.is_set():
        event = worker.receive()
        match event:
            case TrainingBegins(key=key):
                active, scoring, since = key, False, time.monotonic()
            case ScoringBegins(key=key) | AnsweringBegins(key=key):
                active, scoring, since = key, True, time.monotonic()
            case Phase(scoring=scoring):
                active, since = None, time.monotonic()
            case ScorerRestarts():
                since = time.monotonic()
            case CellTrained() | CellScored() | CellFailed():
                training, since = None, time.monotonic()
                if turn is not None and isinstance(event, CellScored):
                    turn.has_record(event.key)
            case TrainingGoesOn(key=key, step=step) | CheckpointWritten(key=key, step=step, trouble=""):
                training = Training(key=key, step=step)
            case StepTaken(key=key) if training is None:
                training = Training(key=key, step=0)
            case CellWanted():
                wants = True
            case WorkerFailed(reason=reason):
                return _Trouble(key=None, reason=reason)
            case WorkerDone():
                return None
            case Died():
                return _death(event, job, active, scoring=scoring)
        if wants and turn is not None:
            since, given = time.monotonic(), turn.more()
            if given is not None:
                worker.give(given.cell)
                wants = False
        if time.monotonic() - since > limit:
            reason = f"no result within {limit:g} s; raise --cell-timeout if the cell was only slow"
            return _Trouble(key=active, reason=reason)
        if event is not None and not isinstance(event, CellWanted):
            report(name, event)
    if training is not None:
        report(name, Stopping(key=training.key, seconds=GRACE))
    stop.end(turn.job if turn else job, worker, training)
    return None
