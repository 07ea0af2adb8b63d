"""A worker as a process on this machine: how it is started, told, asked to end, and what it does. Imports no torch."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import sys
import threading
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Self

import cloudpickle

from harness.api import HarnessError
from harness.execute import workers
from harness.execute.worker import Died, NotStartedError
from harness.planning.ending import EndedError, Ending, end_now
from harness.planning.events import CellWanted, Tell, WorkerDone, WorkerEvent, WorkerFailed
from harness.planning.grid import Cell
from harness.planning.job import Job, log_path
from harness.planning.launch import without_launch
from harness.planning.processors import thread_variables
from harness.run_folder.full_disk import full, is_full, print_trouble, told
from harness.run_folder.shown import reason_of, without_secrets


class WorkerProcess:
    """A process that computes a job; see `worker.Worker`."""

    def __init__(self, process: BaseProcess, connection: Connection) -> None:
        self._process, self._connection = process, connection

    @classmethod
    def started(cls, job: Job, visible: str | None = None) -> Self:
        """Return a new process. `visible`: its CUDA_VISIBLE_DEVICES, set before torch is imported; None: as it is here.

        Raises `NotStartedError`.
        """
        vllm = job.scorer.name == "vllm"
        starting, log = workers.context(vllm=vllm), log_path(job)
        ours, theirs = starting.Pipe()
        with told(log.parent, "logs"):
            log.parent.mkdir(parents=True, exist_ok=True)
        environment = (
            without_launch(os.environ)
            | thread_variables()
            | ({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
        )
        process = starting.Process(target=_work, args=(cloudpickle.dumps(job), environment, theirs, str(log)))
        try:
            workers.start(process)
        except (EOFError, OSError) as error:  # the process that workers are forked from is gone
            ours.close()
            raise NotStartedError(
                f"no worker process could be started ({type(error).__name__}: {error}); "
                f"see whether python -c 'import torch, transformers{', vllm' if vllm else ''}' works"
            ) from None
        finally:
            theirs.close()
        return cls(process, ours)

    def receive(self) -> WorkerEvent | Died | None:
        """Return the next event, None where none comes within half a second."""
        try:
            if self._connection.poll(0.5):
                event: WorkerEvent = self._connection.recv()
                return event
        except (EOFError, OSError):
            self._process.join(timeout=10)
            code = self._process.exitcode
            return Died(how=_exit(code), from_outside=code in (-signal.SIGKILL, -signal.SIGTERM))
        return None

    def give(self, cell: Cell | None) -> None:
        """Answer a request for a cell."""
        with contextlib.suppress(OSError):  # it is gone, which is what is received next
            self._connection.send_bytes(cloudpickle.dumps(cell))

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def end(self, *, done: bool) -> None:
        """See to it that it is gone."""
        if done:
            self._process.join(timeout=10)
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        self._connection.close()


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
    threading.Thread(target=leave_with_parent, daemon=True).start()

    try:
        imported = sys.modules.get(workers.IMPORTED)
        if imported is not None and imported.trouble:
            print(imported.trouble, flush=True)
        job: Job = pickle.loads(packed)  # imports the plugins
        import torch

        from harness.import_guard import guard_imports

        torch.set_num_threads(job.threads)
        guard_imports()
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()
        _compute(job, connection, ending)
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


def _compute(job: Job, connection: Connection, ending: Ending) -> None:
    """Compute the cells of a job; of one without cells, the rows of checkpoints from elsewhere."""
    tell: Tell = connection.send

    def more() -> Cell | None:
        connection.send(CellWanted())
        cell: Cell | None = pickle.loads(connection.recv_bytes())
        return cell

    if job.only_tried:
        from harness.cell import try_model

        try_model(job, tell)
        return
    if job.cells:
        from harness.cell import run_model

        run_model(job, tell, ending, more)
        return
    from harness.training.elsewhere import score_brought

    for brought in job.brought:
        score_brought(job, brought, tell)


def leave_with_parent() -> None:
    """End this process as soon as its parent has ended, however that did."""
    # when its run is killed, a worker must not go on writing into a folder that a new run may work in
    run = multiprocessing.parent_process()
    assert run is not None
    run.join()
    os._exit(1)
