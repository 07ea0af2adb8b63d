"""The option-response picture: which points it has, and that each is drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_cells import add_cell
from page_examples import needed

from harness.leaderboard import table_of
from harness.leaderboard.pictures import files
from harness.leaderboard.pictures.data import picture_data
from harness.leaderboard.pictures.files import svg_of
from harness.leaderboard.pictures.styles import styles
from harness.leaderboard.pictures.vega import pictures

ROWS = (
    ("simpo(beta=1)", "simpo", {"beta": 1.0, "gamma": 0.5, "kind": "a"}, 72),
    ("simpo(beta=2)", "simpo", {"beta": 2.0, "gamma": 0.5, "kind": "a"}, 96),
    ("simpo(beta=2,gamma=1)", "simpo", {"beta": 2.0, "gamma": 1.0, "kind": "b"}, 84),
    ("dpo", "dpo", {"beta": 0.1, "flag": True}, 60),
)
"""Label, loss, options, right ones of 120."""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    for label, loss, options, right in ROWS:
        facts = {"name": loss, "options": options, "tags": ["pairwise", "summed"]}
        add_cell(tmp_path, label, np.where(np.arange(120) < right, 1.0, -1.0), loss=facts)
    return tmp_path


def test_a_point_per_row_and_number_that_varies_within_its_loss(run: Path) -> None:
    table, records = table_of(run)
    (data,) = picture_data(records, table)
    seen = {(point["option"], point["loss"], point["at"], point["others"], point["value"]) for point in data.options}
    assert seen == {
        ("simpo: beta", "simpo(beta=1)", 1.0, "gamma=0.5,kind=a", 0.6),
        ("simpo: beta", "simpo(beta=2)", 2.0, "gamma=0.5,kind=a", 0.8),
        ("simpo: beta", "simpo(beta=2,gamma=1)", 2.0, "gamma=1.0,kind=b", 0.7),
        ("simpo: gamma", "simpo(beta=1)", 0.5, "beta=1.0,kind=a", 0.6),
        ("simpo: gamma", "simpo(beta=2)", 0.5, "beta=2.0,kind=a", 0.8),
        ("simpo: gamma", "simpo(beta=2,gamma=1)", 1.0, "beta=2.0,kind=b", 0.7),
    }
    assert all(point["low"] < point["value"] < point["high"] for point in data.options)  # type: ignore[operator]


def test_every_point_is_drawn_in_the_panel_of_its_option(run: Path) -> None:
    needed(files.why_no_pictures())
    table, records = table_of(run)
    (data,) = picture_data(records, table)
    drawn = {picture.name: picture for picture in pictures(table.boards[0], data, styles(table), table.ranked_by)}
    svg = svg_of(drawn["options"].spec)
    assert svg.count('aria-roledescription="point"') == len(data.options)
    assert "simpo: beta" in svg
    assert "simpo: gamma" in svg


def test_a_board_whose_losses_have_one_setting_each_has_no_such_picture(tmp_path: Path) -> None:
    add_cell(tmp_path, "dpo", np.ones(120))
    table, records = table_of(tmp_path)
    assert picture_data(records, table)[0].options == []
