"""Table -> how each loss is drawn, the same in every picture of a page. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.leaderboard.table import Table

HUES = (
    *("#3b78c4", "#d9730d", "#1a8f5a", "#c2405a", "#8a63c9"),
    *("#8c6d31", "#c255a1", "#0d8ea0", "#7f7f7f", "#8a9a1c"),
)
"""At least 3:1 against both backgrounds of the page."""
DASHES = ([1, 0], [6, 2], [2, 2], [8, 2, 2, 2], [1, 3])


@dataclass(frozen=True, kw_only=True)
class Style:
    """How a loss is drawn."""

    colour: str
    dash: Sequence[int]
    """Lengths of dash and gap by turns, px; [1, 0] is a whole line."""


def styles(table: Table) -> dict[str, Style]:
    """Return the style of every loss, by label: ten hues, then the same hues in other dashes.

    In the order of the last board, the one over all models where there are several, so that leaders differ most.
    """
    boards = reversed(table.boards)
    labels = dict.fromkeys(row.label for board in boards for row in board.rows if row.kind == "loss")
    return {
        label: Style(colour=HUES[k % len(HUES)], dash=DASHES[k // len(HUES) % len(DASHES)])
        for k, label in enumerate(labels)
    }
