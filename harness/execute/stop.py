"""How a run is stopped: what its trainings have is kept first, for which they have a while. Imports no torch."""

from __future__ import annotations

import concurrent.futures
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

from harness.execute.worker import Died, Worker
from harness.planning.events import CellTrained, CheckpointWritten
from harness.planning.job import Job

GRACE = 300.0
"""Seconds that a training has to end its step and be kept; a second interrupt does not wait for it."""
SAME = 1.0
"""Seconds within which two signals are one."""
INTERRUPTED, TERMINATED = 130, 143
"""Exit codes of a command that was stopped, by SIGINT or SIGTERM: 128 and the number of the signal."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """The training that a worker is at."""

    key: str
    """Of its cell."""
    step: int
    """Of its last checkpoint; 0: there is none."""


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
        self._first: float | None = None  # when the first signal came
        self._kept: list[str] = []
        self._lost: list[str] = []

    def is_set(self) -> bool:
        """Return whether the workers are to end."""
        return self.asked.is_set()

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Have SIGTERM interrupt what is done inside, as Ctrl-C does; only where they would end it, and once.

        A later signal has `at_once` set. One that follows within a second is the same: some senders, such as
        `timeout`, send two.
        """
        before = {}
        if threading.current_thread() is threading.main_thread():  # no other can
            before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        ours = [number for number, answer in before.items() if answer in (signal.SIG_DFL, signal.default_int_handler)]
        for number in ours:
            signal.signal(number, self._interrupt)
        try:
            yield
        finally:
            for number in ours:
                signal.signal(number, before[number])

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        if self._first is None:
            self._first = time.monotonic()
            raise TerminatedError if number == signal.SIGTERM else KeyboardInterrupt
        if time.monotonic() - self._first >= SAME:
            self.at_once.set()

    def wait_for(self, working: Sequence[Future[None]]) -> None:
        """Have the workers end, and wait for them."""
        self.asked.set()
        concurrent.futures.wait([future for future in working if not future.cancel()])

    def error(self, cause: BaseException) -> StoppedError:
        """Return the error that says what was kept."""
        kept = "".join(f", and {text}" for text in self._kept)
        lost = "".join(f" Not kept: {text}." for text in self._lost)
        code = TERMINATED if isinstance(cause, TerminatedError) else INTERRUPTED
        return StoppedError(
            f"Stopped. What was finished is kept{kept}; the same command goes on from there.{lost}", code
        )

    def end(self, job: Job, worker: Worker, training: Training | None) -> None:
        """Ask a worker to end, and wait for that as long as `GRACE`."""
        until, step, trouble = time.monotonic() + GRACE, training.step if training else 0, ""
        while not (self.at_once.is_set() or time.monotonic() >= until):
            worker.terminate()
            match worker.receive():
                case CellTrained(key=key):
                    self._kept.append(f"{_named(job, key)}, trained")
                    return
                case CheckpointWritten(step=now, trouble=why):
                    step, trouble = step if why else now, why
                case Died():
                    break
        else:
            trouble = "interrupted twice" if self.at_once.is_set() else f"its step did not end within {GRACE:g} s"
        if training and step:
            self._kept.append(f"{_named(job, training.key)} at step {step}")
        if training and trouble:
            self._lost.append(f"the last steps of {_named(job, training.key)} ({trouble})")


def _named(job: Job, key: str) -> str:
    """Return what a person calls a cell."""
    cell = next(cell for cell in job.cells if cell.key == key)
    return f"{cell.system.label} on {cell.model} (seed {cell.seed})"
