"""Run the unfinished cells of a model on this machine: in one worker process, watched from outside.

A loss that hangs or brings the interpreter down costs its own cell: the worker is ended, the cell recorded as failed,
and a new worker goes on with the rest.
"""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import time
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import cloudpickle

from harness.api import HarnessError
from harness.execute import workers
from harness.execute.status import read_cell_status, read_unfinished
from harness.execute.stop import GRACE, Died, Stop, Training
from harness.planning.ending import EndedError, Ending, end_now
from harness.planning.events import (
    AnsweringBegins,
    CellFailed,
    CellScored,
    CellTrained,
    CheckpointWritten,
    Phase,
    Report,
    ScorerRestarts,
    ScoringBegins,
    StepTaken,
    Stopping,
    Tell,
    TrainingBegins,
    TrainingGoesOn,
    WorkerDone,
    WorkerEvent,
    WorkerFailed,
)
from harness.planning.job import Job, cell_folder, record_failure
from harness.run_folder.full_disk import full, is_full, print_trouble, told
from harness.run_folder.paths import LOGS, RECORD
from harness.run_folder.shown import reason_of, without_secrets
from harness.run_folder.trained import remove_scored


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


def execute(job: Job, report: Report, stop: Stop) -> None:
    """Compute the unfinished cells of one model. Each ends with a record, whatever happens, unless `stop` is set.

    Raises `HarnessError` where the model, the data or the scorer cannot be prepared at all.
    """
    todo = read_unfinished(job.folder, job.cells)
    for cell in job.cells:
        if cell not in todo:  # left by a run that was killed after it wrote the record
            remove_scored(cell_folder(job, cell.key), keep_end=job.keep_checkpoints)
    for cell in todo:  # a failed cell is tried again: from the start, unless its worker was ended from outside
        (cell_folder(job, cell.key) / RECORD).unlink(missing_ok=True)
    restarted = set[str | None]()  # the cells, or the start checkpoint (None), that the scorer was started anew for
    while todo:
        trouble = _watch(replace(job, cells=tuple(todo)), report, stop)
        if stop.is_set():
            return
        left = [cell for cell in todo if read_cell_status(job.folder, cell.key) is None]
        if trouble is None and not left:
            return
        active, reason = (trouble.key, trouble.reason) if trouble else (None, "the worker ended without a result")
        if active is not None and active not in {cell.key for cell in left}:
            todo = left  # the worker died after it had written the record of its cell
            continue
        if trouble is not None and trouble.scoring and active not in restarted:
            restarted.add(active)
            report(job.model, ScorerRestarts(reason=reason))
            todo = left
            continue
        if active is None:
            for cell in left:  # none of them is at fault
                record_failure(job, cell, reason, resumable=True)
            raise HarnessError(f"model '{job.model}': {reason}")
        failed = next(cell for cell in left if cell.key == active)
        report(job.model, CellFailed(key=active, reason=reason))
        record_failure(job, failed, reason, resumable=trouble is not None and trouble.resumable)
        todo = [cell for cell in left if cell.key != active]


def execute_scoring(job: Job, report: Report, stop: Stop) -> None:
    """Score the checkpoints from elsewhere of a job without cells. Raises `HarnessError` where that fails."""
    trouble = _watch(job, report, stop)
    if trouble is not None:
        raise HarnessError(trouble.reason)


def execute_trial(job: Job, report: Report, stop: Stop) -> None:
    """Prepare a model and open its scorer, in a worker that trains nothing. Raises `HarnessError` where that fails."""
    trouble = _watch(replace(job, only_tried=True), report, stop)
    if trouble is not None:
        raise HarnessError(f"model '{job.model}': {trouble.reason}")


def log_path(job: Job) -> Path:
    """Return where the worker's own output goes."""
    return job.folder / LOGS / f"{job.model.strip('/').replace('/', '--')}.log"


def _watch(job: Job, report: Report, stop: Stop) -> _Trouble | None:
    """Run one worker to its end; return what went wrong."""
    vllm = job.scorer.name == "vllm"
    starting = workers.context(vllm=vllm)
    ours, theirs = starting.Pipe(duplex=False)
    with told(log_path(job).parent, "logs"):
        log_path(job).parent.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ)
    worker = starting.Process(target=_work, args=(cloudpickle.dumps(job), environment, theirs, str(log_path(job))))
    try:
        workers.start(worker)
    except (EOFError, OSError) as error:  # the process that workers are forked from is gone
        ours.close()
        reason = (
            f"no worker process could be started ({type(error).__name__}: {error}); "
            f"see whether python -c 'import torch, transformers{', vllm' if vllm else ''}' works"
        )
        return _Trouble(key=None, reason=reason)
    finally:
        theirs.close()
    done = False
    try:
        trouble = _follow(job, worker, ours, report, stop)
        done = trouble is None
        return trouble
    finally:
        if done and not stop.is_set():
            worker.join(timeout=10)
        if worker.is_alive():
            worker.kill()
        worker.join()


