"""Table -> leaderboard.md, for people."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from html import escape

from harness.leaderboard.answer_grids import answer_grids
from harness.leaderboard.axis_grids import axis_grids
from harness.leaderboard.board_grids import COMMON, point_grid, subset_grid
from harness.leaderboard.decide.estimates import read_by
from harness.leaderboard.decide.standings import Standing
from harness.leaderboard.decide.subsets import shown
from harness.leaderboard.decide.wording import choice, points_in_words, subsets_in_words
from harness.leaderboard.formatting import (
    FEW,
    MISSING,
    heading,
    markdown_table,
    markdown_text,
    mebibytes,
    number,
    number_with_interval,
    rank_with_range,
    ranks,
    smallest_difference,
    things_to_know,
)
from harness.leaderboard.grid import Grid
from harness.leaderboard.hints import HOW_TO_READ, Hint, marked_up
from harness.leaderboard.table import BESIDE, BY, Board, Row, Table
from harness.statistics.metrics import METRICS

BALANCED = "pairwise_accuracy_lenbalanced"
YARDSTICKS = (COMMON, "pairwise_accuracy@sum")
"""The common readings that `base` has a value of its own by; relative to itself it has 0.5."""


def render(table: Table) -> str:
    """Return the table as Markdown."""
    ranked_by = f"{markdown_text(table.ranked_by)}: {METRICS[table.ranked_by].summary}"
    hints = "\n".join(f"- {_hint(hint)}" for hint in HOW_TO_READ)
    parts = [
        f"# Leaderboard\n\nRanked by {ranked_by}. Protocol {table.protocol}.\n",
        *(_board(board, table.ranked_by) for board in sorted(table.boards, key=lambda board: board.model != "all")),
        *("\n".join([*grid_lines(grid), ""]) for grid in axis_grids(table)),
        f"## How to read this\n\n{hints}\n",
    ]
    return "\n".join(parts)


def _board(board: Board, ranked_by: str) -> str:
    columns = _columns(board, ranked_by)
    rows = [[cell(row) for cell in columns.values()] for row in board.rows if row.status == "ok"]
    detectable = smallest_difference(
        board.minimum_detectable_difference, board.minimum_detectable_planned, board.pairs_compared
    )
    lines = [
        f"## {markdown_text(board.title)}",
        "",
        *_found(board),
        *_to_know(board),
        *markdown_table(list(columns), rows),
        "",
        f"{board.n_pairs} pairs, {board.n_prompts} prompts.{f' {detectable}.' if detectable else ''}",
    ]
    for metric in shown(ranked_by) if board.subset_pairs else ():
        lines += ["", f"{markdown_text(subsets_in_words(metric))}:", "", *_rows_of(subset_grid(board, metric))]
    if along := point_grid(board, ranked_by):
        lines += ["", f"{markdown_text(points_in_words(ranked_by))}:", "", *_rows_of(along)]
    for grid in answer_grids(board):
        lines += ["", *grid_lines(grid)]
    tuned = [row for row in board.rows if row.tuned] if len(board.models) == 1 else []
    if tuned:
        lines += ["", "Chosen on the development split:", ""]
        lines += [f"- {markdown_text(f'{row.label}: {choice(row.tuned[board.model])}')}" for row in tuned]
    without_result = [row for row in board.rows if row.status != "ok"]
    if without_result:
        lines += ["", "Came to nothing:", ""]
        lines += [
            f"- {markdown_text(f'{_place(row)}, {row.label}, {row.status}: {row.reason}')}" for row in without_result
        ]
    return "\n".join(lines) + "\n"


def _found(board: Board) -> list[str]:
    """Return the lines of what the board found: the headline, and the rest of it in one paragraph."""
    headline, rest = board.conclusions[:1], board.conclusions[1:]
    lines = [f"**{markdown_text(sentence)}**" for sentence in headline]
    lines += [markdown_text(" ".join(rest))] if rest else []
    return [line for paragraph in lines for line in (paragraph, "")]


def _to_know(board: Board) -> list[str]:
    """Return the lines of the disclaimers, folded into one that says how many there are and what weighs most."""
    if not board.disclaimers:
        return []
    line = escape(things_to_know(len(board.disclaimers), board.weightiest))
    items = [f"- {markdown_text(sentence)}" for sentence in board.disclaimers]
    return [f"<details><summary>{line}</summary>", "", *items, "", "</details>", ""]


def _rows_of(grid: Grid) -> list[str]:
    """Return the lines of a table of numbers alone, without its title."""
    rows = [[markdown_text(row[0]), *row[1:]] for row in grid.rows]
    return markdown_table([*map(markdown_text, grid.head)], rows)


def grid_lines(grid: Grid) -> list[str]:
    """Return the lines of a table under a heading of its own, with what is said before and after it."""
    rows = [[markdown_text(cell) for cell in row] for row in grid.rows]
    lines = [f"### {markdown_text(grid.title)}", ""]
    for sentence in grid.before:
        lines += [markdown_text(sentence), ""]
    lines += markdown_table([markdown_text(cell) for cell in grid.head], rows)
    for sentence in grid.after:
        lines += ["", markdown_text(sentence)]
    return lines


def _columns(board: Board, ranked_by: str) -> dict[str, Callable[[Row], str]]:
    """Return the columns of a board's table in order: what each cell says of a row, by heading."""
    first = {heading(ranked_by): partial(_metric, ranked_by)}
    readings = {read_by(ranked_by, reading): reading for reading in BY}
    first |= {
        heading(metric): partial(_with_rank, metric, readings.get(metric, ""))
        for metric in BESIDE
        if metric != ranked_by
    }
    balanced = any(math.isfinite(row.metrics[BALANCED].value) for row in board.rows)
    return {
        "rank": lambda row: rank_with_range(row.rank, row.rank_low, row.rank_high, row.borderline),
        "tier": lambda row: number(row.tier, "d"),
        "loss": lambda row: markdown_text(row.label),
        **first,
        **{heading(metric): partial(_metric, metric) for metric in YARDSTICKS if metric != ranked_by},
        "over base, @mean": _over_base,
        **({"length-balanced": partial(_metric, BALANCED)} if balanced else {}),
        "Spearman": lambda row: _metric("spearman", row) + (" †" if row.reference_based else ""),
        "within prompt": partial(_metric, "spearman_within_prompt"),
        f"ranks by {'/'.join(BY)}": _ranks,
        "memory": lambda row: mebibytes(row.spend.get("peak_memory_bytes")),
    }


def _metric(metric: str, row: Row) -> str:
    return number_with_interval(row.metrics[metric]) + FEW * row.metrics[metric].few


def _over_base(row: Row) -> str:
    return MISSING if row.loss == "base" else number_with_interval(row.vs_base[COMMON], "+.3f")


def _with_rank(metric: str, reading: str, row: Row) -> str:
    """Return a metric, with the rank and the range of ranks under the reading that it is, if it is one."""
    of = row.readings.get(reading, Standing())
    place = "" if of.rank is None else f"; rank {rank_with_range(of.rank, of.rank_low, of.rank_high, of.borderline)}"
    return _metric(metric, row) + place


def _ranks(row: Row) -> str:
    return ranks([standing.rank for standing in row.readings.values()]) if row.kind == "loss" else MISSING


def _place(row: Row) -> str:
    return "unranked" if row.rank is None else f"rank {row.rank}"


def _hint(hint: Hint) -> str:
    return marked_up(
        hint, term=lambda text: f"**{markdown_text(text)}**", code=lambda text: f"`{text}`", plain=markdown_text
    )
