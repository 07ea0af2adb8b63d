"""Table -> text for a terminal: narrower than the Markdown, the same content decided by the same table."""

from __future__ import annotations

import io
import math

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.decide.wording import choice
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
        if not math.isnan(board.minimum_detectable_difference):
            console.print(
                Text(f"  Smallest difference this run could have detected: {board.minimum_detectable_difference:.3f}"),
                soft_wrap=True,
            )
    if table.boards:
        console.print()
        for line in table.boards[-1].disclaimers:
            console.print(Text(f"  {line}"), soft_wrap=True)
    return out.getvalue().rstrip()


def _grid(board: Board, ranked_by: str, narrow: bool) -> Grid:
    grid = Grid(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for heading in ("rank", "tier", "loss"):
        grid.add_column(heading, no_wrap=True)
    headings = [ranked_by.replace("pairwise_accuracy", "accuracy"), "accuracy@mean", "over base"]
    for heading in headings + ([] if narrow else ["Spearman", "ranks sum/mean/ratio", "seconds"]):
        grid.add_column(heading, justify="right", no_wrap=True)
    for row in board.rows:
        places = "/".join("-" if place is None else str(place) for place in row.yardstick_ranks.values()) or "-"
        cells: list[str | Text] = [
            _rank(row),
            "-" if row.tier is None else str(row.tier),
            Text(row.label if row.status == "ok" else f"{row.label} ({row.status})"),
            _interval(row.metrics.get(ranked_by)),
            _number(row.metrics.get("pairwise_accuracy@mean")),
            _interval(row.vs_base.get("pairwise_accuracy@mean"), sign=True) if row.label != "base" else "-",
        ]
        if not narrow:
            cells += [
                _number(row.metrics.get("spearman")),
                places if row.kind == "loss" else "-",
                f"{row.spend['seconds']:.0f}" if "seconds" in row.spend else "-",
            ]
        grid.add_row(*cells)
    return grid


def _rank(row: Row) -> str:
    if row.rank is None:
        return "-"
    spread = "" if row.rank_low is None or row.rank_low == row.rank_high else f" ({row.rank_low}-{row.rank_high})"
    return f"{row.rank}{spread}"


def _number(estimate: Estimate | None) -> str:
    return "-" if estimate is None or math.isnan(estimate.value) else f"{estimate.value:.3f}"


def _interval(estimate: Estimate | None, sign: bool = False) -> str:
    if estimate is None or math.isnan(estimate.value):
        return "-"
    form = "{:+.3f} [{:+.3f}, {:+.3f}]" if sign else "{:.3f} [{:.3f}, {:.3f}]"
    return form.format(estimate.value, estimate.low, estimate.high)
