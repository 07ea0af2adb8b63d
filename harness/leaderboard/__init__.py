"""Leaderboards of a run folder: rebuilt from its records, byte for byte, without torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from harness.leaderboard import csv, json, markdown
from harness.leaderboard.page import write_page
from harness.leaderboard.table import Table, build
from harness.store import MANIFEST, read_manifest, read_records, write_atomically

__all__ = ["Table", "build", "write"]


def write(
    run: Path, ranked_by: str | None = None, *, draw: bool = False, say: Callable[[str], object] = print
) -> Table:
    """Write leaderboard.json, .md, .csv and .html of a run folder and return the table.

    `ranked_by`: a metric's name; by default the one the run was started with. `draw`: with the pictures, in the page
    and in plots/; where they cannot be drawn, `say` gets the line that says why, as does the page.
    Raises `HarnessError` for a folder that is no run, a run without a finished cell, and records that may not stand in
    one table.
    """
    records = read_records(run)
    manifest = read_manifest(run) if (run / MANIFEST).is_file() else {}
    wanted = ranked_by or (manifest.get("run") or {}).get("ranked_by") or "pairwise_accuracy"
    models = [str(model) for model in manifest.get("models") or []]
    asked = [(str(label), int(seed)) for label, _, seed in manifest.get("cells") or []]
    table = build(records, ranked_by=wanted, models=models, asked=asked)
    for name, render in (("json", json.render), ("md", markdown.render), ("csv", csv.render)):
        write_atomically(run / f"leaderboard.{name}", render(table))
    if note := write_page(run, table, records, manifest, draw):
        say(note)
    return table
