"""Where the workers of a run are: on the devices of this machine, or on the nodes of a Ray cluster, `--executor`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from harness.api import Dataset, HarnessError, Selector
from harness.execute.devices import HERE, Device, chosen
from harness.execute.placing import Placing, placing_of
from harness.execute.worker import Worker
from harness.execute.worker_process import WorkerProcess
from harness.planning.grid import Cell
from harness.planning.job import Job
from harness.planning.launch import Launch
from harness.planning.run_file import Run

LOCAL, RAY = "local", "ray"


class Executor(Protocol):
    """Starts the workers of a run."""

    def placing(self, run: Run, data: Dataset, cells: Sequence[Cell], selector: Selector | None) -> Placing:
        """Return what computes these cells, and what fits where. Raises `HarnessError` where nothing can."""

    def require(self, folder: Path, cache: Path) -> None:
        """Raise `HarnessError` where a run folder or the cache cannot be used by its workers."""

    def start(self, job: Job, device: Device) -> Worker:
        """Start a worker on a device. Raises `NotStartedError`."""


@dataclass(frozen=True, kw_only=True)
class LocalExecutor:
    """Worker processes on this machine."""

    devices: tuple[Device, ...] = (HERE,)

    def placing(self, run: Run, data: Dataset, cells: Sequence[Cell], selector: Selector | None) -> Placing:
        """Return the devices, and what fits on each by the estimates."""
        return placing_of(run, self.devices, data, cells, selector)

    def require(self, folder: Path, cache: Path) -> None:
        """Nothing to ask: they were checked with the run."""

    def start(self, job: Job, device: Device) -> Worker:
        """Start a process that sees that device alone."""
        return WorkerProcess.started(job, device.visible)


def executor_of(name: str | None = None, *, devices: str | None = None, address: str | None = None) -> Executor:
    """Return what `--executor`, `--devices` and `--address` name; by default all visible GPUs here, or the CPU.

    Raises `HarnessError` for what is not there, and for options that do not go together.
    """
    if name == RAY:
        if devices is not None:
            raise HarnessError(
                f"got --devices {devices} with --executor ray, expected one of them: Ray places the workers; start its "
                "nodes with the GPUs that are to compute (ray start --num-gpus)"
            )
        if launch := Launch.of(os.environ):
            raise HarnessError(
                f"got --executor ray in {launch.count} processes of a launcher (WORLD_SIZE), expected one of them: the "
                "workers on its nodes are not those that the launcher started; run the command itself"
            )
        from harness.execute.ray_executor import RayExecutor

        return RayExecutor.on(address)
    if name not in (None, LOCAL):
        raise HarnessError(f"--executor got '{name}', expected {LOCAL} or {RAY}")
    if address is not None:
        raise HarnessError(f"got --address {address} without --executor ray, expected both: it names a Ray cluster")
    return LocalExecutor(devices=chosen(devices))
