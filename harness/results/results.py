"""`Results`: a run folder as Python has it, made from its records; reading it loads no torch and writes nothing."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from harness.api.errors import HarnessError
from harness.leaderboard import notebook, table_of, terminal
from harness.leaderboard.table import Board, Table
from harness.run_folder.record import Record

if TYPE_CHECKING:
    import pandas as pd

FrameName = Literal["boards", "rows", "responses", "steps", "answers"]


@dataclass(frozen=True, kw_only=True)
class Results:
    """The boards of a run, and the tables that they are made of. In a notebook it shows as its boards."""

    folder: Path
    """The run folder."""
    table: Table = field(repr=False)
    """The boards as one value."""
    records: tuple[Record, ...] = field(repr=False)
    """Every finished cell, those of the ranked runs inside the run last."""
    trouble: tuple[str, ...] = ()
    """What went wrong with whole models, judges or checkpoints, where `harness.run` made it."""

    @property
    def boards(self) -> tuple[Board, ...]:
        """The boards, one per model and one over all of them."""
        return self.table.boards

    def frame(self, name: FrameName = "boards") -> pd.DataFrame:
        """Return a tidy table, with the loss, its options, learning rate, budget, seed and model as columns.

        `boards`: one line per board, system and metric, as leaderboard.csv has them; `rows`: per held-out pair;
        `responses`: per held-out response; `steps`: per optimiser step; `answers`: per generated answer. Each option
        is a column of its own too, such as `option.beta`. Raises `HarnessError` for another name.
        """
        from harness.results.frames import FRAMES, board_frame, cell_frame

        if name == "boards":
            return board_frame(self.table)
        if name not in FRAMES:
            raise HarnessError(f"got frame '{name}', expected one of boards, {', '.join(FRAMES)}")
        return cell_frame(self.records, name)

    def compare(self, a: str, b: str, metric: str | None = None) -> pd.DataFrame:
        """Return the paired differences `a` - `b` of two losses of this run, by the labels that its boards have.

        One line per model and, of several, one over all: the mean of each, their difference with its 95 % interval, the
        pairs and prompts behind it. `metric`: by default the one that the run is ranked by. The interval is that of a
        comparison planned in advance; `boards[k].comparisons` has p-values adjusted for all pairs of losses.
        """
        from harness.results.comparison import compared

        return compared(self.records, a, b, metric or self.table.ranked_by)

    def __str__(self) -> str:
        return terminal.render(self.table)

    def _repr_html_(self) -> str:
        return notebook.render(self.table)


def load_run(folder: str | os.PathLike[str]) -> Results:
    """Return the results of a run folder, as far as it is computed. Writes nothing, and loads no torch.

    Raises `HarnessError` for a folder that is no run, and for one without a finished cell.
    """
    path = Path(folder)
    table, records = table_of(path)
    return Results(folder=path, table=table, records=tuple(records))
