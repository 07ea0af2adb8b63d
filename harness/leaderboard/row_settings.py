"""How a row was trained, in one value each: for leaderboard.csv and the tables of `harness.load_run`."""

from __future__ import annotations

from collections.abc import Mapping

from harness.leaderboard.table import Board, Row


def options_in_words(options: Mapping[str, object]) -> str:
    """Return options as --plugins has them: `beta=2.0,gamma=0.5`."""
    return ",".join(f"{name}={'none' if value is None else value}" for name, value in options.items())


def learning_rate(board: Board, row: Row) -> float | None:
    """Return the learning rate of a row; None for one that was not trained here, or that has several."""
    if row.kind != "loss":
        return None
    rates: set[float | None] = {choice.learning_rate for choice in row.tuned.values()}
    rates = rates or {board.settings.learning_rate}
    return rates.pop() if len(rates) == 1 else None


def seeds_in_words(row: Row) -> str:
    """Return the seeds that a row stands for: `0,1,2`."""
    return ",".join(map(str, row.seeds))
