"""Leaderboards of a run folder: rebuilt from its records, byte for byte, without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.leaderboard import csv, json, markdown
from harness.leaderboard.decide.comparable import only
from harness.leaderboard.page.write import write_page
from harness.leaderboard.table import Table, build
from harness.run_folder.paths import MANIFEST, tuned_runs
from harness.run_folder.store import Record, read_manifest, read_records, write_atomically

__all__ = ["Table", "build", "ranked_records", "renders", "table_of", "write"]


def write(
    run: Path, ranked_by: str | None = None, *, draw: bool = False, say: Callable[[str], object] = print
) -> Table:
    """Write leaderboard.json, .md, .csv and .html of a run folder and return the table, tuned boards last.

    `ranked_by`: a metric's name; by default the one the run was started with. `draw`: with the pictures, in the page
    and in plots/; where they cannot be drawn, `say` gets the line that says why, as does the page.
    Raises `HarnessError` for a folder that is no run, a run without a finished cell, and records that may not stand in
    one table.
    """
    table, records = table_of(run, ranked_by)
    manifest = read_manifest(run) if (run / MANIFEST).is_file() else {}
    for name, text in renders(table).items():
        write_atomically(run / name, text)
    if note := write_page(run, table, records, manifest, draw):
        say(note)
    return table


def renders(table: Table) -> Mapping[str, str]:
    """Return leaderboard.json, .md and .csv by their file names."""
    return {
        "leaderboard.json": json.render(table),
        "leaderboard.md": markdown.render(table),
        "leaderboard.csv": csv.render(table),
    }


def table_of(run: Path, ranked_by: str | None = None) -> tuple[Table, list[Record]]:
    """Return the table of a run folder, tuned boards last, and the records that it was made from. Writes nothing.

    Raises `HarnessError` as `write` does.
    """
    records = read_records(run)
    manifest = read_manifest(run) if (run / MANIFEST).is_file() else {}
    wanted = ranked_by or (manifest.get("run") or {}).get("ranked_by") or "pairwise_accuracy"
    table = build(records, ranked_by=wanted, **_asked(manifest))
    for folder in tuned_runs(run):
        more = read_records(folder)
        tuned = build(more, ranked_by=wanted, **_asked(read_manifest(folder)))
        table = replace(table, boards=(*table.boards, *tuned.boards))
        records += more
    only(records, "protocol", lambda record: record.fields.get("protocol"))
    return table, records


def ranked_records(run: Path) -> list[Record]:
    """Return the records that the leaderboards are made of: the run's, then those of each tuned run inside it."""
    return [record for folder in (run, *tuned_runs(run)) for record in read_records(folder)]


def _asked(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the models of a run, in order, and the label and seed of every system that it was started with."""
    return {
        "models": [str(model) for model in manifest.get("models") or []],
        "asked": [(str(label), int(seed)) for label, _, seed in manifest.get("cells") or []],
    }