def _follow(job: Job, worker: Any, ours: Connection, report: Report, stop: Stop) -> _Trouble | None:
    """Report what a worker tells until it is done, in trouble, or `stop` is set; return its trouble."""
    active: str | None = None  # the cell it is at; None: something that all cells need
    training: Training | None = None
    scoring = False
    since, limit = time.monotonic(), job.run.settings.cell_timeout
    while not stop.is_set():
        event = _receive(ours, worker)
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
            case TrainingGoesOn(key=key, step=step) | CheckpointWritten(key=key, step=step, trouble=""):
                training = Training(key=key, step=step)
            case StepTaken(key=key) if training is None:
                training = Training(key=key, step=0)
            case WorkerFailed(reason=reason):
                return _Trouble(key=None, reason=reason)
            case WorkerDone():
                return None
            case Died():
                reason = f"the worker process {_exit(worker.exitcode)}; its output is in {log_path(job)}"
                from_outside = worker.exitcode in (-signal.SIGKILL, -signal.SIGTERM)
                return _Trouble(key=active, reason=reason, resumable=from_outside, scoring=scoring)
        if time.monotonic() - since > limit:
            reason = f"no result within {limit:g} s; raise --cell-timeout if the cell was only slow"
            return _Trouble(key=active, reason=reason)
        if event is not None:
            report(job.model, event)
    if training is not None:
        report(job.model, Stopping(key=training.key, seconds=GRACE))
    stop.end(job, worker, partial(_receive, ours, worker), training)
    return None


def _receive(connection: Connection, worker: Any) -> WorkerEvent | Died | None:
    """Return the next event, None where none comes within half a second."""
    try:
        if connection.poll(0.5):
            event: WorkerEvent = connection.recv()
            return event
    except (EOFError, OSError):
        worker.join(timeout=10)
        return Died()
    return None


def _exit(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _work(packed: bytes, environment: dict[str, str], connection: Connection, log: str) -> None:
    """Be the worker: what it prints goes to the log file, its events through the connection."""
    with_vllm = sys.modules.get(workers.WITH_VLLM)
    os.environ.clear()  # the process it was forked from has the environment of an earlier moment
    os.environ.update((with_vllm.environment if with_vllm else {}) | environment)
    try:
        with open(log, "ab", buffering=0) as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
    except OSError as error:
        reason = full(Path(log).parent, "its log") if is_full(error) else f"{log} cannot be written: {error}"
        connection.send(WorkerFailed(reason=str(reason)))
        return
    ending = Ending()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers an interrupt, by asking the worker to end
    signal.signal(signal.SIGTERM, lambda _number, _frame: ending.ask())
    threading.Thread(target=_leave_with_parent, daemon=True).start()

    try:
        imported = sys.modules.get(workers.IMPORTED)
        if imported is not None and imported.trouble:
            print(imported.trouble, flush=True)
        job: Job = pickle.loads(packed)  # imports the plugins
        import torch

        from harness.torchvision_guard import hide_broken_torchvision

        torch.set_num_threads(job.threads)
        hide_broken_torchvision()
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        _compute(job, connection.send, ending)
        connection.send(WorkerDone())
    except EndedError:
        end_now()
    except BrokenPipeError:
        pass
    except HarnessError as error:
        connection.send(WorkerFailed(reason=reason_of(error)))
    except Exception as error:
        import traceback

        print_trouble(without_secrets(traceback.format_exc()))
        connection.send(WorkerFailed(reason=f"{reason_of(error)}; the traceback is in {log}"))


def _compute(job: Job, tell: Tell, ending: Ending) -> None:
    """Compute the cells of a job; of one without cells, the rows of checkpoints from elsewhere."""
    if job.only_tried:
        from harness.cell import try_model

        try_model(job, tell)
        return
    if job.cells:
        from harness.cell import run_model

        run_model(job, tell, ending)
        return
    from harness.training.elsewhere import score_brought

    for brought in job.brought:
        score_brought(job, brought, tell)


def _leave_with_parent() -> None:
    # when its run is killed, a worker must not go on writing into a folder that a new run may work in
    run = multiprocessing.parent_process()
    assert run is not None
    run.join()
    os._exit(1)
