"""leaderboard.json, .md and .csv."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_records import made_manifest

from harness.api import HarnessError
from harness.leaderboard import write
from harness.run_folder.manifest import write_manifest
from harness.statistics.metrics import METRICS

Add = Callable[..., None]


def test_a_rebuild_gives_the_same_bytes(small_run: Path) -> None:
    names = ("leaderboard.json", "leaderboard.md", "leaderboard.csv")
    write(small_run)
    first = [(small_run / name).read_bytes() for name in names]
    write(small_run)
    assert [(small_run / name).read_bytes() for name in names] == first
    assert all(text.endswith(b"\n") for text in first)


def test_the_json_has_the_promised_shape(small_run: Path) -> None:
    write(small_run)
    text = (small_run / "leaderboard.json").read_text()
    table = json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is not JSON"))
    assert list(table) == ["protocol", "ranked_by", "boards"]
    assert (table["protocol"], table["ranked_by"]) == (1, "pairwise_accuracy")
    (board,) = table["boards"]
    assert (board["model"], board["preset"], board["dataset"]) == ("qwen", "nano", "embedded")
    assert board["title"] == (
        "qwen · each loss by its own rule · nano preset · embedded · shared learning rate, untuned · "
        "budget pairs=512 · seed 0"
    )
    first = board["rows"][0]
    assert {
        key: first[key] for key in ("rank", "rank_low", "rank_high", "tier", "label", "loss", "status", "reason")
    } == {
        "rank": 1,
        "rank_low": 1,
        "rank_high": 1,
        "tier": 1,
        "label": "good",
        "loss": "good",
        "status": "ok",
        "reason": "",
    }
    assert list(first["metrics"]) == list(METRICS)
    assert list(first["metrics"]["pairwise_accuracy"]) == ["value", "low", "high", "n", "few"]
    assert first["metrics"]["pairwise_accuracy"]["value"] == 0.9
    assert first["spend"]["seconds"] == 2.0
    base = next(row for row in board["rows"] if row["loss"] == "base")
    assert base["rank"] is None
    assert base["metrics"]["pairwise_accuracy"] == {"value": None, "low": None, "high": None, "n": 0, "few": False}
    assert list(first["readings"]["learned"]) == ["rank", "rank_low", "rank_high", "tier", "borderline"]
    assert list(board["comparisons"]) == list(first["readings"])
    for pairs in board["comparisons"].values():
        assert {label: list(others) for label, others in pairs.items()} == {"good": ["fair", "bad"], "fair": ["bad"]}
        assert pairs["good"]["bad"] == board["p_values"]["good"]["bad"]
    assert list(first["vs_base"]) == ["pairwise_accuracy@mean", "pairwise_accuracy@sum"]


def test_the_markdown_is_a_table_with_names_escaped_and_failures_beneath(small_run: Path) -> None:
    write(small_run)
    text = (small_run / "leaderboard.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in lines} == {13}
    assert "; rank 1 [1–1] |" in lines[2]  # by what was learned, beside the own reward that ranks
    assert lines[2].startswith("| 1 [1–1] | 1 | good | 0.900 [")
    assert "- rank 4, wild\\|loss, diverged: loss became NaN at step 7" in text
    opening = text[text.index("## qwen") :].splitlines()
    assert opening[2].startswith(
        "**good wins by each loss's own reward on this one seed: it is better than the two others."
    )
    assert "One seed: ranks and tiers are of these trained models, not of the losses." in opening[4]
    assert opening[6].startswith(
        "<details><summary>To know (two notes): implicit rewards, not generated text; models too "
    )
    assert text.index("</details>") < text.index("| rank |")
    assert "implicit-reward ranking accuracy, not generation quality" in text
    assert text.index("## How to read this") > text.index("longer-wins")


def test_a_name_cannot_break_out_of_its_cell(tmp_path: Path, add_cell: Add) -> None:
    add_cell(tmp_path, "x(a=1|2)\n<b>`*_", np.ones(60), key="evil", prompts=30, seed=0)
    write(tmp_path)
    line = next(line for line in (tmp_path / "leaderboard.md").read_text().splitlines() if line.startswith("| 1 "))
    assert "x(a=1\\|2) \\<b\\>\\`\\*\\_ |" in line


def test_the_csv_has_a_line_a_board_system_and_metric(small_run: Path) -> None:
    table = write(small_run)
    lines = list(csv.DictReader(io.StringIO((small_run / "leaderboard.csv").read_text())))
    assert len(lines) == len(table.boards[0].rows) * len(METRICS)
    good = next(line for line in lines if line["label"] == "good" and line["metric"] == "pairwise_accuracy")
    assert (good["rank"], good["value"], good["n"]) == ("1", "0.9", "120")
    base = next(line for line in lines if line["label"] == "base" and line["metric"] == "pairwise_accuracy")
    assert (base["rank"], base["value"], base["n"]) == ("", "", "0")


def test_the_csv_ends_with_how_each_row_was_trained(tmp_path: Path, add_cell: Add) -> None:
    board = {"learning_rate": 0.001, "budget": "pairs=64"}
    for seed in (0, 1):
        loss = {"name": "good", "options": {"beta": 2.0, "cap": None}}
        add_cell(tmp_path, "good", np.ones(60), seed=seed, loss=loss, board=board)
    add_cell(tmp_path, "base", np.ones(60), board=board)
    write(tmp_path)
    text = (tmp_path / "leaderboard.csv").read_text()
    assert text.splitlines()[0].endswith("n,trials,options,learning_rate,budget,seed")
    lines = {line["label"]: line for line in csv.DictReader(io.StringIO(text))}
    told = [[lines[label][name] for name in ("options", "learning_rate", "budget", "seed")] for label in lines]
    assert told == [["beta=2.0,cap=none", "0.001", "pairs=64", "0,1"], ["", "", "pairs=64", ""]]


def test_the_manifest_orders_the_models_and_names_the_metric(tmp_path: Path, add_cell: Add) -> None:
    for model in ("gemma", "qwen"):
        for k in range(2):
            add_cell(tmp_path, f"loss{k}", np.random.default_rng(k).normal(size=60), model=model)
    write_manifest(tmp_path, made_manifest({"models": ["qwen", "gemma"], "run": {"ranked_by": "spearman"}}))
    table = write(tmp_path)
    assert (table.ranked_by, [board.model for board in table.boards]) == ("spearman", ["qwen", "gemma", "all"])
    assert write(tmp_path, "kendall").ranked_by == "kendall"


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="expected a run folder"):
        write(tmp_path)


def test_leaderboards_are_rebuilt_where_torch_is_not_installed(small_run: Path) -> None:
    program = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'vllm', 'datasets'): sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from harness.leaderboard import write\n"
        "write(Path(sys.argv[1]))\n"
    )
    subprocess.run([sys.executable, "-c", program, str(small_run)], check=True)
    assert (small_run / "leaderboard.json").exists()
