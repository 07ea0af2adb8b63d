"""What a worker is to the thread that watches it, wherever it runs: a process here, or an actor of a cluster."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from harness.planning.events import WorkerEvent
from harness.planning.grid import Cell


@dataclass(frozen=True, kw_only=True)
class Died:
    """The worker is gone without a last word."""

    how: str = "is gone"
    """What is said of it."""
    from_outside: bool = False
    """Whether somebody else ended it: its training, as far as it is kept, is sound."""
    lost: bool = False
    """Whether the machine that it was on is lost: what it had not finished is tried again elsewhere."""


class NotStartedError(Exception):
    """No worker could be started; its message says why."""


class Worker(Protocol):
    """Computes a job, and tells what it does."""

    def receive(self) -> WorkerEvent | Died | None:
        """Return the next event, None where none comes within half a second."""

    def give(self, cell: Cell | None) -> None:
        """Answer one that asked for a cell; None: there is none, and it may score those it has."""

    def terminate(self) -> None:
        """Ask it to end, when what it has of a training is kept."""

    def end(self, *, done: bool) -> None:
        """See to it that it is gone; `done`: it has said its last word."""
