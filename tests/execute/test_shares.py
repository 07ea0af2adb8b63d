"""Shares of a run, each computed by a process of its own, and what they are when they are merged."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from harness.api import HarnessError
from harness.api.loss import Loss
from harness.exchange.verify import verify
from harness.execute.axes import resolve_all
from harness.execute.resolve import runs_of
from harness.planning.grid import Cell, System, cells
from harness.planning.share import Share

PAGE = (Path(__file__).parents[2] / "docs" / "clusters.md").read_text(encoding="utf-8")
SCRIPT = next(block for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) if "--array" in block)
RUN = """
plugins = "simpo,dpo"
models = ["qwen", "gemma"]
limit = 48
budget = "pairs=16"
scorer = "transformers"
"""
SPEND = "spend"


def grid(models: int, losses: int, seeds: int) -> list[Cell]:
    class Made(Loss):
        name = "made"

        def terms(self, pairs: Any) -> Any: ...
        def reward(self, response: Any) -> Any: ...

    systems = [System(loss=Made(), label=f"loss{number}") for number in range(losses)]
    return cells([f"model{number}" for number in range(models)], systems, range(seeds))


@pytest.mark.parametrize(
    ("models", "losses", "seeds", "of"), [(3, 7, 3, 4), (1, 1, 5, 5), (2, 3, 1, 1), (3, 51, 3, 100)]
)
def test_every_cell_is_in_exactly_one_share_and_shares_differ_by_one_cell(
    models: int, losses: int, seeds: int, of: int
) -> None:
    whole = grid(models, losses, seeds)
    shares = [Share(number=number, of=of).cut(whole) for number in range(1, of + 1)]
    assert [cell for share in shares for cell in share] == whole
    sizes = Counter(map(len, shares))
    assert max(sizes) - min(sizes) <= 1


def test_as_many_shares_as_models_have_a_model_each() -> None:
    whole = grid(3, 7, 3)
    for of, models in ((3, 1), (6, 1), (2, 2)):
        for number in range(1, of + 1):
            assert len({cell.model for cell in Share(number=number, of=of).cut(whole)}) == models


@pytest.mark.parametrize("text", ["", "1", "0/4", "5/4", "1/0", "-1/4", "1/4/2", "a/b", "1.0/2", "1/4 "])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(HarnessError, match=r"--cells got .*, expected K/N"):
        Share.parse(text)


def test_more_shares_than_cells_and_shares_of_trials_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    asked: dict[str, Any] = {"plugins": "simpo,dpo", "limit": 48, "scorer": "transformers"}
    with pytest.raises(HarnessError, match=r"--cells got 1/3, expected at most 2 shares, as this run has 2 cells"):
        resolve_all(runs_of(None, asked), tmp_path / "run", False, share=Share(number=1, of=3))
    with pytest.raises(HarnessError, match=r"--cells got 1/2 with --trials 3, expected one of them"):
        resolve_all(runs_of(None, {**asked, "trials": 3}), tmp_path / "run", False, share=Share(number=1, of=2))
    assert not (tmp_path / "run").exists()


def test_every_setting_of_an_axis_is_divided_alike(tmp_path: Path) -> None:
    asked: dict[str, Any] = {
        "plugins": "simpo,dpo",
        "limit": 48,
        "scorer": "transformers",
        "learning_rate": "1e-3,4e-3",
    }
    found = resolve_all(runs_of(None, asked), tmp_path / "run", False, share=Share(number=2, of=2))
    assert [[cell.system.label for cell in each.share.cut(each.grid)] for each in found] == [["dpo"], ["dpo"]]


@pytest.fixture(scope="module")
def shards(environment: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder in which the job array of the documentation ran, its tasks side by side; there is a run undivided."""
    folder = tmp_path_factory.mktemp("array")
    (folder / "run.toml").write_text(RUN)
    (folder / "bin").mkdir()
    (folder / "bin" / "harness").write_text(f'#!/bin/bash\nexec "{sys.executable}" -m harness "$@"\n')
    (folder / "bin" / "harness").chmod(0o755)
    shutil.copytree(environment["HARNESS_CACHE"], folder / "cache")
    tasks = int(re.search(r"--array=1-(\d+)", SCRIPT)[1])  # type: ignore[index]
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    slurm = {"PATH": path, "SLURM_SUBMIT_DIR": str(folder), "SLURM_ARRAY_TASK_COUNT": str(tasks)}
    started = [
        subprocess.Popen(
            ["bash", "-c", SCRIPT],
            env={**environment, **slurm, "SLURM_ARRAY_TASK_ID": str(number)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in range(1, tasks + 1)
    ]
    for task in started:
        said, _ = task.communicate()
        assert task.returncode == 0, said
    whole = ["harness", "run", "run.toml", "--no-pictures", "--output-dir", "whole"]
    env = {**environment, **slurm, "HARNESS_CACHE": str(folder / "cache")}
    subprocess.run(whole, cwd=folder, env=env, check=True, capture_output=True)
    return folder


def without_spend(value: Any) -> Any:
    """Return JSON without what a machine spent."""
    if isinstance(value, dict):
        return {key: without_spend(inner) for key, inner in value.items() if "spend" not in key}
    return [without_spend(inner) for inner in value] if isinstance(value, list) else value


def tables_of(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for name in ("rows", "responses")
        for path in folder.rglob(f"{name}.parquet")
    }


@pytest.mark.slow
def test_the_tasks_of_a_job_array_merge_to_the_board_of_one_undivided_run(shards: Path, harness: Any) -> None:
    trained = [len(list(folder.glob("cells/*--seed*/record.json"))) for folder in sorted(shards.glob("shard-*"))]
    assert trained == [1, 1, 2]  # of 4 cells
    done = harness("merge", *map(str, sorted(shards.glob("shard-*"))), "--into", str(shards / "board"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "missing" not in done.stdout
    merged, whole = (json.loads((shards / name / "leaderboard.json").read_text()) for name in ("board", "whole"))
    assert without_spend(merged) == without_spend(whole)
    assert tables_of(shards / "board") == tables_of(shards / "whole")
    assert verify(shards / "board").problems == ()


@pytest.mark.slow
def test_a_board_without_one_share_says_which_cells_are_missing(shards: Path, harness: Any) -> None:
    two = [str(shards / "shard-1"), str(shards / "shard-3")]
    done = harness("merge", *two, "--into", str(shards / "part"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "missing: 1 cells that were asked for" in done.stdout
    boards = json.loads((shards / "part" / "leaderboard.json").read_text())["boards"]
    assert {row["status"] for row in boards[0]["rows"]} >= {"missing"}
    done = harness("verify", str(shards / "part"))
    assert done.returncode == 0
    assert "1 of 4 cells that were asked for have no record" in done.stdout
