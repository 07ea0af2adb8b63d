"""Fixtures that every test may use."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from forked_commands import ForkedCommands, can_be_forked
from hypothesis import HealthCheck, settings
from waiting import HANGS

from harness.import_guard import guard_imports

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # threads that wait leave their cores to others; read by torch
guard_imports()  # before any test imports transformers
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

Harness = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module", autouse=True)
def _quick_collection() -> None:
    """Let no collection of garbage, of which a training makes several, pass over what is there before: the modules."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of real preference data named by HARNESS_TEST_DATA; without it the test skips, in CI it fails."""
    folder = os.environ.get("HARNESS_TEST_DATA")
    if folder and Path(folder).is_dir():
        return Path(folder)
    reason = f"HARNESS_TEST_DATA is {folder!r}, expected the folder that holds alpacaeval-graded, second-real and dirty"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that the runs of a test session share, so that the nano model is made once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def environment(cache: Path) -> dict[str, str]:
    """The environment of a run: its own cache, the width of a terminal."""
    return {**os.environ, "HARNESS_CACHE": str(cache), "COLUMNS": "140", "PYTHONWARNINGS": "default"}


@pytest.fixture(scope="session")
def forked(environment: dict[str, str]) -> Iterator[ForkedCommands]:
    """The process that commands of a test session are forked from."""
    commands = ForkedCommands(environment)
    yield commands
    commands.close()


@pytest.fixture(scope="session")
def harness(environment: dict[str, str], forked: ForkedCommands) -> Harness:
    """Run `harness ...` and return what it printed and its exit code; pictures, which take seconds, where asked for.

    It is forked where that changes nothing, unless it is asked to start `afresh`.
    """

    def call(
        *arguments: str, pictures: bool = False, afresh: bool = False, **variables: str
    ) -> subprocess.CompletedProcess[str]:
        if not pictures and arguments[:1] == ("run",):
            arguments = (*arguments, "--no-pictures")
        if not afresh and can_be_forked(arguments, variables):
            return forked.run(arguments, variables)
        return subprocess.run(
            [sys.executable, "-m", "harness", *arguments],
            capture_output=True,
            text=True,
            timeout=HANGS,
            env={**environment, **variables},
            check=False,
        )

    return call
