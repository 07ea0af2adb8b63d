"""Which workers may compute beside each other: as many models on a device as its memory holds. Imports no torch."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from harness.api import Dataset, Selector
from harness.execute import workers
from harness.execute.devices import Device
from harness.execute.model_facts import shape_in
from harness.planning.budget import runs_reference
from harness.planning.estimates import visits
from harness.planning.grid import Cell
from harness.planning.launch import Launch
from harness.planning.memory import Batch, needed_memory
from harness.planning.processors import processors, threads_each
from harness.planning.run_file import Run


@dataclass(frozen=True, kw_only=True)
class Placing:
    """The devices of a run, and what each model is estimated to take of one."""

    devices: tuple[Device, ...]
    needs: Mapping[str, float]
    """Bytes of a worker, by what boards call its model; infinite where its size is not known."""
    on_cpu: int = 1
    """Workers side by side on the CPU."""
    threads: int = 1
    """Threads of each worker."""
    on_node: int = 1
    """Workers side by side on a machine of several, where each has its share of it."""

    def beside(self, device: Device) -> int:
        """Return the most workers that a device has at a time: of the smallest models, as many as fit."""
        if not device.is_gpu:
            return self.on_cpu
        smallest = sorted(self.needs.values())
        return max(1, sum(self.fit(device, sum(smallest[: count + 1])) for count in range(len(smallest))))

    @property
    def workers(self) -> int:
        """The most workers at a time, on all devices."""
        return sum(self.beside(device) for device in self.devices)

    @property
    def at_full_speed(self) -> int:
        """How many workers are as fast as one alone: as many as there are cores or GPUs for them."""
        return sum(1 if device.is_gpu else min(self.on_cpu, processors()) for device in self.devices)

    @property
    def side_by_side(self) -> int:
        """The most workers that a worker shares its device with, itself among them."""
        return max(self.on_node, *map(self.beside, self.devices))

    @property
    def places(self) -> list[Device]:
        """The device of each worker, the first of every device before the second of any."""
        most = max(map(self.beside, self.devices))
        return [device for count in range(most) for device in self.devices if self.beside(device) > count]

    def may_begin(self, device: Device, model: str, there: Collection[str]) -> bool:
        """Return whether a device has room for a model beside those that are there.

        One that fits on no device may have any of them to itself: an estimate is no measurement.
        """
        if not device.is_gpu:
            return True
        if there:
            return self.fit(device, sum(self.needs[each] for each in (*there, model)))
        return self.fit(device, self.needs[model]) or not any(
            self.fit(each, self.needs[model]) for each in self.devices
        )

    @staticmethod
    def fit(device: Device, needed: float) -> bool:
        """Return whether a device is known to have so many bytes."""
        return device.memory is not None and needed <= device.memory


def placing_of(
    run: Run, devices: Sequence[Device], data: Dataset, cells: Sequence[Cell], selector: Selector | None
) -> Placing:
    """Return the devices of a run with what its models take."""
    models = [model for model in run.models if any(cell.model == run.called(model) for cell in cells)]
    needs = dict.fromkeys(map(run.called, models), math.inf)
    if launch := Launch.of(os.environ):  # a cell is trained by all of its processes, each on a device: one at a time
        return Placing(devices=tuple(devices[:1]), needs=needs, threads=threads_each(launch.local_count))
    if any(device.is_gpu for device in devices):
        tokens = visits(data, run).of(selector)
        batch = Batch(packed=tokens.packed, longest=tokens.longest)
        beside = any(runs_reference(cell.system.loss) for cell in cells)
        for model in models:
            shape = shape_in(run, model)
            if shape is not None:
                needed = needed_memory(run, shape, batch, devices[0].planned, reference_beside=beside)
                needs[run.called(model)] = needed.total
    placing = Placing(devices=tuple(devices), needs=needs, on_cpu=workers.count(run))
    return replace(placing, threads=threads_each(placing.workers))
