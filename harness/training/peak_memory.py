"""Peak memory of a cell: of the process without its libraries on a CPU, of the accelerator where there is one."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from pathlib import Path

import torch

_libraries = 0  # resident bytes that are subtracted from every peak


def leave_out_libraries() -> None:
    """Subtract what is resident now from all later peaks; called when the libraries are loaded and no model is.

    Which libraries are imported depends on the scorer and says nothing about the loss or the model.
    """
    global _libraries
    _libraries = _resident("VmRSS:")


def peak_memory() -> int:
    """Return the highest memory since the last reset, in bytes, without that of the libraries.

    On a CPU resident memory, as the operating system counts it; on an accelerator its own count of allocated memory.
    """
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return max(0, _resident("VmHWM:") - _libraries)


def reset_peak_memory() -> None:
    """Reset the peak, so that it is that of the cell that follows; where the system cannot, the old peak stays.

    Freed memory is first returned to the system: glibc keeps it, and it would count as the cell's.
    """
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _resident(name: str) -> int:
    """Return the resident memory of this process, now (`VmRSS:`) or at its peak (`VmHWM:`), in bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
