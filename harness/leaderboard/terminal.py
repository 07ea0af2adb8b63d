"""Table -> text for a terminal: narrower than the Markdown, the same content decided by the same table."""

from __future__ import annotations

import io

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from harness.leaderboard.answer_grids import short_grid
from harness.leaderboard.decide import wording
from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.formatting import (
    BORDERLINE,
    FEW,
    FEW_ON_TERMINAL,
    MISSING,
    MISSING_ON_TERMINAL,
    heading,
    number,
    number_with_interval,
    ranks,
    smallest_difference,
)
from harness.leaderboard.grid import Grid as TextGrid
from harness.leaderboard.hints import FEW_MEANS, IN_SHORT
from harness.leaderboard.table import BESIDE, BY, Board, Row, Table

COMMON = "pairwise_accuracy@mean"
"""Reads every system by one reward, the untrained base too."""
RANKS = "ranks by each"
"""The heading over the ranks under every reading, which a line below the table names."""
NARROW = 118
"""On a narrower terminal the columns that matter least are left to the Markdown; no number is ever cut."""


def render(table: Table, width: int = 120) -> str:
    """Return every board as plain text."""
    out = io.StringIO()
    console = Console(file=out, width=1000, color_system=None, force_terminal=False)
    for board in table.boards:
        _print(console, "", board.title, *board.conclusions, f"To know: {'; '.join(board.weightiest)}.")
        _print(console, f"{_counts(board)}, ranked by {table.ranked_by}, 95 % intervals")
        console.print(_grid(board, table.ranked_by, width < NARROW))
        if answers := short_grid(board):
            _print(console, "", *answers.before)
            console.print(_answers(answers))
        _print(console, *(f"  {line}" for line in _remarks(board, table.ranked_by, width < NARROW)))
    if table.boards:
        elsewhere = (wording.BORDERLINE, "Seconds ")  # under its board; of a column that is not here
        last = table.boards[-1]
        common = [one for one in last.disclaimers if not one.startswith(elsewhere) and one not in _brought(last)]
        _print(console, "", *(f"  {sentence}" for sentence in (*IN_SHORT, *common)))
    return out.getvalue().rstrip()


def _print(console: Console, *lines: str) -> None:
    for line in lines:
        console.print(Text(line), soft_wrap=True)


def _brought(board: Board) -> list[str]:
    """Return what a board says of its rows that were trained elsewhere."""
    named = tuple(f"{row.label} is " for row in board.rows if row.kind == "elsewhere")
    return [sentence for sentence in board.disclaimers if named and sentence.startswith(named)]


def _counts(board: Board) -> str:
    return f"{board.n_pairs} pairs of {board.n_prompts} prompts"


def _remarks(board: Board, ranked_by: str, narrow: bool) -> list[str]:
    """Return what stands under a board's table: systems without a result, what tuning chose, what could be detected."""
    lines = [f"{row.label}: {row.status}: {row.reason}" for row in board.rows if row.status != "ok"]
    if len(board.models) == 1:
        lines += [f"{row.label}: {wording.choice(row.tuned[board.model])}" for row in board.rows if row.tuned]
    if not narrow:
        lines.append(f"{RANKS}: rank if read by {'/'.join(BY)}")
    if any(row.metrics[metric].few for row in board.rows for metric in (*BESIDE, ranked_by)):
        lines.append(f"{FEW_ON_TERMINAL.strip()}: {FEW_MEANS}")
    lines += [sentence for sentence in board.disclaimers if sentence.startswith(wording.BORDERLINE)]
    lines += _brought(board)
    detectable = smallest_difference(
        board.minimum_detectable_difference, board.minimum_detectable_planned, board.pairs_compared
    )
    return [*lines, detectable] if detectable else lines


def _grid(board: Board, ranked_by: str, narrow: bool) -> Grid:
    grid = Grid(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for title in ("rank", "tier", "loss"):
        grid.add_column(title, no_wrap=True)
    shown = list(dict.fromkeys([ranked_by, *BESIDE]))
    headings = [heading(metric) for metric in shown] + ([] if narrow else ["over base, @mean", RANKS])
    for title in headings:
        grid.add_column(title, justify="right", no_wrap=True)
    for row in board.rows:
        cells: list[str | Text] = [
            _rank(row),
            _number(row.tier, "d"),
            Text(row.label if row.status == "ok" else f"{row.label} ({row.status})"),
            *(_interval(row.metrics.get(metric, Estimate())) for metric in shown),
        ]
        if not narrow:
            places = ranks([standing.rank for standing in row.readings.values()], MISSING_ON_TERMINAL)
            cells += [
                MISSING_ON_TERMINAL if row.label == "base" else _interval(row.vs_base.get(COMMON, Estimate()), "+.3f"),
                places if row.kind == "loss" and places else MISSING_ON_TERMINAL,
            ]
        grid.add_row(*cells)
    return grid


def _answers(answers: TextGrid) -> Grid:
    grid = Grid(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for k, title in enumerate(answers.head):
        grid.add_column(Text(title), justify="right" if k else "left", no_wrap=True)
    for row in answers.rows:
        grid.add_row(*(Text(_plain(cell)) for cell in row))
    return grid


def _plain(text: str) -> str:
    """Return a cell with the signs that any log file takes."""
    return text.replace(MISSING, MISSING_ON_TERMINAL).replace(FEW, FEW_ON_TERMINAL)


def _rank(row: Row) -> str:
    if row.rank is None:
        return MISSING_ON_TERMINAL
    one_place = row.rank_low is None or row.rank_low == row.rank_high
    return f"{row.rank}" if one_place else f"{row.rank} ({row.rank_low}-{row.rank_high}){BORDERLINE * row.borderline}"


def _number(value: float | None, form: str = ".3f") -> str:
    return number(value, form, MISSING_ON_TERMINAL)


def _interval(estimate: Estimate, form: str = ".3f") -> str:
    return number_with_interval(estimate, form, MISSING_ON_TERMINAL) + FEW_ON_TERMINAL * estimate.few
