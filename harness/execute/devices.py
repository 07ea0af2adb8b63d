"""Which devices of this machine compute, `--devices`: GPUs by their numbers, or the CPU. Imports no torch itself."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from functools import cache

from harness.api import HarnessError
from harness.execute.workers import may_have_gpu
from harness.planning.memory import Device as PlannedDevice
from harness.planning.memory import this_computer

DECLARED = "HARNESS_DEVICES"
"""Declares GPUs that are not there, as `0:80GB,1:80GB`, for tests of what is done with several."""
ASKED = """
import json, torch
found = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
print(json.dumps([[each.name, each.total_memory] for each in found]))
"""
SIZES = {"GB": 1e9, "MB": 1e6}


@dataclass(frozen=True, kw_only=True)
class Device:
    """What a worker computes on."""

    name: str
    """Its number among the visible GPUs, from 0, or `cpu`."""
    kind: str = ""
    """What it is, as `NVIDIA H200`."""
    memory: float | None = None
    """Its bytes; None: not known."""
    visible: str | None = None
    """What CUDA_VISIBLE_DEVICES is for its workers; None: as it is."""

    @property
    def is_gpu(self) -> bool:
        """Return whether it has memory of its own, in which an engine takes all that is free."""
        return self.name != CPU

    def __str__(self) -> str:
        return f"GPU {self.name}" if self.name.isdecimal() else self.name

    @property
    def planned(self) -> PlannedDevice:
        """What a plan of memory has of it; a GPU whose memory is not known is taken to hold anything."""
        if not self.is_gpu:
            return this_computer()
        return PlannedDevice(memory=self.memory or math.inf, gpu=True, name=str(self))

    @property
    def facts(self) -> str:
        """What a manifest says of it."""
        return self.kind + (f", {self.memory / 1e9:.1f} GB" if self.memory else "")


CPU = "cpu"
HERE = Device(name=CPU)
"""This machine as it is."""


def chosen(asked: str | None) -> tuple[Device, ...]:
    """Return the devices that `--devices` names; None: all visible GPUs, or the CPU where there is none.

    Raises `HarnessError` for what is not there.
    """
    there = visible()
    if asked is None:
        return there or (_cpu(),)
    names = [name.strip() for name in asked.split(",")]
    if names == [CPU]:
        return (_cpu(),)
    known = {device.name: device for device in there}
    wrong = [name for name in names if name not in known]
    if wrong or len(set(names)) < len(names):
        got = f"--devices got '{asked}'" + (f", and {wrong[0] or 'nothing'} is no visible GPU" if wrong else "")
        expected = f"numbers out of {', '.join(known)}, each once, or cpu" if known else "cpu: no GPU is visible here"
        raise HarnessError(f"{got}; expected {expected}")
    return tuple(known[name] for name in names)


def _cpu() -> Device:
    """Return the CPU; beside a GPU its workers must not see that."""
    return Device(name=CPU, visible="" if may_have_gpu() else None)


def visible() -> tuple[Device, ...]:
    """Return the GPUs that torch can use, in its order."""
    declared = os.environ.get(DECLARED)
    if declared is not None:
        return tuple(_declared(text) for text in declared.split(",") if text)
    return _asked(os.environ.get("CUDA_VISIBLE_DEVICES")) if may_have_gpu() else ()


@cache
def _asked(limited: str | None) -> tuple[Device, ...]:
    """Return the GPUs as torch has them in a process of its own: here nothing may begin to use one."""
    done = subprocess.run([sys.executable, "-c", ASKED], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        return ()
    names = limited.split(",") if limited else None
    return tuple(
        Device(name=str(number), kind=kind, memory=memory, visible=names[number] if names else str(number))
        for number, (kind, memory) in enumerate(json.loads(done.stdout.splitlines()[-1]))
    )


def _declared(text: str) -> Device:
    found = re.fullmatch(r"([0-9]+):([0-9.]+)(GB|MB)", text)
    if not found:
        raise HarnessError(f"{DECLARED} got '{text}', expected a number and a size, such as 0:80GB")
    return Device(name=found[1], kind="declared", memory=float(found[2]) * SIZES[found[3]], visible=found[1])
