"""Tables of a board as text, against the board that they are of."""

from __future__ import annotations

from dataclasses import replace

from page_examples import estimate, table

from harness.leaderboard.board_grids import chosen_grid, point_grid, short_grid, spend_grid, subset_grids
from harness.leaderboard.decide.row_facts import Choice

BOARD = table(["dpo", "simpo"]).boards[0]
"""dpo at 0.9, simpo at 0.7, each 0.05 to either side; a baseline row, and one that diverged."""


def test_the_short_table_has_ranks_with_ranges_values_with_intervals_and_what_came_to_nothing() -> None:
    grid = short_grid(BOARD, "pairwise_accuracy")
    assert grid.head == (
        *("loss", "rank", "own reward", "learned", "accuracy@mean", "over base, @mean", "ranks by reading"),
    )
    assert grid.rows[1] == (
        *("simpo", "2 [1–2]", *["0.700 [0.650, 0.750]"] * 3, "+0.200 [+0.150, +0.250]", "–/–/1/2/–/–"),
    )
    assert grid.rows[2] == ("base", *["–"] * 6)
    assert len(grid.rows) == 3
    assert "Without a result: wild, diverged: loss became NaN at step 7." in grid.after
    assert not any(sentence.startswith("‡") for sentence in grid.after)
    few = replace(
        BOARD.rows[0], metrics=BOARD.rows[0].metrics | {"pairwise_accuracy": replace(estimate(0.9), few=True)}
    )
    marked = short_grid(replace(BOARD, rows=(few,)), "pairwise_accuracy")
    assert marked.rows[0][2] == "0.900 [0.850, 0.950] ‡"
    assert any(sentence.startswith("‡ fewer than ten prompts") for sentence in marked.after)


def test_the_spend_of_losses_is_told_and_that_of_baseline_rows_is_none() -> None:
    grid = spend_grid(BOARD)
    assert grid is not None
    assert grid.head == ("loss", "tokens", "FLOP", "seconds", "memory")
    assert grid.rows == (
        ("dpo", "80,000", "400 G", "10.0", "700 MiB"),
        ("simpo", "80,000", "400 G", "11.0", "700 MiB"),
    )
    assert spend_grid(replace(BOARD, rows=BOARD.rows[2:])) is None


def test_subsets_points_and_choices_are_told_where_there_are_any() -> None:
    assert subset_grids(BOARD, "pairwise_accuracy") == ()
    assert point_grid(BOARD, "pairwise_accuracy") is None
    assert chosen_grid(BOARD) is None
    choice = Choice(options={"beta": 3.0}, learning_rate=0.002, trial=1, trials=2, dev=0.75)
    row = replace(
        BOARD.rows[0],
        tuned={"qwen": choice},
        subsets={"maths": {"pairwise_accuracy": estimate(0.6)}},
    )
    board = replace(BOARD, rows=(row, BOARD.rows[1]), subset_pairs={"maths": 12})
    chosen, (own, *_) = chosen_grid(board), subset_grids(board, "pairwise_accuracy")
    assert chosen is not None
    assert chosen.rows == (("dpo", "qwen", "beta = 3, learning rate 0.002 (trial 1, 0.750 on dev)"),)
    assert (own.head, own.rows) == (("loss", "maths (12)"), (("dpo", "0.600 [0.550, 0.650]"),))
