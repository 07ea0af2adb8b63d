"""The cells of a run shared out among its devices: a thread per worker, which asks for cells until there are none."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from harness.execute.cell_queue import CellQueue, Turn
from harness.execute.devices import Device
from harness.execute.local import Start, execute
from harness.execute.placing import Placing
from harness.execute.status import read_unfinished
from harness.execute.stop import Stop
from harness.planning.events import ModelBegins, ModelFailed, NothingToCompute, Report, RunEvent
from harness.planning.job import Job, cell_folder, record_failure
from harness.run_folder.paths import CELLS, RECORD
from harness.run_folder.shown import reason_of
from harness.run_folder.trained import remove_scored


def share_out(jobs: Sequence[Job], placing: Placing, start_on: Callable[[Device], Start], report: Report) -> list[str]:
    """Compute every unfinished cell; return what went wrong with whole models, one line each.

    Raises `StoppedError` where the run is stopped meanwhile.
    """
    one_at_a_time, stop, trouble = threading.Lock(), Stop(), list[str]()

    def tell(name: str, event: RunEvent) -> None:
        with one_at_a_time:
            report(name, event)

    for job in jobs:
        make_ready(job)
    queue = CellQueue(jobs, placing)
    for job in jobs:
        if not queue.left(job.model):
            tell(job.model, NothingToCompute())

    def work(device: Device) -> None:
        while (turn := queue.begin(device, stop)) is not None:
            if turn.first:
                tell(turn.job.model, ModelBegins(cells=1 + queue.left(turn.job.model)))
            reason = _carry_out(turn, start_on(device), tell, stop)
            nobodys = queue.end(device, turn.job.model, failed=bool(reason))
            for cell in nobodys:
                record_failure(turn.job, cell, reason, resumable=True)
            if reason:
                trouble.append(reason)
                tell(turn.name, ModelFailed(reason=reason))

    # each thread waits for a worker of its own
    with stop.interruptible(), ThreadPoolExecutor(len(placing.places)) as pool:
        computing = [pool.submit(work, device) for device in placing.places]
        try:
            for finished in computing:
                finished.result()
        except BaseException as error:  # above all an interrupt: end the workers before leaving
            stop.wait_for(computing)
            if isinstance(error, KeyboardInterrupt):
                raise stop.error(error) from None
            raise
    for job in jobs:
        _look_anew(job)
    return trouble


def _look_anew(job: Job) -> None:
    """List the folders of the cells: a network file system may remember that a record was not there."""
    for folder in (job.folder / CELLS, *(cell_folder(job, cell.key) for cell in job.cells)):
        if folder.is_dir():
            os.listdir(folder)


def _carry_out(turn: Turn, start: Start, tell: Report, stop: Stop) -> str:
    """Compute what a worker is given; return what went wrong with all of it, which does not end the others."""
    try:
        execute(turn, start, tell, stop)
    except Exception as error:
        return reason_of(error)
    return ""


def make_ready(job: Job) -> None:
    """Remove what is not to be there when the unfinished cells of a model are computed."""
    todo = read_unfinished(job.folder, job.cells)
    for cell in job.cells:
        if cell not in todo:  # left by a run that was killed after it wrote the record
            remove_scored(cell_folder(job, cell.key), keep_end=job.keep_checkpoints)
    for cell in todo:  # a failed cell is tried again: from the start, unless its worker was ended from outside
        (cell_folder(job, cell.key) / RECORD).unlink(missing_ok=True)
