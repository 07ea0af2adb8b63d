"""What losses reach on each of several data sets that a run was given, as a table of text."""

from __future__ import annotations

from harness.leaderboard.formatting import MISSING, heading, number_with_interval
from harness.leaderboard.grid import Grid
from harness.leaderboard.table import Board, Table
from harness.run_folder.board_key import BoardKey


def data_grids(table: Table) -> tuple[Grid, ...]:
    """Return a table per model and setting that has boards of several data sets; none for a run of one."""
    groups: dict[tuple[str, BoardKey], list[Board]] = {}
    for board in table.boards:
        groups.setdefault((board.model, _without_data(board.settings)), []).append(board)
    several = [of for of in groups.values() if len({board.settings.dataset for board in of}) == len(of) > 1]
    return tuple(_grid(boards, table.ranked_by) for boards in several)


def _without_data(settings: BoardKey) -> BoardKey:
    return BoardKey.of({name: value for name, value in settings.as_json().items() if name != "dataset"})


def _grid(boards: list[Board], metric: str) -> Grid:
    names = [board.dataset for board in boards]
    if len(set(names)) < len(names):  # one data set at several of its own settings
        names = [board.settings.dataset or board.dataset for board in boards]
    labels = dict.fromkeys(row.label for board in boards for row in board.rows if row.kind == "loss")
    values = [
        {row.label: number_with_interval(row.metrics[metric]) for row in board.rows if row.status == "ok"}
        for board in boards
    ]
    return Grid(
        title=f"{boards[0].model}: {heading(metric)} by data set",
        before=(f"Budget {boards[0].settings.budget}, seeds {', '.join(map(str, boards[0].seeds))}.",),
        head=("loss", *names),
        rows=tuple((label, *(of.get(label, MISSING) for of in values)) for label in labels),
        after=(
            "Within a column losses are compared on the same pairs; columns may have other test pairs. Ranks and "
            "comparisons are on the board of each.",
        ),
    )
