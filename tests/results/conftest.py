"""Scripts and notebooks that define a loss of their own, as people write them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from waiting import HANGS

LOSS = '''
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor
from torch.nn.functional import logsigmoid

import harness
from harness.api import Loss, PairLogps, ResponseLogps, Terms

SHIFT = 0.0


def scaled(gap: Tensor, beta: float) -> Tensor:
    return beta * gap


def unused(gap: Tensor) -> Tensor:
    return gap


@dataclass(frozen=True, kw_only=True)
class MyLoss(Loss):
    """-log sigmoid(beta * (A_w - A_l) - SHIFT)."""

    name: ClassVar[str] = "my-loss"
    length_normalised = True
    beta: float = 2.0

    def terms(self, pairs: PairLogps) -> Terms:
        return Terms.of(-logsigmoid(scaled(pairs.chosen.mean() - pairs.rejected.mean(), self.beta) - SHIFT))

    def reward(self, response: ResponseLogps) -> Tensor:
        return self.beta * response.sum / response.length
'''
"""A loss with a helper and a constant beside it, and something that it does not use."""
SMALL = 'models="qwen", limit=48, budget="pairs=32", scorer="transformers", output_dir="run"'
RUN = f'\nresults = harness.run(losses=[MyLoss(beta=3), "dpo"], {SMALL})\nprint(results)\n'
"""No main guard: notebooks have none either."""

SHELL = """
import linecache, sys, types
main = sys.modules["__main__"] = types.ModuleType("__main__")  # as in a notebook: no file, cells known to linecache
for k, cell in enumerate(CELLS):
    name = f"/tmp/ipykernel_1/{k}.py"
    linecache.cache[name] = (len(cell), None, cell.splitlines(keepends=True), name)
    exec(compile(cell, name, "exec"), vars(main))
"""
"""Executes the texts in `CELLS` one after the other, as a notebook does."""

Script = Callable[..., subprocess.CompletedProcess[str]]


def run_script(text: str, folder: Path, name: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Write `text` into a file of `folder` and run it there; returns what it printed."""
    (folder / name).write_text(text)
    done = subprocess.run(
        [sys.executable, "-W", "error", name],
        capture_output=True,
        text=True,
        timeout=HANGS,
        cwd=folder,
        env={**environment, "PYTHONPATH": os.pathsep.join(entry or os.getcwd() for entry in sys.path)},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture
def script(tmp_path: Path, environment: dict[str, str]) -> Script:
    """Run a script in the folder of the test."""

    def call(text: str, name: str = "mine.py") -> subprocess.CompletedProcess[str]:
        return run_script(text, tmp_path, name, environment)

    return call


@pytest.fixture(scope="module")
def own_run(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """The run folder that the script `LOSS + RUN` leaves."""
    folder = tmp_path_factory.mktemp("script")
    run_script(LOSS + RUN, folder, "mine.py", environment)
    return folder / "run"
