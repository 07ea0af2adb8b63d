"""Peak memory of this process, by the operating system's or the accelerator's own accounting."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from pathlib import Path

import torch


def peak_memory() -> int:
    """Return the highest resident memory since the last reset in bytes; the accelerator's own where there is one."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


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
