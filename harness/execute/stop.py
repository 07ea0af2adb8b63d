"""How a run is stopped: what its trainings have is kept first, for which they have a while. Imports no torch."""

from __future__ import annotations

import concurrent.futures
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.process import BaseProcess
from types import FrameType

from harness.planning.events import CellTrained, CheckpointWritten, WorkerEvent
from harness.planning.job import Job

GRACE = 300.0
"""Seconds that a training has to end its step and be kept; a second interrupt does not wait for it."""
INTERRUPTED, TERMINATED = 130, 143
"""Exit codes of a command that was stopped, by SIGINT or SIGTERM: 128 and the number of the signal."""


@dataclass(frozen=True, kw_only=True)
class Died:
    """The worker process is gone without a last word."""


class TerminatedError(KeyboardInterrupt):
    """SIGTERM, which stops a run as Ctrl-C does."""


class StoppedError(KeyboardInterrupt):
    """A run was stopped; its message says what was kept and how to go on."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Stop:
    """Whether the workers of a run are to end, and what was kept of their trainings."""

    def __init__(self) -> None:
        self.asked, self.at_once = threading.Event(), threading.Event()
        self._kept: list[str] = []
        self._lost: list[str] = []

    def is_set(self) -> bool:
        """Return whether the workers are to end."""
        return self.asked.is_set()

    def wait_for(self, working: Sequence[Future[None]]) -> None:
        """Have the workers end and wait for them; at an interrupt meanwhile, end them at once."""
        self.asked.set()
        left = [future for future in working if not future.cancel()]
        try:
            concurrent.futures.wait(left)
        except KeyboardInterrupt:
            self.at_once.set()
            concurrent.futures.wait(left)

    def error(self, cause: BaseException) -> StoppedError:
        """Return the error that says what was kept."""
        kept = "".join(f", and {text}" for text in self._kept)
        lost = "".join(f" Not kept: {text}." for text in self._lost)
        code = TERMINATED if isinstance(cause, TerminatedError) else INTERRUPTED
        return StoppedError(
            f"Stopped. What was finished is kept{kept}; the same command goes on from there.{lost}", code
        )

    def end(
        self, job: Job, worker: BaseProcess, receive: Callable[[], WorkerEvent | Died | None], training: str | None
    ) -> None:
        """Ask a worker to end, and wait for that as long as `GRACE`. `receive()` returns its next word, or None.

        `training`: the cell that it trains.
        """
        until, kept, trouble = time.monotonic() + GRACE, "", f"its step did not end within {GRACE:g} s"
        while time.monotonic() < until:
            if self.at_once.is_set():
                trouble = "interrupted twice"
                break
            worker.terminate()
            match receive():
                case CellTrained(key=key):
                    kept = f"{_named(job, key)}, trained"
                case CheckpointWritten(key=key, step=step, trouble=""):
                    kept = f"{_named(job, key)} at step {step}"
                case CheckpointWritten(trouble=reason):
                    kept, trouble = "", reason
                case Died():
                    break
        if kept:
            self._kept.append(kept)
        elif training is not None:
            self._lost.append(f"the last steps of {_named(job, training)} ({trouble})")


@contextmanager
def terminations_as_interrupts() -> Iterator[None]:
    """Have SIGTERM raise `TerminatedError` inside, as Ctrl-C raises `KeyboardInterrupt`; only the main thread can."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _raise)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _raise(_number: int, _frame: FrameType | None) -> None:
    raise TerminatedError


def _named(job: Job, key: str) -> str:
    """Return what a person calls a cell."""
    cell = next(cell for cell in job.cells if cell.key == key)
    return f"{cell.system.label} on {cell.model} (seed {cell.seed})"
