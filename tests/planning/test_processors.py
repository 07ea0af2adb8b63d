"""How many processors and threads a run uses: what it was left, and what it was told."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from harness.planning.processors import processors, threads_each

needs_affinity = pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no affinity")


@needs_affinity
def test_a_process_held_to_one_processor_counts_one() -> None:
    one = min(os.sched_getaffinity(0))
    count = "import os; os.sched_setaffinity(0, {%d}); from harness.planning.processors import *; print(processors())"
    assert subprocess.check_output([sys.executable, "-c", count % one], text=True) == "1\n"


@needs_affinity
@pytest.mark.parametrize(
    ("asked", "side_by_side", "expected"),
    [("", 1, 8), ("", 3, 2), ("", 20, 1), ("1", 1, 1), ("4,2", 3, 4), ("0", 2, 4), ("many", 2, 4)],
)
def test_processes_share_the_processors_unless_omp_num_threads_says_how_many_threads_each_has(
    monkeypatch: pytest.MonkeyPatch, asked: str, side_by_side: int, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setenv("OMP_NUM_THREADS", asked)
    assert processors() == 8
    assert threads_each(side_by_side) == expected
