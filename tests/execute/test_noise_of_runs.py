"""Noise in a whole run: what it changes in records and boards, and what it leaves in every bit."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from rewritten import edit

from harness.planning.run_file import make_run

SMALL = ("--models", "qwen", "--limit", "48", "--budget", "pairs=32", "--scorer", "transformers")


@pytest.fixture(scope="module")
def noisy(harness: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run like `small_run`, with noise."""
    folder = tmp_path_factory.mktemp("noisy") / "run"
    done = harness("run", "--plugins", "simpo,dpo", *SMALL, "--noise", "near-ties=0.5", "--output-dir", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Noise     near-ties=0.5 changes 24 of 48 training labels (50.0%)" in done.stdout
    return folder


def records(folder: Path) -> dict[str, Any]:
    found = [json.loads(path.read_text()) for path in folder.glob("cells/*/record.json")]
    return {record["label"]: record | {"folder": folder / "cells" / record["key"]} for record in found}


def test_every_record_says_how_many_labels_were_changed(noisy: Path) -> None:
    for record in records(noisy).values():
        assert record["board"]["noise"] == "near-ties=0.5"
        assert record["dataset"]["noise"] == {
            "setting": "near-ties=0.5", "train_pairs": 48, "train_changed": 24, "dev_pairs": 48, "dev_changed": 24,
        }  # fmt: skip


def test_start_data_and_held_out_tokens_are_those_without_noise_and_what_is_trained_is_not(
    noisy: Path, small_run: Path
) -> None:
    clean, other = records(small_run), records(noisy)
    for label in ("simpo", "dpo", "base"):
        assert other[label]["model"] == clean[label]["model"]
        assert other[label]["dataset"]["fingerprint"] == clean[label]["dataset"]["fingerprint"]
        before, after = (record[label]["tokens_fingerprint"].split("-") for record in (clean, other))
        assert before[1] == after[1]
        assert before[0] != after[0]
    rows = [
        hashlib.sha256((record["base"]["folder"] / "rows.parquet").read_bytes()).hexdigest()
        for record in (clean, other)
    ]
    assert rows[0] == rows[1]  # the test split, labels and scores included
    assert clean["simpo"]["metrics"] != other["simpo"]["metrics"]


def test_the_board_says_it_and_the_run_verifies(noisy: Path, harness: Any) -> None:
    board = (noisy / "leaderboard.md").read_text()
    assert " · noise near-ties=0.5" in board
    assert "Noise near-ties=0.5 changes 24 of 48 training labels (50.0%) and 24 of 48 dev labels (50.0%)" in board
    checked = harness("verify", str(noisy))
    assert checked.returncode == 0, checked.stdout


def test_verify_names_a_record_whose_noise_is_not_that_of_its_board(noisy: Path, harness: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(noisy, folder)
    path = next(folder.glob("cells/*dpo*/record.json"))
    edit(path, '"setting": "near-ties=0.5"', '"setting": "near-ties=0.1"')
    checked = harness("verify", str(folder))
    assert checked.returncode == 3
    assert "got dataset.noise.setting 'near-ties=0.1', expected that of board.noise, 'near-ties=0.5'" in checked.stdout


def test_a_run_without_noise_has_no_key_for_it_and_the_hash_that_it_had() -> None:
    assert "noise" not in make_run({}).decisive().as_json()
    assert (
        make_run({}).short_hash()
        == make_run({"noise": "none"}).short_hash()
        == make_run({"noise": "flip=0"}).short_hash()
    )
    assert len({make_run({"noise": noise}).short_hash() for noise in ("none", "flip=0.1", "flip=0.2")}) == 3
    assert make_run({"noise": "flip=0.10"}).decisive() == make_run({"noise": "flip = 0.1"}).decisive()


def test_more_than_the_data_allow_is_refused_before_anything_is_trained(harness: Any, tmp_path: Path) -> None:
    done = harness("run", *SMALL, "--noise", "longer-wins=1", "--output-dir", str(tmp_path / "run"))
    assert done.returncode == 2
    assert "--noise got longer-wins=1, which changes 48 of 48 train labels" in done.stderr
    assert not (tmp_path / "run").exists()
    done = harness("run", *SMALL, "--noise", "salt=1", "--output-dir", str(tmp_path / "run"))
    assert done.returncode == 2
    assert "--noise got 'salt=1': expected none, flip=SHARE" in done.stderr
