"""Whole runs on very little data, each in a process of its own, as a user starts them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from waiting import HANGS

SMALL = ("--models", "qwen", "--limit", "48", "--budget", "pairs=32", "--scorer", "transformers")
"""A run of seconds: two steps a cell."""

Harness = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that the runs of a test session share, so that the nano model is made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def environment(cache: Path) -> dict[str, str]:
    """The environment of a run: its own cache, the width of a terminal."""
    return {**os.environ, "HARNESS_CACHE": str(cache), "COLUMNS": "140", "PYTHONWARNINGS": "default"}


@pytest.fixture(scope="session")
def harness(environment: dict[str, str]) -> Harness:
    """Run `harness ...` and return what it printed and its exit code; pictures, which take seconds, where asked for."""

    def call(*arguments: str, pictures: bool = False, **variables: str) -> subprocess.CompletedProcess[str]:
        plain = [] if pictures or arguments[:1] != ("run",) else ["--no-pictures"]
        return subprocess.run(
            [sys.executable, "-m", "harness", *arguments, *plain],
            capture_output=True,
            text=True,
            timeout=HANGS,
            env={**environment, **variables},
            check=False,
        )

    return call


@pytest.fixture(scope="session")
def small_run(harness: Harness, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished small run of simpo, dpo and gappo."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    done = harness("run", "--plugins", "simpo,dpo,gappo", *SMALL, "--output-dir", str(folder), pictures=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder
