"""Board -> its accuracies by subset as HTML, folded away; nothing for data without subsets. Pure; names are escaped."""

from __future__ import annotations

from html import escape

from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.decide.subsets import shown
from harness.leaderboard.decide.wording import subsets_in_words
from harness.leaderboard.page.board_table import cell_of
from harness.leaderboard.table import Board, Row


def section(board: Board, ranked_by: str) -> str:
    """Return a table for each accuracy: a row for each loss, a column for each subset."""
    if not board.subset_pairs:
        return ""
    tables = "\n".join(_table(board, metric) for metric in shown(ranked_by))
    return f"<details><summary>Accuracy by subset</summary>\n{tables}\n</details>\n"


def _table(board: Board, metric: str) -> str:
    names = "".join(f'<th scope="col">{escape(subset)} ({pairs})</th>' for subset, pairs in board.subset_pairs.items())
    rows = "\n".join(
        _row(board, metric, row)
        for row in board.rows
        if any(metric in accuracies for accuracies in row.subsets.values())
    )
    return (
        '<div class="scroll" role="region" aria-label="Accuracy by subset" tabindex="0">\n<table>\n'
        f"<caption><span>{escape(subsets_in_words(metric))}.</span></caption>\n"
        f'<thead><tr><th scope="col" class="name">loss</th>{names}</tr></thead>\n<tbody>\n{rows}\n</tbody>\n'
        "</table>\n</div>"
    )


def _row(board: Board, metric: str, row: Row) -> str:
    cells = "".join(cell_of(row.subsets[subset].get(metric, Estimate())) for subset in board.subset_pairs)
    kind = "reference" if row.kind == "reference" else "sound"
    return f'<tr class="{kind}"><th scope="row" class="name">{escape(row.label)}</th>{cells}</tr>'
