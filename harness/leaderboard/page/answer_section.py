"""Board -> its tables on answers and the frontier as HTML; nothing without answers. Pure; names are escaped."""

from __future__ import annotations

from html import escape

from harness.leaderboard.answer_grids import answer_grids
from harness.leaderboard.grid import Grid
from harness.leaderboard.table import Board


def section(board: Board) -> str:
    """Return the tables, each under a heading of its own."""
    return "".join(grid_table(grid) for grid in answer_grids(board))


def grid_table(grid: Grid) -> str:
    """Return a table of text under its heading."""
    heads = "".join(f'<th scope="col">{escape(cell)}</th>' for cell in grid.head[1:])
    rows = "\n".join(
        f'<tr class="sound"><th scope="row" class="name">{escape(row[0])}</th>{"".join(map(_cell, row[1:]))}</tr>'
        for row in grid.rows
    )
    return (
        f"<h3>{escape(grid.title)}</h3>\n{_paragraphs(grid.before)}"
        f'<div class="scroll aside" role="region" aria-label="{escape(grid.title)}" tabindex="0">\n<table>\n'
        f'<thead><tr><th scope="col" class="name">{escape(grid.head[0])}</th>{heads}</tr></thead>\n'
        f"<tbody>\n{rows}\n</tbody>\n</table>\n</div>\n{_paragraphs(grid.after)}"
    )


def _cell(text: str) -> str:
    """Return a cell, what is in brackets under the number that it belongs to."""
    value, bracket, rest = text.partition(" [")
    under = f' <span class="range">{escape(bracket[1:] + rest)}</span>' if bracket else ""
    return f'<td class="stack">{escape(value)}{under}</td>'


def _paragraphs(sentences: tuple[str, ...]) -> str:
    return "".join(f"<p>{escape(sentence)}</p>\n" for sentence in sentences)
