"""What the benchmarks share: the peer's environment, the checkpoints and pairs, and where ratios are kept."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from benchmarks import corpus
from benchmarks.driver import HERE, Worker

SAME = ("torch", "transformers", "tokenizers", "accelerate", "datasets", "numpy")
"""Installed in the peer's environment at our versions."""


@pytest.fixture(scope="session")
def peer_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The interpreter of the environment that holds TRL: HARNESS_BENCH_PEER, or one made here (minutes, once)."""
    named = os.environ.get("HARNESS_BENCH_PEER")
    if named:
        return named
    made = os.environ.get("TOX_ENV_DIR")
    folder = (Path(made) if made else tmp_path_factory.mktemp("peer")) / "peer"
    python, done = folder / "bin" / "python", folder / "complete"
    if not done.exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        pinned = [f"{name}=={version(name)}" for name in SAME]
        install = [str(python), "-m", "pip", "install", "--quiet"]
        subprocess.run([*install, *pinned], check=True)
        subprocess.run([*install, "-r", str(HERE / "peers.txt"), *pinned], check=True)
        done.touch()
    return str(python)


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int | str], str]:
    """Vocabulary of the small model, or `smollm2` -> folder with the checkpoint, its tokenizer and the pairs."""
    made: dict[int | str, str] = {}

    def folder(model: int | str) -> str:
        if model not in made:
            config = corpus.smollm2() if model == "smollm2" else corpus.small(int(model))
            made[model] = str(corpus.write(tmp_path_factory.mktemp("corpus"), config))
        return made[model]

    return folder


@pytest.fixture
def workers(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Worker]]:
    """Start a worker of `ours`, or of `trl`, whose environment is made when first asked for; all end with the test."""
    started: list[Worker] = []

    def start(side: str) -> Worker:
        python = request.getfixturevalue("peer_python") if side == "trl" else sys.executable
        started.append(Worker(f"worker_{side}.py", python))
        return started[-1]

    yield start
    for worker in started:
        worker.close()
