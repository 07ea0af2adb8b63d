"""Optimisers as an axis of a run: a board each, in the key, in the records, and nothing of it where it is AdamW."""

from __future__ import annotations

import csv
import importlib.metadata
import json
from pathlib import Path
from typing import Any

import pytest

from harness.exchange.verify import run_verify
from harness.run_folder.paths import runs_inside

SMALL = ("--models", "qwen", "--limit", "48", "--budget", "pairs=16", "--scorer", "transformers", "--dtype", "bfloat16")
AXIS = ("--plugins", "dpo", "--optimizer", "adamw,adamw-bf16-sr", "--activation-checkpointing", "on")


@pytest.fixture(scope="module")
def both(harness: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run with two optimisers, activations computed again."""
    folder = tmp_path_factory.mktemp("optimisers") / "run"
    done = harness("run", *AXIS, *SMALL, "--output-dir", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Axis      optimizer=adamw-bf16-sr: 1 cells" in done.stdout
    assert "moments " in done.stdout
    assert ", computed again layer by layer," in done.stdout
    return folder


def record(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("cells/*--dpo--*/record.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_a_board_each_told_apart_by_title_key_and_export(both: Path, harness: Any) -> None:
    assert [folder.name for folder in runs_inside(both)] == ["at-optimizer=adamw-bf16-sr"]
    plain, rounded = json.loads((both / "leaderboard.json").read_text())["boards"]
    assert "optimizer" not in plain["settings"]
    assert rounded["settings"]["optimizer"] == "adamw-bf16-sr"
    assert rounded["title"] == f"{plain['title']} · optimiser adamw-bf16-sr"
    assert "--optimizer adamw-bf16-sr" in (both / "leaderboard.html").read_text()
    done = harness("export", str(both), "--format", "csv", "--output", str(both.parent / "run.csv"))
    assert done.returncode == 0, done.stdout + done.stderr
    with open(both.parent / "run.csv", encoding="utf-8") as file:
        assert {line["optimizer"] for line in csv.DictReader(file)} == {"adamw", "adamw-bf16-sr"}


def test_records_say_what_is_not_adamw_and_that_activations_were_computed_again(both: Path) -> None:
    plain, rounded = record(both), record(both / "at-optimizer=adamw-bf16-sr")
    assert "torchao" not in plain["environment"]
    assert rounded["environment"]["torchao"] == importlib.metadata.version("torchao")
    assert plain["spend"]["activations_recomputed"] is rounded["spend"]["activations_recomputed"] is True
    assert plain["metrics"]["margin"] != rounded["metrics"]["margin"]


def test_both_are_verified(both: Path) -> None:
    for folder in (both, *runs_inside(both)):
        text, code = run_verify(folder)
        assert code == 0, text
