"""Board -> its learning curves as a table in HTML, folded away; nothing without points. Pure; names are escaped."""

from __future__ import annotations

from html import escape

from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.decide.wording import EARLY, points_in_words
from harness.leaderboard.page.board_table import cell_of
from harness.leaderboard.table import Board, Row


def section(board: Board, ranked_by: str) -> str:
    """Return a table of the ranked metric: a row for each loss, a column for each fraction of the budget."""
    if not board.fractions:
        return ""
    names = "".join(f'<th scope="col">{fraction:.10g}</th>' for fraction in board.fractions)
    rows = "\n".join(_row(board, ranked_by, row) for row in board.rows if row.points)
    return (
        "<details><summary>Along the run</summary>\n"
        '<div class="scroll" role="region" aria-label="Along the run" tabindex="0">\n<table>\n'
        f"<caption><span>{escape(points_in_words(ranked_by))}. {escape(EARLY)}</span></caption>\n"
        f'<thead><tr><th scope="col" class="name">loss</th>{names}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n'
        "</table>\n</div>\n</details>\n"
    )


def _row(board: Board, ranked_by: str, row: Row) -> str:
    known = {point.fraction: point.metrics.get(ranked_by, Estimate()) for point in row.points}
    cells = "".join(cell_of(known.get(fraction, Estimate())) for fraction in board.fractions)
    return f'<tr class="sound"><th scope="row" class="name">{escape(row.label)}</th>{cells}</tr>'
