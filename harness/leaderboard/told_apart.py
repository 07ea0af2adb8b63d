"""Boards at several settings of an axis, told apart where their titles would be alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.leaderboard.table import Board


def told_apart(boards: Sequence[Board]) -> tuple[Board, ...]:
    """Return the boards with the learning rate in their titles where they have several; all else is there anyway."""
    rates = {board.settings.learning_rate for board in boards} - {None}
    if len(rates) < 2:
        return tuple(boards)
    return tuple(replace(board, title=board.title + _rate(board)) for board in boards)


def _rate(board: Board) -> str:
    rate = board.settings.learning_rate
    return "" if rate is None else f" · learning rate {rate:g}"
