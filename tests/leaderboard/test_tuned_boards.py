"""Boards of equal tuning: apart from the default ones, with what was chosen."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.api.errors import HarnessError
from harness.leaderboard import table_of, write
from harness.leaderboard.table import Board, Row

SETTINGS = {"protocol": 1, "dataset": "embedded", "preset": "nano", "budget": "pairs=512", "evaluated_on": "test"}
DEFAULT = {**SETTINGS, "learning_rate": 0.001}
TUNED = {
    **SETTINGS,
    "trials": 4,
    "trial_learning_rates": [0.00025, 0.004],
    "tuned_by": "pairwise_accuracy",
    "tuning_seed": 0,
}


@pytest.fixture
def run(tmp_path: Path, add_cell: Callable[..., None]) -> Path:
    """Two models and three seeds of `good` and `fair`; tuning helps each, by more on another seed."""
    rng = np.random.default_rng(0)
    for model, beta in (("qwen", 2.5), ("gemma", 4.0)):
        for folder, board in ((tmp_path, DEFAULT), (tmp_path / "tuned-4", TUNED)):
            for label in ("base", "longer-wins"):
                add_cell(folder, label, rng.normal(0, 1, 120), model=model, board=board)
            for label, mean in (("good", 1.0), ("fair", 0.5)):
                for seed in (0, 1, 2):
                    better = 0.3 * (board is TUNED) + 0.2 * seed
                    changed: dict[str, Any] = {"board": board}
                    if board is TUNED:
                        changed["learning_rate"] = 0.002
                        changed["loss"] = {"name": label, "options": {"beta": beta, "mode": "x"}}
                        changed["tuning"] = {
                            "system": label, "number": 3, "trials": 4, "dev": 0.75, "options": {"beta": beta},
                        }  # fmt: skip
                    add_cell(folder, label, rng.normal(mean + better, 1, 120), model=model, seed=seed, **changed)
    manifest = {"models": ["qwen", "gemma"], "cells": []}
    (tmp_path / "tuned-4" / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "manifest.json").write_text(json.dumps(manifest | {"cells": [["late", "qwen", 0]]}))
    return tmp_path


def row(board: Board, label: str) -> Row:
    return next(each for each in board.rows if each.label == label)


def test_default_boards_come_first_and_tuned_ones_after_them(run: Path) -> None:
    boards = table_of(run)[0].boards
    assert [(board.model, board.settings.trials is not None) for board in boards] == [
        ("qwen", False), ("gemma", False), ("all", False), ("qwen", True), ("gemma", True), ("all", True),
    ]  # fmt: skip
    assert all("shared learning rate, untuned" in board.title for board in boards[:3])
    assert all("equal tuning: 4 trials per loss, chosen on dev" in board.title for board in boards[3:])
    assert any("over its declared space" in sentence for sentence in boards[3].disclaimers)
    assert not any("Equal tuning" in sentence for sentence in boards[0].disclaimers)


def test_a_system_asked_for_without_tuning_is_missing_on_default_boards_alone(run: Path) -> None:
    boards = table_of(run)[0].boards
    assert row(boards[0], "late").status == "missing"
    assert "late" not in {each.label for each in boards[3].rows}


def test_a_row_has_the_choice_of_each_model_and_the_options_that_all_share(run: Path) -> None:
    boards = table_of(run)[0].boards
    both = row(boards[5], "good")
    assert {model: choice.options for model, choice in both.tuned.items()} == {
        "qwen": {"beta": 2.5}, "gemma": {"beta": 4.0},
    }  # fmt: skip
    assert both.options == {"mode": "x"}
    assert row(boards[3], "good").options == {"beta": 2.5, "mode": "x"}
    assert row(boards[0], "good").tuned == {}


def test_intervals_of_tuned_boards_are_over_seeds_and_prompts_too(run: Path) -> None:
    board = table_of(run)[0].boards[3]
    accuracy = row(board, "good").metrics["pairwise_accuracy"]
    assert board.seeds == (0, 1, 2)
    assert accuracy.low < accuracy.value < accuracy.high


def test_every_render_says_what_was_chosen_or_that_it_was(run: Path) -> None:
    write(run)
    text = (run / "leaderboard.md").read_text()
    assert "- good: beta = 4, learning rate 0.002 (trial 3, 0.750 on dev)" in text
    assert (
        text.count("Chosen on the development split") == 2
    )  # once per model; the board over both has them in the JSON
    rows = json.loads((run / "leaderboard.json").read_text())["boards"][5]["rows"]
    assert rows[0]["tuned"]["gemma"]["learning_rate"] == 0.002
    lines = list(csv.DictReader(io.StringIO((run / "leaderboard.csv").read_text())))
    assert {line["trials"] for line in lines} == {"0", "4"}
    rates = {
        (line["model"], line["learning_rate"]) for line in lines if (line["trials"], line["label"]) == ("4", "good")
    }
    assert ("gemma", "0.002") in rates
    places = [(line["model"], line["trials"], line["label"], line["metric"]) for line in lines]
    assert len(places) == len(set(places))
    assert "equal tuning: 4 trials per loss" in (run / "leaderboard.html").read_text()


def test_the_page_says_beside_each_tuned_row_what_was_chosen(run: Path) -> None:
    write(run)
    page = (run / "leaderboard.html").read_text()
    found = re.findall(r'id="board-(\d)".*?(<table>.*?</table>)', page, flags=re.DOTALL)
    tables = {int(number): table for number, table in found}
    assert [k for k in sorted(tables) if "chosen on dev" in tables[k]] == [3, 4, 5]
    rows = {
        name: re.search(rf'<tr [^>]*data-label="{name}".*?</tr>', tables[3], flags=re.DOTALL)
        for name in ("good", "base")
    }
    assert rows["good"] is not None
    assert rows["base"] is not None
    assert rows["good"][0].endswith(
        '<td class="words" data-v="0.002">beta = 2.5, learning rate 0.002 (trial 3, 0.750 on dev)</td></tr>'
    )
    assert rows["base"][0].endswith('<td data-v="">–</td></tr>')
    over_all = "gemma: beta = 4, learning rate 0.002 (trial 3, 0.750 on dev)<br>qwen: beta = 2.5, learning rate 0.002"
    assert over_all in tables[5]


def test_names_of_options_are_escaped_on_the_page(run: Path) -> None:
    for path in (run / "tuned-4").glob("cells/*--good--*/record.json"):
        fields = json.loads(path.read_text())
        fields["tuning"]["options"] = {"<b>": 1.0}
        path.write_text(json.dumps(fields))
    write(run)
    page = (run / "leaderboard.html").read_text()
    assert "&lt;b&gt; = 1, learning rate" in page
    assert "<b>" not in page


def test_the_json_has_the_difference_to_the_leader_and_the_tests_behind_the_ranks(run: Path) -> None:
    write(run)
    table = table_of(run)[0]
    for content, board in zip(json.loads((run / "leaderboard.json").read_text())["boards"], table.boards, strict=True):
        first, second = content["rows"][:2]
        assert first["vs_leader"] == {"value": 0.0, "low": 0.0, "high": 0.0}
        leading = first["metrics"]["pairwise_accuracy"]["value"]
        apart = second["metrics"]["pairwise_accuracy"]["value"] - leading
        assert second["vs_leader"]["value"] == pytest.approx(apart)
        assert second["vs_leader"]["low"] < apart < second["vs_leader"]["high"]
        base = next(each for each in content["rows"] if each["loss"] == "base")
        assert base["vs_leader"] == {"value": None, "low": None, "high": None}  # it has no reward of its own
        p = content["p_values"]
        assert p["good"]["fair"] == p["fair"]["good"] == pytest.approx(board.p_values["good"]["fair"])
        assert p["good"]["good"] == 1
        assert (second["tier"] == 2) == (p["good"]["fair"] <= 0.05)


def test_tuned_records_of_another_protocol_are_refused(run: Path) -> None:
    for path in run.glob("tuned-4/cells/*/record.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"protocol": 2}))
    with pytest.raises(HarnessError, match="protocol differs"):
        table_of(run)
