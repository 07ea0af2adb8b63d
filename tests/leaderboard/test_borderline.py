"""No rank range of the committed board is the luck of its resamples, and a call too close to make is marked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.leaderboard import json as json_table
from harness.leaderboard import markdown, terminal
from harness.leaderboard.decide.comparable import group_of
from harness.leaderboard.decide.estimates import Resampling, comparison, samples
from harness.leaderboard.formatting import smallest_difference
from harness.leaderboard.page import board_table
from harness.leaderboard.pictures.data import _differences
from harness.leaderboard.power import power_page
from harness.leaderboard.table import Board, Table, build
from harness.run_folder.store import read_records
from harness.statistics import pairwise_tests
from harness.statistics.pairwise_tests import rank_ranges

NANO = Path(__file__).parents[2] / "leaderboards" / "nano"


def test_twenty_bootstrap_seeds_give_the_committed_boards_the_same_rank_ranges_or_mark_them() -> None:
    group = group_of(read_records(NANO), "pairwise_accuracy", Resampling(resamples=0, seed=0), ())
    values = {group.ranked_by: group.evidence.values[group.ranked_by]}
    ranges: dict[tuple[tuple[str, ...], str], set[tuple[int, int]]] = {}
    marked = 0
    for seed in range(20):
        resampling = Resampling(resamples=10_000, seed=seed)
        for models in [*((model,) for model in group.models), group.models]:
            sample = samples(values, group.labels, models, group.seeds, resampling)[group.ranked_by]
            tests = comparison(sample, resampling)
            for k, place in enumerate(zip(*rank_ranges(tests.better), strict=True)):
                if tests.borderline[k].any():
                    marked += 1
                else:
                    ranges.setdefault((models, sample.labels[k]), set()).add(place)
    assert {key: found for key, found in ranges.items() if len(found) > 1} == {}
    assert marked <= 20 * 2  # two losses at most: a board on which everything is marked says nothing


@pytest.fixture
def close_board(small_run: Path, monkeypatch: pytest.MonkeyPatch) -> Board:
    """Return the board of a small run on which every test is called too close."""
    monkeypatch.setattr(pairwise_tests, "CLEAR", 1e9)
    monkeypatch.setattr(pairwise_tests, "MOST_RESAMPLES", 1000)
    return build(read_records(small_run), resamples=500).boards[0]


def test_a_borderline_pair_widens_the_range_of_both_and_is_named(close_board: Board) -> None:
    assert close_board.borderline == (("good", "fair"), ("good", "bad"), ("fair", "bad"))
    assert [(row.rank_low, row.rank_high, row.borderline) for row in close_board.rows[:3]] == [(1, 3, True)] * 3
    assert not any(row.borderline for row in close_board.rows[3:])
    assert close_board.disclaimers[-1] == (
        "Borderline: good and fair; good and bad; fair and bad lie within resampling error of 5 %; "
        "their rank ranges hold either way."
    )


def test_every_rendering_marks_a_borderline_range(close_board: Board) -> None:
    table = Table(protocol=1, ranked_by="pairwise_accuracy", boards=(close_board, close_board))
    assert "| 1 [1–3]~ | 1 | good |" in markdown.render(table)
    assert '<span class="range">[1–3]~</span>' in board_table.table(close_board, "pairwise_accuracy", "one")
    text = terminal.render(table)
    assert "1 (1-3)~" in text
    assert text.count("Borderline: good and fair") == 2  # under each board, not once more under the last
    (first, *_), *_ = (board["rows"] for board in json.loads(json_table.render(table))["boards"])
    assert first["borderline"] is True
    assert "significant" in (pair := _differences(close_board, close_board.rows[:3], "pairwise_accuracy")[0])
    assert not pair["significant"]


def test_the_smallest_difference_of_the_board_is_above_that_of_a_planned_comparison(small_run: Path) -> None:
    """Three comparisons: at Bonferroni's bar a difference must be 1.14 times as large; stepping max-|t|, less."""
    board = build(read_records(small_run), resamples=2000).boards[0]
    ratio = board.minimum_detectable_difference / board.minimum_detectable_planned
    assert 1.02 < ratio < 1.16
    said = json.loads(json_table.render(Table(protocol=1, ranked_by="pairwise_accuracy", boards=(board,))))["boards"][0]
    assert said["minimum_detectable_difference"] > said["minimum_detectable_planned"]
    assert "among its 3 comparisons, " in markdown.render(
        Table(protocol=1, ranked_by="pairwise_accuracy", boards=(board,))
    )


def test_power_says_what_the_board_says(small_run: Path) -> None:
    board = build(read_records(small_run)).boards[0]
    said = smallest_difference(board.minimum_detectable_difference, board.minimum_detectable_planned, 3)
    assert said in power_page(small_run, 0.05)
