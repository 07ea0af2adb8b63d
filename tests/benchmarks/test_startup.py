"""How long the commands take that only look: processor time, which on a quiet machine is the time on the clock."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_cells import add_cell

LOSSES, PAIRS, PROMPTS = 38, 400, 200


def of_children() -> float:
    """Return the processor time of all commands that have ended, in seconds."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def harness(*words: str) -> None:
    """Run the command line as a user does, in a process of its own."""
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}  # with a GPU a plan asks torch whether it can be used
    subprocess.run([sys.executable, "-m", "harness", *words], check=True, stdout=subprocess.DEVNULL, env=environment)


@pytest.fixture(scope="module")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 38 losses on one model, 400 pairs of 200 prompts, in which no two scores are equal."""
    run, rng = tmp_path_factory.mktemp("runs") / "run", np.random.default_rng(0)
    shared = rng.normal(size=PAIRS)
    labels = [f"loss{k:02d}" for k in range(LOSSES)]
    for k, label in enumerate([*labels, "base", "longer-wins"]):
        add_cell(run, label, 0.5 * shared + rng.normal(size=PAIRS) + 0.02 * k, prompts=PROMPTS)
    return run


def libraries() -> None:
    """Import what the statistics need, in a process of its own: how fast this machine is at such things."""
    subprocess.run([sys.executable, "-c", "import pandas, scipy.stats"], check=True)


@pytest.mark.bench
@pytest.mark.benchmark(timer=of_children, warmup=False)
@pytest.mark.parametrize(
    ("words", "times"),
    [
        ("--help", 0.2),
        ("plugins list", 1.1),
        ("run --plugins all --models qwen,gemma,mistral --dry-run --output-dir {new}", 1.9),
        ("leaderboard {run} --no-pictures", 4.0),
        ("leaderboard {run}", 4.0),
    ],
)
def test_a_command_that_only_looks_takes_few_times_as_long_as_to_import_the_libraries(
    words: str, times: float, benchmark: Any, finished_run: Path, tmp_path: Path
) -> None:
    """Its first call is not counted: it compiles Python's files and draws the pictures, which are then kept."""
    command = words.format(run=finished_run, new=tmp_path / "new").split()
    imports: list[float] = []

    def import_them() -> None:
        before = of_children()
        libraries()
        imports.append(of_children() - before)

    benchmark.pedantic(harness, args=command, setup=import_them, rounds=3, warmup_rounds=1)
    least = min(imports)
    print(f"\n{words.split(' {')[0]}: {benchmark.stats.stats.min:.2f} s, the libraries alone {least:.2f} s", end="")
    assert benchmark.stats.stats.min < times * least
