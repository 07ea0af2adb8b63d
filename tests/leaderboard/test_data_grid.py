"""What each loss reaches on each data set of a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from made_cells import BOARD, add_cell

from harness.leaderboard import renders, table_of
from harness.leaderboard.data_grid import data_grids
from harness.leaderboard.formatting import number_with_interval

RIGHT = {("dpo", "embedded"): 60, ("dpo", "other"): 90, ("ipo", "embedded"): 72}
"""Of 120 test pairs; ipo diverged on the other data."""


def made(folder: Path) -> Path:
    for data in ("embedded", "other"):
        run = folder if data == "embedded" else folder / "at-dataset=other"
        board = {**BOARD, "dataset": data}
        facts = {"name": data, "fingerprint": data, "test_pairs": 120}
        for label in ("dpo", "ipo"):
            right = RIGHT.get((label, data))
            won = None if right is None else np.where(np.arange(120) < right, 1.0, -1.0)
            lost = {"status": "diverged", "reason": "NaN"} if won is None else {}
            add_cell(run, label, won, board=board, dataset=facts, **lost)
        (run / "manifest.json").write_text(json.dumps({"models": ["qwen"], "cells": []}))
    return folder


def test_a_run_of_several_data_sets_has_a_table_with_the_numbers_of_their_boards(tmp_path: Path) -> None:
    table, _ = table_of(made(tmp_path))
    (grid,) = data_grids(table)
    on_boards = {
        (row.label, board.dataset): number_with_interval(row.metrics[table.ranked_by])
        for board in table.boards
        for row in board.rows
    }
    assert grid.head == ("loss", "embedded", "other")
    assert grid.rows == (
        ("ipo", on_boards["ipo", "embedded"], "–"),
        ("dpo", on_boards["dpo", "embedded"], on_boards["dpo", "other"]),
    )
    assert on_boards["dpo", "other"].startswith("0.750 [")
    assert "by data set" in renders(table)["leaderboard.md"]


def test_a_run_of_one_data_set_has_no_such_table(tmp_path: Path) -> None:
    made(tmp_path)
    table, _ = table_of(tmp_path / "at-dataset=other")
    assert data_grids(table) == ()
