"""A run with axes: one command, one folder, one page; computed again only where something is missing."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.execute.axes import resolve_all
from harness.execute.resolve import runs_of
from harness.run_folder.paths import runs_inside

SMALL = ("--models", "qwen", "--limit", "48", "--budget", "pairs=16", "--scorer", "transformers")
GRID = ("--plugins", "simpo:beta=1|2", "--learning-rate", "1e-3,4e-3", "--noise", "none,flip=0.5")
HASH = hashlib.sha256(b"dataset=embedded:annotator_noise=0.6").hexdigest()[:6]
OTHERS = ["at-learning_rate=0.004", "at-learning_rate=0.004,noise=flip=0.5", "at-noise=flip=0.5"]


@pytest.fixture(scope="module")
def grid(harness: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of two betas, two learning rates and two settings of noise."""
    folder = tmp_path_factory.mktemp("grid") / "run"
    done = harness("run", *GRID, *SMALL, "--output-dir", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Axis      learning_rate=0.004,noise=flip=0.5: 2 cells, 2 to compute" in done.stdout
    return folder


def boards(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "leaderboard.json").read_text())["boards"]
    return found


def finished(folder: Path) -> dict[Path, int]:
    return {path.relative_to(folder): path.stat().st_mtime_ns for path in folder.rglob("record.json")}


def test_every_combination_has_a_board_in_one_folder_and_on_one_page(grid: Path) -> None:
    assert [folder.name for folder in runs_inside(grid)] == OTHERS
    found = [(board["settings"]["learning_rate"], board["settings"].get("noise")) for board in boards(grid)]
    assert found == [(0.001, None), (0.004, None), (0.004, "flip=0.5"), (0.001, "flip=0.5")]
    for board in boards(grid):
        assert {row["label"] for row in board["rows"]} >= {"simpo(beta=1)", "simpo(beta=2)"}
    titles = [board["title"] for board in boards(grid)]
    page = (grid / "leaderboard.html").read_text()
    assert len(set(titles)) == 4
    assert all(title in page for title in titles)
    assert titles[2].endswith(" · noise flip=0.5 · learning rate 0.004")


def test_all_boards_start_from_the_same_weights_and_are_tested_on_the_same_rows(grid: Path) -> None:
    records = [json.loads(path.read_text()) for path in grid.rglob("record.json")]
    assert len(records) == 4 * 4  # two losses and two baseline rows each
    assert len({record["model"]["fingerprint"] for record in records}) == 1
    assert len({record["tokens_fingerprint"].split("-")[1] for record in records}) == 1
    assert len({record["files"]["rows.parquet"] for record in records if record["label"] == "base"}) == 1


def test_a_run_alone_gives_the_same_numbers_as_on_an_axis(grid: Path, harness: Any, tmp_path: Path) -> None:
    one = ("--plugins", "simpo:beta=1|2", "--learning-rate", "4e-3", "--noise", "flip=0.5")
    done = harness("run", *one, *SMALL, "--output-dir", str(tmp_path / "run"))
    assert done.returncode == 0, done.stdout + done.stderr
    (alone,) = boards(tmp_path / "run")
    on_axis = boards(grid)[2]
    assert alone["settings"] == on_axis["settings"]
    assert [(row["label"], row["metrics"]) for row in alone["rows"]] == [
        (row["label"], row["metrics"]) for row in on_axis["rows"]
    ]


