"""Table -> HTML for a notebook: each board as a plain table that takes the notebook's own style, and what it found."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from harness.leaderboard.board_grids import COMMON
from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.formatting import (
    FEW,
    MISSING,
    heading,
    number,
    number_with_interval,
    rank_with_range,
    things_to_know,
)
from harness.leaderboard.table import BESIDE, Board, Row, Table


def render(table: Table) -> str:
    """Return the boards, that over all models first."""
    order = sorted(table.boards, key=lambda board: board.model != "all")
    return "\n".join(_board(board, table.ranked_by) for board in order)


def _board(board: Board, ranked_by: str) -> str:
    shown = list(dict.fromkeys([ranked_by, *BESIDE, COMMON]))
    head = ["rank", "tier", "loss", *map(heading, shown), "over base, @mean"]
    rows = "\n".join(_row(row, shown) for row in board.rows)
    found = [f"<p><strong>{escape(board.conclusions[0])}</strong></p>"] if board.conclusions else []
    return "\n".join(
        [
            f"<h4>{escape(board.title)}</h4>",
            *found,
            f"<table>\n<thead><tr>{_cells(head, 'th')}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n</table>",
            f"<p>{board.n_pairs} held-out pairs of {board.n_prompts} prompts, 95 % intervals. "
            f"{escape(things_to_know(len(board.disclaimers), board.weightiest))}.</p>",
        ]
    )


def _row(row: Row, shown: Sequence[str]) -> str:
    if row.status != "ok":
        reason = escape(f"{row.status}: {row.reason}")
        return f'<tr>{_cells([_rank(row), MISSING, row.label])}<td colspan="{len(shown) + 1}">{reason}</td></tr>'
    over_base = MISSING if row.label == "base" else _estimate(row.vs_base.get(COMMON), "+.3f")
    values = [_estimate(row.metrics.get(metric)) for metric in shown]
    return f"<tr>{_cells([_rank(row), number(row.tier, 'd'), row.label, *values, over_base])}</tr>"


def _cells(texts: Sequence[str], element: str = "td") -> str:
    return "".join(f"<{element}>{escape(text)}</{element}>" for text in texts)


def _rank(row: Row) -> str:
    return rank_with_range(row.rank, row.rank_low, row.rank_high, row.borderline)


def _estimate(estimate: Estimate | None, form: str = ".3f") -> str:
    return MISSING if estimate is None else number_with_interval(estimate, form) + FEW * estimate.few
