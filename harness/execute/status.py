"""Which cells of a run have their result: read from the records at one moment, for all who ask at that moment."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.planning.grid import Cell
from harness.run_folder.paths import CELLS, RECORD
from harness.run_folder.store import read_record

FINISHED = ("ok", "diverged")
"""Statuses that stand. A failed cell has no result: the next run tries it again."""


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """The statuses of a run's cells as they were when they were read."""

    by_key: Mapping[str, str]
    """`ok`, `diverged` or `failed`; a cell without a record is not in it."""

    def unfinished(self, cells: Iterable[Cell]) -> list[Cell]:
        """Return the cells without a result: no record, or one that failed."""
        return [cell for cell in cells if self.by_key.get(cell.key) not in FINISHED]


def read_cell_status(run: Path, key: str) -> str | None:
    """Return the status in the record of a cell, None where it has no record."""
    folder = run / CELLS / key
    return read_record(folder).status if (folder / RECORD).exists() else None


def read_status(run: Path, cells: Iterable[Cell]) -> RunStatus:
    """Return the statuses of these cells, one read for each record."""
    statuses = {cell.key: read_cell_status(run, cell.key) for cell in cells}
    return RunStatus(by_key={key: status for key, status in statuses.items() if status is not None})


def read_unfinished(run: Path, cells: Iterable[Cell]) -> list[Cell]:
    """Return those of the cells that have no result now."""
    asked = list(cells)
    return read_status(run, asked).unfinished(asked)
