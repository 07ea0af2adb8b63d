"""Run the unfinished cells of a grid on this machine: one worker process a model, watched from outside.

A loss that hangs or brings the interpreter down costs its own cell: the worker is ended, the cell recorded as failed,
and a new worker goes on with the rest.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import pickle
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from harness.api import HarnessError
from harness.execute import workers
from harness.planning.grid import Cell
from harness.planning.job import Job, cell_folder, record_failure
from harness.run_folder.trained import WEIGHTS

Report = Callable[[str, dict[str, Any]], None]
"""`report(event, details)`: told of every event of every worker, in order."""


def unfinished(job: Job) -> list[Cell]:
    """Return the cells without a result: no record, or one that failed, which is tried again."""
    return [cell for cell in job.cells if _status(job, cell) not in ("ok", "diverged")]


def execute(job: Job, report: Report, stop: threading.Event) -> None:
    """Compute the unfinished cells of one model. Each ends with a record, whatever happens, unless `stop` is set.

    Raises `HarnessError` where the model, the data or the scorer cannot be prepared at all.
    """
    todo = unfinished(job)
    for cell in job.cells:
        if cell not in todo and not job.keep_checkpoints:  # a kill between the record and this left them
            shutil.rmtree(cell_folder(job, cell.key) / WEIGHTS, ignore_errors=True)
    for cell in todo:  # a failed cell is tried again from the start
        (cell_folder(job, cell.key) / "record.json").unlink(missing_ok=True)
    while todo:
        trouble = _watch(replace(job, cells=tuple(todo)), report, stop)
        if stop.is_set():
            return
        left = [cell for cell in todo if _status(job, cell) is None]
        if trouble is None and not left:
            return
        active, reason = trouble or (None, "the worker ended without a result")
        if active is not None and left and active not in {cell.key for cell in left}:
            todo = left  # it died after the record of its cell was written
            continue
        if active is None:
            for cell in left:
                record_failure(job, cell, "failed", reason, {})
            raise HarnessError(f"model '{job.model}': {reason}")
        failed = next(cell for cell in left if cell.key == active)
        report("failed", {"key": active, "model": job.model, "reason": reason})
        record_failure(job, failed, "failed", reason, {})
        todo = [cell for cell in left if cell.key != active]


def log_path(job: Job) -> Path:
    """Return where the worker's own output goes."""
    return job.folder / "logs" / f"{job.model.rstrip('/').rpartition('/')[2]}.log"


def _status(job: Job, cell: Cell) -> str | None:
    record = cell_folder(job, cell.key) / "record.json"
    return str(json.loads(record.read_text(encoding="utf-8"))["status"]) if record.exists() else None


def _watch(job: Job, report: Report, stop: threading.Event) -> tuple[str | None, str] | None:
    """Run one worker to its end. Return None, or (the cell it was at, what went wrong)."""
    vllm = job.scorer.name == "vllm"
    starting = workers.context(vllm=vllm)
    ours, theirs = starting.Pipe(duplex=False)
    log_path(job).parent.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ)
    worker = starting.Process(target=_work, args=(pickle.dumps(job), environment, theirs, str(log_path(job))))
    try:
        worker.start()
    except (EOFError, OSError) as error:  # what workers are forked from is gone
        ours.close()
        return None, (
            f"no worker process could be started ({type(error).__name__}: {error}); "
            f"see whether python -c 'import torch, transformers{', vllm' if vllm else ''}' works"
        )
    finally:
        theirs.close()
    active: str | None = None  # None: the worker is at something that all cells need
    since = time.monotonic()
    limit = job.run.settings.cell_timeout
    ended = False
    try:
        while not stop.is_set():
            event, details = _receive(ours, worker)
            if event in ("training", "scoring"):
                active, since = (details["key"] if details["key"] != "base" else None), time.monotonic()
            elif event in ("trained", "scored", "failed", "phase"):
                since = time.monotonic()
                active = None if event == "phase" else active
            elif event == "error":
                return None, str(details["reason"])
            elif event == "done":
                ended = True
                return None
            elif event == "died":
                return active, f"the worker process {_exit(worker.exitcode)}; its output is in {log_path(job)}"
            if time.monotonic() - since > limit:
                return active, f"no result within {limit:g} s; raise --cell-timeout if the cell was only slow"
            if event != "nothing":
                report(event, {"model": job.model, **details})
        return None
    finally:
        if ended and not stop.is_set():
            worker.join(timeout=10)
        if worker.is_alive():
            worker.kill()
        worker.join()


def _receive(connection: Connection, worker: Any) -> tuple[str, dict[str, Any]]:
    try:
        if connection.poll(0.5):
            event, details = connection.recv()
            return str(event), details
    except (EOFError, OSError):
        worker.join(timeout=10)
        return "died", {}
    return "nothing", {}


def _exit(code: int | None) -> str:
    if code is not None and code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _work(packed: bytes, environment: dict[str, str], connection: Connection, log: str) -> None:
    """The worker: its output goes to the log file, its news through the connection."""
    with_vllm = sys.modules.get(workers.WITH_VLLM)
    os.environ.clear()  # what it was forked from has that of an earlier moment
    os.environ.update((with_vllm.environment if with_vllm else {}) | environment)
    with open(log, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt is the parent's to answer: it ends the worker
    threading.Thread(target=_leave_with_parent, daemon=True).start()

    def tell(event: str, **details: Any) -> None:
        connection.send((event, details))

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

        from harness.cell import run_model
        from harness.training.peak_memory import leave_out_libraries

        disable_progress_bar()
        leave_out_libraries()
        run_model(job, tell)
        tell("done")
    except BrokenPipeError:
        pass
    except HarnessError as error:
        tell("error", reason=str(error))
    except Exception as error:
        import traceback

        traceback.print_exc()
        tell("error", reason=f"{type(error).__name__}: {error}; the traceback is in {log}")


def _leave_with_parent() -> None:
    # a worker whose run was killed must not go on writing into a folder that a new run works in
    run = multiprocessing.parent_process()
    assert run is not None
    run.join()
    os._exit(1)
