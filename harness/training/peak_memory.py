"""Peak memory of a cell, by the operating system's or the accelerator's own accounting."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from pathlib import Path

import torch

_libraries = 0  # bytes resident before anything was loaded


def leave_out_libraries() -> None:
    """Take what is resident now for the libraries: what is imported differs with the scorer, and is no model's."""
    global _libraries
    _libraries = _resident("VmRSS:")


def peak_memory() -> int:
    """Return the highest memory since the last reset in bytes, without the libraries'.

    Resident memory by the operating system's accounting; the accelerator's own where there is one.
    """
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return max(0, _resident("VmHWM:") - _libraries)


def reset_peak_memory() -> None:
    """Start a new high-water mark, so that a cell's figure is its own; where the system cannot, the mark goes on.

    What was freed goes back to the system first: glibc would keep it, and it would count as the cell's.
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
    """Return what the system says this process holds (`VmRSS:`) or has held at most (`VmHWM:`), bytes."""
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
