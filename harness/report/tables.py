"""A run's table -> every table of its report: board by board, then across boards."""

from __future__ import annotations

from collections.abc import Iterator

from harness.leaderboard.answer_grids import answer_grids
from harness.leaderboard.axis_grids import axis_grids
from harness.leaderboard.board_grids import chosen_grid, point_grid, short_grid, spend_grid, subset_grids
from harness.leaderboard.grid import Grid
from harness.leaderboard.table import Board, Table
from harness.report.names import told_apart
from harness.report.pieces import PaperTable


def tables(table: Table) -> tuple[PaperTable, ...]:
    """Return the tables: the board over all models before those of each, the tables across boards last."""
    boards = sorted(table.boards, key=lambda board: board.model != "all")
    of_boards = [
        (f"{name} {grid.title}" if k else name, grid)
        for name, board in zip(told_apart(f"board {board.model}" for board in boards), boards, strict=True)
        for k, grid in enumerate(_of_board(board, table.ranked_by))
    ]
    across = [(f"across {grid.title}", grid) for grid in axis_grids(table)]
    found = [*of_boards, *across]
    names = told_apart(name for name, _ in found)
    return tuple(PaperTable(name=name, grid=grid) for name, (_, grid) in zip(names, found, strict=True))


def _of_board(board: Board, ranked_by: str) -> Iterator[Grid]:
    yield short_grid(board, ranked_by)
    others = (*subset_grids(board, ranked_by), point_grid(board, ranked_by), *answer_grids(board))
    for grid in (*others, chosen_grid(board), spend_grid(board)):
        if grid is not None:
            yield _named_after(board, grid)


def _named_after(board: Board, grid: Grid) -> Grid:
    """Return the grid with the board said in its caption, where it stands alone."""
    return Grid(
        title=grid.title,
        before=(f"{board.title}.", *grid.before),
        head=grid.head,
        rows=grid.rows,
        after=grid.after,
    )
