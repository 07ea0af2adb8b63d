"""How many processors and threads a run may use."""

from __future__ import annotations

import os


def processors() -> int:
    """Return the processors that this process may run on: what a job scheduler, a container or `taskset` leaves it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_each(side_by_side: int = 1) -> int:
    """Return the threads of each of so many processes: OMP_NUM_THREADS where it is set, else an equal share."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(asked) if asked.isdecimal() and int(asked) else max(1, processors() // side_by_side)
