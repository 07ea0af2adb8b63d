"""The leaderboards that a run folder's records give, without writing anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from harness.leaderboard import csv, json, markdown
from harness.leaderboard.table import Table, build
from harness.store import MANIFEST, read_manifest, read_records


def derive(run: Path, ranked_by: str | None = None) -> Table:
    """Return the table of a run folder, as `harness.leaderboard.write` would write it.

    Raises `HarnessError` for a folder that is no run, one without a finished cell, and records that may not stand in
    one table.
    """
    manifest = read_manifest(run) if (run / MANIFEST).is_file() else {}
    return build(
        read_records(run),
        ranked_by=ranked_by or (manifest.get("run") or {}).get("ranked_by") or "pairwise_accuracy",
        models=[str(model) for model in manifest.get("models") or []],
        asked=[(str(label), int(seed)) for label, _, seed in manifest.get("cells") or []],
    )


def renders(table: Table) -> Mapping[str, str]:
    """Return leaderboard.json, .md and .csv by their file names."""
    return {
        "leaderboard.json": json.render(table),
        "leaderboard.md": markdown.render(table),
        "leaderboard.csv": csv.render(table),
    }
