"""Peak memory of a cell: on a CPU what the process holds beyond what it held before, else the GPU's count."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import torch

from harness.planning.memory import Device, this_computer
from harness.planning.run_file import Run

_before = 0  # resident bytes that are subtracted from every peak


def device() -> Device:
    """Return what cells are trained on here: the first GPU, or this computer."""
    if not torch.cuda.is_available():
        return this_computer()
    found = torch.cuda.get_device_properties(0)
    return Device(memory=float(found.total_memory), gpu=True, name=f"the {found.name}")


def leave_out_what_is_held(libraries: Sequence[str] = ()) -> None:
    """Subtract what is resident now from all later peaks; called before a cell loads its model.

    None of it is the cell's: libraries, which differ with the scorer, `libraries` among them, which are imported first;
    the data that all cells share; kernels that a library keeps; what making the start checkpoint, or an earlier cell,
    left behind.
    """
    global _before
    for library in libraries:
        import_module(library)
    return_freed()
    _before = _resident("VmRSS:")


def libraries_of(run: Run) -> list[str]:
    """Return what only some cells need, and import as they begin."""
    found = ["torchao.optim", "torch._dynamo.utils"] if run.optimizer != "adamw" else []
    if run.lora is not None:
        found += ["peft", *(["bitsandbytes"] if run.lora.quantised else [])]
    return found


def peak_memory() -> int:
    """Return the highest memory since the last reset, in bytes, without what was held before the cell.

    On a CPU resident memory, as the operating system counts it; on an accelerator its own count of allocated memory.
    """
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return max(0, _resident("VmHWM:") - _before)


def reset_peak_memory() -> None:
    """Reset the peak, so that it is that of the training that follows; where the system cannot, the old peak stays."""
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    return_freed()
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def return_freed() -> None:
    """Return freed memory to the system: glibc keeps it, and it would count as the cell's."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def _resident(name: str) -> int:
    """Return the resident memory of this process, now (`VmRSS:`) or at its peak (`VmHWM:`), in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
