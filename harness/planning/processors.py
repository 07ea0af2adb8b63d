"""How many processors and threads a run may use, and what kind of processor it has."""

from __future__ import annotations

import os
import platform
from pathlib import Path


def processors() -> int:
    """Return the processors that this process may run on: what a job scheduler, a container or `taskset` leaves it."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def threads_each(side_by_side: int = 1) -> int:
    """Return the threads of each of so many processes: OMP_NUM_THREADS where it is set, else an equal share."""
    return asked_threads() or max(1, processors() // side_by_side)


def asked_threads() -> int:
    """Return OMP_NUM_THREADS; 0 where it is not set."""
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(asked) if asked.isdecimal() else 0


def thread_variables() -> dict[str, str]:
    """Return the environment variables of a worker that say how its threads wait; none where the user has set one.

    GNU's OpenMP, which torch uses, lets threads that wait for each other spin for milliseconds. With two processes of
    two threads on two cores each training step took 4.4 times as long as alone; with so short a spin 1.95 times, and
    alone no longer than before (`python -m tests.benchmarks.waiting`).
    """
    return {} if {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ) else {"GOMP_SPINCOUNT": "1000"}


def processor_name() -> str:
    """Return the kind of CPU: what Linux calls it, with family and model where it has them; elsewhere what Python says.

    Names alone do not tell kinds apart: in virtual machines several generations have one.
    """
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    numbers = [f"{key} {facts[name]}" for key, name in (("family", "cpu family"), ("model", "model")) if name in facts]
    return ", ".join([facts.get("model name") or platform.processor() or platform.machine(), *numbers])
