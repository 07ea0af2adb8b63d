"""The unfinished cells of a run, given to workers as these ask for them: whichever device is free has the next one.

A worker is at one model. It trains cells as long as there are any, then scores what it trained with one engine, which
has a GPU to itself: an engine takes all memory that is free.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum

from harness.execute.devices import Device
from harness.execute.placing import Placing
from harness.execute.status import read_unfinished
from harness.execute.stop import Stop
from harness.planning.grid import Cell
from harness.planning.job import Job

ON = " on "
"""Stands between a model and its device where something is told of a worker."""
TRIES = 3
"""Workers that a cell may lose with their machines."""
AGAIN = 0.5
"""Seconds after which a thread that waits looks whether the run is stopped."""


class At(Enum):
    """What a worker is at."""

    TRAINING = "training"
    WAITING = "waiting to score"
    SCORING = "scoring"


@dataclass(frozen=True, kw_only=True)
class Given:
    """The answer to a worker that asked for a cell."""

    cell: Cell | None
    """None: there is no other, and it may score those it has."""


class CellQueue:
    """What is left to train, by model. Its methods are called from a thread per worker."""

    def __init__(self, jobs: Sequence[Job], placing: Placing) -> None:
        self._changed = threading.Condition()
        self._placing = placing
        self._jobs = {job.model: job for job in jobs}
        self._left = {job.model: deque(read_unfinished(job.folder, job.cells)) for job in jobs}
        self._at: dict[tuple[str, str], At] = {}  # by device and model
        self._lost: set[tuple[str, str]] = set()  # where a worker failed as a whole
        self._begun: set[str] = set()
        self._tries: Counter[str] = Counter()

    def left(self, model: str) -> int:
        """Return how many cells of a model nobody has been given."""
        return len(self._left[model])

    def begin(self, device: Device, stop: Stop) -> Turn | None:
        """Return what a worker on `device` begins with, as soon as it has room for one; None: nothing is left for it.

        It is at the model that has the most cells left for each worker that is at it then.
        """
        with self._changed:
            while not stop.is_set():
                left = [
                    model for model, cells in self._left.items() if cells and (device.name, model) not in self._lost
                ]
                if not left:
                    return None
                for model in sorted(left, key=self._cells_each, reverse=True):
                    if self._may_begin(device, model):
                        return self._turn(device, model)
                self._changed.wait(AGAIN)
        return None

    def _cells_each(self, model: str) -> float:
        return len(self._left[model]) / (1 + len(self._workers(model)))

    def _workers(self, model: str) -> list[str]:
        return [device for device, other in self._at if other == model]

    def _may_begin(self, device: Device, model: str) -> bool:
        there = {other: at for (name, other), at in self._at.items() if name == device.name}
        if model in there or (device.is_gpu and any(at is not At.TRAINING for at in there.values())):
            return False
        if self._jobs[model].probe is not None and self._workers(model):
            return False  # two devices may train two probes, which choose other pairs
        return self._placing.may_begin(device, model, there)

    def _turn(self, device: Device, model: str) -> Turn:
        job, first = self._jobs[model], model not in self._begun
        self._begun.add(model)
        self._at[device.name, model] = At.TRAINING
        several = len(self._placing.devices) > 1
        own = replace(job, device=str(device) if several else "", brought=job.brought if first else ())  # scored once
        return Turn(queue=self, device=device, job=own, first=first, mine=[self._left[model].popleft()])

    def more(self, device: Device, model: str) -> Given | None:
        """Return the next cell of a model; none, where it may score; None: it has to wait for others on its device."""
        with self._changed:
            if self._left[model]:
                return Given(cell=self._left[model].popleft())
            others = [at for (name, other), at in self._at.items() if name == device.name and other != model]
            alone = not device.is_gpu or all(at is At.WAITING for at in others)
            self._at[device.name, model] = At.SCORING if alone else At.WAITING
            return Given(cell=None) if alone else None

    def put_back(self, model: str, cells: Sequence[Cell], active: str | None) -> bool:
        """Take back the cells of a worker that was lost, before all others; `active`: the key of the one it was at.

        Return whether they may be tried again: a cell, or what all cells need, loses no more than `TRIES` workers.
        """
        with self._changed:
            self._tries[active or model] += 1
            if self._tries[active or model] >= TRIES:
                return False
            self._left[model].extendleft(reversed(cells))
            self._changed.notify_all()
            return True

    def goes_on(self, device: Device, model: str) -> None:
        """Note that a worker is started anew, for cells that it has to train."""
        with self._changed:
            self._at[device.name, model] = At.TRAINING

    def end(self, device: Device, model: str, *, failed: bool = False) -> list[Cell]:
        """Note that a worker has ended. Return the cells that nobody computes now: after one that failed as a whole."""
        with self._changed:
            del self._at[device.name, model]
            self._changed.notify_all()
            if not failed:
                return []
            self._lost.add((device.name, model))
            if self._workers(model):
                return []
            nobodys = list(self._left[model])
            self._left[model].clear()
            return nobodys


@dataclass(kw_only=True)
class Turn:
    """A worker's time on a device, at one model."""

    queue: CellQueue
    device: Device
    job: Job
    """With all cells of the model."""
    first: bool
    """Whether no worker of this run was at the model before."""
    mine: list[Cell]
    """Those that the worker has been given and that have no record yet, in the order they were given."""

    @property
    def name(self) -> str:
        """What is said of the worker: its model, and on which device it is, where there are several."""
        return self.job.model + self.where

    @property
    def where(self) -> str:
        """Which device it is on, in words; empty where there is one."""
        return f"{ON}{self.job.device}" if self.job.device else ""

    def goes_on_with(self, cells: list[Cell]) -> None:
        """Note which cells have no record yet, when a worker has ended; another one begins with them."""
        self.mine = cells
        self.queue.goes_on(self.device, self.job.model)

    def has_record(self, key: str) -> None:
        """Note that a cell is done: its worker says so, where a network file system may show its record later."""
        self.mine = [cell for cell in self.mine if cell.key != key]

    def puts_back(self, cells: list[Cell], active: str | None) -> bool:
        """Give back the cells of a worker that was lost; return whether they are tried again."""
        back = self.queue.put_back(self.job.model, cells, active)
        self.mine = [] if back else cells
        return back

    def more(self) -> Given | None:
        """Return the answer to a worker that asks for a cell; None: not yet."""
        given = self.queue.more(self.device, self.job.model)
        if given is not None and given.cell is not None:
            self.mine.append(given.cell)
        return given
