"""The leaderboards that a run folder's records give, without writing anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.config import TUNED
from harness.exchange.place import runs_inside
from harness.leaderboard import csv, json, markdown, table_of
from harness.leaderboard.table import Table
from harness.store import Record, read_records


def derive(run: Path, ranked_by: str | None = None) -> Table:
    """Return the table of a run folder, as `harness.leaderboard.write` would write it.

    Raises `HarnessError` for a folder that is no run, one without a finished cell, and records that may not stand in
    one table.
    """
    return table_of(run, ranked_by)[0]


def ranked_records(run: Path) -> list[Record]:
    """Return the records that the leaderboards are made of: the run's, then those of each tuned run inside it."""
    tuned = [folder for folder in runs_inside(run) if folder.name.startswith(TUNED)]
    return [record for folder in (run, *tuned) for record in read_records(folder)]


def trials_of(record: Record) -> int:
    """Return how many trials the cell's run gave each loss; 0 where nothing was tuned."""
    return int((record.fields.get("board") or {}).get("trials") or 0)


def renders(table: Table) -> Mapping[str, str]:
    """Return leaderboard.json, .md and .csv by their file names."""
    return {
        "leaderboard.json": json.render(table),
        "leaderboard.md": markdown.render(table),
        "leaderboard.csv": csv.render(table),
    }
