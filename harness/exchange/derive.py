"""The leaderboards that a run folder's records give, without writing anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.leaderboard import csv, json, markdown, table_of
from harness.leaderboard.table import Table


def derive(run: Path, ranked_by: str | None = None) -> Table:
    """Return the table of a run folder, as `harness.leaderboard.write` would write it.

    Raises `HarnessError` for a folder that is no run, one without a finished cell, and records that may not stand in
    one table.
    """
    return table_of(run, ranked_by)[0]


def renders(table: Table) -> Mapping[str, str]:
    """Return leaderboard.json, .md and .csv by their file names."""
    return {
        "leaderboard.json": json.render(table),
        "leaderboard.md": markdown.render(table),
        "leaderboard.csv": csv.render(table),
    }