def test_the_same_command_again_computes_nothing_and_a_longer_one_only_what_is_missing(
    grid: Path, harness: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(grid, folder)
    before, written = finished(folder), (folder / "leaderboard.json").read_bytes()
    again = harness("run", *GRID, *SMALL, "--output-dir", str(folder))
    assert again.returncode == 0, again.stdout + again.stderr
    assert again.stdout.count("nothing to compute") == 4
    assert (finished(folder), (folder / "leaderboard.json").read_bytes()) == (before, written)
    shutil.rmtree(next((folder / OTHERS[0] / "cells").glob("*simpo*")))
    longer = [*GRID[:3], "1e-3,4e-3,2e-3", *GRID[4:]]
    more = harness("run", *longer, *SMALL, "--output-dir", str(folder))
    assert more.returncode == 0, more.stdout + more.stderr
    assert more.stdout.count("] trained ") == 1 + 2 * 2
    assert before.keys() < finished(folder).keys()
    assert len(boards(folder)) == 6


def test_verify_and_export_know_every_board(grid: Path, harness: Any, tmp_path: Path) -> None:
    for folder in (grid, *runs_inside(grid)):
        checked = harness("verify", str(folder))
        assert checked.returncode == 0, checked.stdout
    harness("export", str(grid), "--format", "csv", "--output", str(tmp_path / "run.csv"))
    with open(tmp_path / "run.csv", newline="") as file:
        lines = list(csv.DictReader(file))
    assert {(line["board"], line["learning_rate"], line["noise"]) for line in lines if line["kind"] == "loss"} == {
        ("1", "0.001", ""), ("2", "0.004", ""), ("3", "0.004", "flip=0.5"), ("4", "0.001", "flip=0.5"),
    }  # fmt: skip
    harness("export", str(grid), "--format", "lm-eval", "--output", str(tmp_path / "lm"))
    assert len(list((tmp_path / "lm").rglob("*.json"))) == 16


def test_runs_with_axes_are_merged_setting_by_setting(grid: Path, harness: Any, tmp_path: Path) -> None:
    other = harness("run", "--plugins", "dpo", *GRID[2:], *SMALL, "--output-dir", str(tmp_path / "other"))
    assert other.returncode == 0, other.stdout + other.stderr
    merged = harness("merge", str(grid), str(tmp_path / "other"), "--into", str(tmp_path / "both"))
    assert merged.returncode == 0, merged.stdout + merged.stderr
    assert [folder.name for folder in runs_inside(tmp_path / "both")] == OTHERS
    for board in boards(tmp_path / "both"):
        assert {row["label"] for row in board["rows"] if row["loss"] in ("simpo", "dpo")} == {
            *("simpo(beta=1)", "simpo(beta=2)", "dpo"),
        }
    assert harness("verify", str(tmp_path / "both")).returncode == 0


def test_several_data_sets_have_a_board_each_and_their_folder_is_called_by_them(tmp_path: Path) -> None:
    asked = {"plugins": "simpo", "limit": 48, "dataset": ("embedded:annotator_noise=0.2|0.6",)}
    found = resolve_all(runs_of(None, asked), tmp_path, False)
    assert [each.folder.name for each in found[1:]] == ["at-dataset=embedded-annotator_noise=0.6-" + HASH]
    assert [each.dataset.name for each in found] == ["embedded:annotator_noise=0.2", "embedded:annotator_noise=0.6"]
    first, other = (each.dataset for each in found)
    assert [pair.score_chosen for pair in first.train] != [pair.score_chosen for pair in other.train]


def test_several_selections_have_a_run_each_on_the_same_data(tmp_path: Path) -> None:
    asked = {"plugins": "simpo", "limit": 48, "select": "none,random,alignment-potential:share=0.5|0.7,weight=2"}
    found = resolve_all(runs_of(None, asked), tmp_path, False)
    chosen = ["random:share=0.5", *(f"alignment-potential:share={share},weight=2" for share in (0.5, 0.7))]
    assert [each.run.decisive().select for each in found] == [None, *chosen]
    assert [str(each.selector) for each in found] == ["None", *chosen]
    assert [each.folder.name[:-7] for each in found[1:]] == [f"at-select={text.replace(':', '-')}" for text in chosen]
    assert len({each.dataset.fingerprint for each in found}) == 1


def test_the_same_settings_twice_are_refused_before_anything_is_trained(harness: Any, tmp_path: Path) -> None:
    for axis in (
        ("--noise", "none,flip=0"),
        ("--learning-rate", "1e-3,0.001"),
        ("--budget", "pairs=16|16"),
        ("--select", "random,random:share=0.50"),
    ):
        done = harness("run", "--plugins", "simpo", *SMALL, *axis, "--output-dir", str(tmp_path / "run"))
        assert done.returncode == 2
        assert "got the same settings twice" in done.stderr
        assert not (tmp_path / "run").exists()
