"""Boards at several settings of an axis, told apart where their titles would be alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.leaderboard.table import Board


def told_apart(boards: Sequence[Board]) -> tuple[Board, ...]:
    """Return the boards with their learning rates in the titles where several were asked for; all else is there anyway.

    A tuned board has the range of rates that its trials drew from.
    """
    if len({_rates(board) for board in boards if board.settings.learning_rate is not None}) < 2:
        return tuple(boards)
    return tuple(replace(board, title=board.title + _rates(board)) for board in boards)


def _rates(board: Board) -> str:
    rate, searched = board.settings.learning_rate, board.settings.trial_learning_rates
    if rate is not None:
        return f" · learning rate {rate:g}"
    return f" · learning rates {searched[0]:g} to {searched[1]:g}" if searched else ""
