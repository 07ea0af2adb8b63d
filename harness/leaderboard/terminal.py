"""Table -> text for a terminal: narrower than the Markdown, the same content decided by the same table."""

from __future__ import annotations

import io

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.decide.wording import choice
from harness.leaderboard.formatting import (
    MISSING_ON_TERMINAL,
    number,
    number_with_interval,
    ranks,
    short_name,
    smallest_difference,
)
from harness.leaderboard.table import Board, Row, Table

NARROW = 118
"""On a narrower terminal the columns that matter least are left to the Markdown; no number is ever cut."""


def render(table: Table, width: int = 120) -> str:
    """Return every board as plain text."""
    out = io.StringIO()
    console = Console(file=out, width=1000, color_system=None, force_terminal=False)
    for board in table.boards:
        console.print()
        console.print(Text(board.title), soft_wrap=True)
        console.print(
            Text(f"{board.n_pairs} pairs of {board.n_prompts} prompts, ranked by {table.ranked_by}, 95 % intervals"),
            soft_wrap=True,
        )
        console.print(_grid(board, table.ranked_by, width < NARROW))
        for row in board.rows:
            if row.status != "ok":
                console.print(Text(f"  {row.label}: {row.status}: {row.reason}"), soft_wrap=True)
        for row in board.rows:
            if len(board.models) == 1 and row.tuned:
                console.print(Text(f"  {row.label}: {choice(row.tuned[board.model])}"), soft_wrap=True)
        if detectable := smallest_difference(board.minimum_detectable_difference):
            console.print(Text(f"  {detectable}"), soft_wrap=True)
    if table.boards:
        console.print()
        for line in table.boards[-1].disclaimers:
            console.print(Text(f"  {line}"), soft_wrap=True)
    return out.getvalue().rstrip()


def _grid(board: Board, ranked_by: str, narrow: bool) -> Grid:
    grid = Grid(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("rank", "tier", "loss"):
        grid.add_column(heading, no_wrap=True)
    headings = [short_name(ranked_by), "accuracy@mean", "over base"]
    for heading in headings + ([] if narrow else ["Spearman", "ranks sum/mean/ratio", "seconds"]):
        grid.add_column(heading, justify="right", no_wrap=True)
    for row in board.rows:
        places = ranks(list(row.yardstick_ranks.values()), MISSING_ON_TERMINAL) or MISSING_ON_TERMINAL
        cells: list[str | Text] = [
            _rank(row),
            _number(row.tier, "d"),
            Text(row.label if row.status == "ok" else f"{row.label} ({row.status})"),
            _interval(row.metrics.get(ranked_by)),
            _number(row.metrics.get("pairwise_accuracy@mean", Estimate()).value),
            _interval(row.vs_base.get("pairwise_accuracy@mean"), "+.3f")
            if row.label != "base"
            else MISSING_ON_TERMINAL,
        ]
        if not narrow:
            cells += [
                _number(row.metrics.get("spearman", Estimate()).value),
                places if row.kind == "loss" else MISSING_ON_TERMINAL,
                _number(row.spend.get("seconds"), ".0f"),
            ]
        grid.add_row(*cells)
    return grid


def _rank(row: Row) -> str:
    if row.rank is None:
        return MISSING_ON_TERMINAL
    spread = "" if row.rank_low is None or row.rank_low == row.rank_high else f" ({row.rank_low}-{row.rank_high})"
    return f"{row.rank}{spread}"


def _number(value: float | None, form: str = ".3f") -> str:
    return number(value, form, MISSING_ON_TERMINAL)


def _interval(estimate: Estimate | None, form: str = ".3f") -> str:
    return number_with_interval(estimate or Estimate(), form, MISSING_ON_TERMINAL)
