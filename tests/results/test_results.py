"""`harness.load_run` on the committed board: tidy tables, comparisons and what a notebook shows."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import harness
from harness.api import HarnessError
from harness.results import Results

NANO = Path(__file__).parents[2] / "leaderboards" / "nano"


@pytest.fixture(scope="module")
def nano() -> Results:
    return harness.load_run(NANO)


def test_loading_a_run_loads_no_torch_and_importing_the_harness_next_to_nothing() -> None:
    program = (
        "import json, sys, harness\n"
        "before = [name for name in ('numpy', 'pandas', 'torch') if name in sys.modules]\n"
        "for name in ('torch', 'transformers', 'vllm', 'datasets'): sys.modules[name] = None\n"
        "results = harness.load_run(sys.argv[1])\n"
        "results.frame('boards'), results._repr_html_(), str(results)\n"
        "print(json.dumps([before, len(results.boards)]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(NANO)], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == [[], len(json.loads((NANO / "leaderboard.json").read_text())["boards"])]


def test_the_boards_are_those_of_the_committed_files(nano: Results) -> None:
    boards = json.loads((NANO / "leaderboard.json").read_text())["boards"]
    assert [board.model for board in nano.boards] == [board["model"] for board in boards]
    frame, file = nano.frame("boards"), pd.read_csv(NANO / "leaderboard.csv", keep_default_na=False)
    assert list(frame.columns[1 : len(file.columns) + 1]) == list(file.columns)
    assert len(frame) == len(file)
    named = frame.set_index(["model", "label", "metric"])["value"].sort_index()
    of_file = pd.to_numeric(file.set_index(["model", "label", "metric"])["value"], errors="coerce")
    pd.testing.assert_series_equal(named, of_file.sort_index(), check_dtype=False)


def test_a_line_of_the_boards_says_how_its_loss_was_trained(nano: Results) -> None:
    frame = nano.frame("boards").query("model == 'qwen' and metric == 'pairwise_accuracy'").set_index("label")
    simpo = frame.loc["simpo"]
    assert (simpo["options"], simpo["option.beta"], simpo["option.gamma"]) == ("beta=2.0,gamma=0.5", 2.0, 0.5)
    assert (simpo["learning_rate"], simpo["budget"], simpo["seed"]) == (1e-3, "pairs=384", "0,1,2")
    base = frame.loc["base"]
    assert (base["options"], base["seed"]) == ("", "")
    assert np.isnan(base["learning_rate"])


def test_the_accuracy_of_every_cell_can_be_counted_from_the_rows(nano: Results) -> None:
    rows = nano.frame("rows").query("kind == 'loss' and split == 'test'")
    wins = (rows["reward_chosen"] > rows["reward_rejected"]) + 0.5 * (rows["reward_chosen"] == rows["reward_rejected"])
    counted = wins.groupby([rows["model"], rows["label"], rows["seed"]]).mean()
    records = [json.loads(path.read_text()) for path in NANO.glob("cells/*/record.json")]
    told = {
        (record["model"]["name"], record["label"], record["seed"]): record["metrics"]["pairwise_accuracy"]
        for record in records
        if record["kind"] == "loss"
    }
    assert len(counted) == len(told)
    for cell, accuracy in counted.items():
        assert accuracy == pytest.approx(told[cell])  # type: ignore[index]


def test_every_table_has_what_its_cells_are_before_its_own_columns(nano: Results) -> None:
    first = ["model", "label", "loss", "kind", "options", "learning_rate", "budget", "seed", "trials"]
    files = {"rows": "rows", "responses": "responses", "steps": "train"}
    for name, file in files.items():
        frame = nano.frame(name)  # type: ignore[arg-type]
        assert list(frame.columns[:9]) == first
        assert len(frame) == sum(len(pd.read_parquet(path)) for path in NANO.glob(f"cells/*/{file}.parquet"))
    assert nano.frame("answers").empty  # none were generated
    steps = nano.frame("steps")
    assert {"step_loss", "step_learning_rate"} <= set(steps.columns)
    assert set(steps["loss"]) == {row.loss for row in nano.boards[0].rows if row.kind == "loss"}
    with pytest.raises(HarnessError, match="got frame 'cells', expected one of boards, rows, responses"):
        nano.frame("cells")  # type: ignore[arg-type]


def test_a_comparison_is_the_mean_of_the_paired_differences_both_ways_round(nano: Results) -> None:
    rows = nano.frame("rows").query("split == 'test' and label in ('simpo', 'dpo')")
    rows["win"] = (np.sign(rows["reward_chosen"] - rows["reward_rejected"]) + 1) / 2
    by_hand = rows.groupby(["model", "label"])["win"].mean().unstack("label").eval("simpo - dpo")
    assert by_hand.abs().max() > 0.01  # or the sign would show nothing
    both = nano.compare("simpo", "dpo", "pairwise_accuracy").set_index("model")
    other = nano.compare("dpo", "simpo", "pairwise_accuracy").set_index("model")
    assert list(both["difference"].iloc[:3]) == pytest.approx(list(by_hand))
    assert list(both.index) == ["gemma", "mistral", "qwen", "all models"]
    assert both.loc["all models", "difference"] == pytest.approx(both["difference"].iloc[:3].mean())
    assert list(both["value_a"] - both["value_b"]) == pytest.approx(list(both["difference"]))
    assert (both["low"] < both["difference"]).all()
    assert (both["difference"] < both["high"]).all()
    np.testing.assert_allclose(both["low"], -other["high"], atol=1e-12)
    assert set(both["seeds"]) == {3}


def test_a_baseline_row_stands_for_every_seed_in_a_comparison(nano: Results) -> None:
    line = nano.compare("simpo", "base", "pairwise_accuracy@mean").set_index("model").loc["qwen"]
    (board,) = [board for board in nano.boards if board.model == "qwen"]
    (row,) = [row for row in board.rows if row.label == "simpo"]
    over_base = row.vs_base["pairwise_accuracy@mean"]
    assert line["difference"] == pytest.approx(over_base.value)
    assert [line["low"], line["high"]] == pytest.approx([over_base.low, over_base.high], abs=5e-3)
    with pytest.raises(HarnessError, match="no model and seed in common here, expected two of"):
        nano.compare("simpo", "nobody")
    with pytest.raises(HarnessError, match="got metric accuracy, expected one of"):
        nano.compare("simpo", "dpo", "accuracy")


def test_a_notebook_shows_the_numbers_of_the_markdown_with_names_escaped(nano: Results) -> None:
    shown, markdown = nano._repr_html_(), (NANO / "leaderboard.md").read_text()
    assert shown.count("<table>") == len(nano.boards)
    for board in nano.boards:
        assert board.conclusions[0].replace("'", "&#x27;") in shown
        for row in board.rows:
            accuracy = row.metrics["pairwise_accuracy@learned"]
            if row.status == "ok" and row.kind == "loss":
                text = f"{accuracy.value:.3f} [{accuracy.low:.3f}, {accuracy.high:.3f}]"
                assert f"<td>{text}" in shown
                assert text in markdown
    assert str(nano).splitlines()[0] in markdown.replace("\\", "")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="expected a run folder"):
        harness.load_run(tmp_path)
    with pytest.raises(AttributeError, match="no attribute 'load'"):
        harness.load  # noqa: B018  # type: ignore[attr-defined]


def test_a_script_that_a_launcher_started_several_times_is_told_to_launch_the_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place = {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    for name, value in place.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(HarnessError, match="a launcher started this script 2 times"):
        harness.run("simpo")
