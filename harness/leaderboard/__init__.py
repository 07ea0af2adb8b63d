"""Leaderboards of a run folder: rebuilt from its records, byte for byte, without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from harness.leaderboard import csv, json, markdown
from harness.leaderboard.decide.best_on_dev import at_best_on_dev
from harness.leaderboard.decide.estimates import Resampling
from harness.leaderboard.decide.robustness import TRUTH, robustness
from harness.leaderboard.decide.sensitivity import of_trials, sensitivity
from harness.leaderboard.page.write import write_page
from harness.leaderboard.table import Table, build
from harness.leaderboard.told_apart import told_apart
from harness.run_folder.manifest import Manifest, known_manifest, read_manifest
from harness.run_folder.noise_floor import read_noise
from harness.run_folder.paths import BOARD_CSV, BOARD_JSON, BOARD_MARKDOWN, TUNING, ranked_inside, runs_inside
from harness.run_folder.record import Record, only
from harness.run_folder.store import read_records, write_atomically

__all__ = ["ranked_records", "renders", "table_of", "write"]


def write(
    run: Path, ranked_by: str | None = None, *, draw: bool = False, say: Callable[[str], object] = print
) -> Table:
    """Write leaderboard.json, .md, .csv and .html of a run folder and return the table, boards of runs inside it last.

    `ranked_by`: a metric's name; by default the one the run was started with. `draw`: with the pictures, in the page
    and in plots/; where they cannot be drawn, `say` gets the line that says why, as does the page.
    Raises `HarnessError` for a folder that is no run, a run without a finished cell, records that may not stand in one
    table, and a noise floor that cannot be read.
    """
    table, records = table_of(run, ranked_by)
    manifest = known_manifest(run)
    for name, text in renders(table).items():
        write_atomically(run / name, text)
    if note := write_page(run, table, records, manifest, draw):
        say(note)
    return table


def renders(table: Table) -> Mapping[str, str]:
    """Return leaderboard.json, .md and .csv by their file names."""
    return {
        BOARD_JSON: json.render(table),
        BOARD_MARKDOWN: markdown.render(table),
        BOARD_CSV: csv.render(table),
    }


def table_of(run: Path, ranked_by: str | None = None) -> tuple[Table, list[Record]]:
    """Return the table of a run folder, boards of runs inside it last, and the records behind it. Writes nothing.

    The noise floor that lies in the folder is used where it fits. Raises `HarnessError` as `write` does.
    """
    records = read_records(run)
    manifest = known_manifest(run)
    wanted = ranked_by or manifest.ranked_by
    table = build(records, ranked_by=wanted, models=manifest.models, asked=manifest.asked, noise=read_noise(run))
    table = _with_best_on_dev(table, records, wanted, manifest)
    for folder in ranked_inside(run):
        more = read_records(folder)
        inner = read_manifest(folder)
        inside = build(more, ranked_by=wanted, models=inner.models, asked=inner.asked, noise=read_noise(folder))
        inside = _with_best_on_dev(inside, more, wanted, inner)
        table = replace(table, boards=(*table.boards, *inside.boards))
        records += more
    only(records, "protocol", lambda record: record.protocol)
    along = robustness(records, wanted, Resampling())
    along += tuple(each for each in robustness(records, TRUTH, Resampling()) if each.values and wanted != TRUTH)
    of_grid = sensitivity(records, wanted, Resampling()) if _has_grid(table, manifest) else ()
    trials = [record for folder in runs_inside(run) if folder.name == TUNING for record in read_records(folder)]
    over = (*of_grid, *of_trials(trials, wanted, Resampling()))
    return replace(table, boards=told_apart(table.boards), robustness=along, sensitivity=over), records


def _has_grid(table: Table, manifest: Manifest) -> bool:
    """Return whether a run asked for several values of an option or for several learning rates."""
    rates = {board.settings.learning_rate for board in table.boards} - {None}
    return "|" in str(manifest.run.get("plugins", "")) or len(rates) > 1


def _with_best_on_dev(table: Table, records: Sequence[Record], ranked_by: str, manifest: Manifest) -> Table:
    """Return the table with the boards of cells at their best point on dev behind its own, where a run chose so."""
    chosen = at_best_on_dev(records, ranked_by)
    if not chosen:
        return table
    of_chosen = build(chosen, ranked_by=ranked_by, models=manifest.models, asked=manifest.asked)
    return replace(table, boards=(*table.boards, *of_chosen.boards))


def ranked_records(run: Path) -> list[Record]:
    """Return the records that the leaderboards are made of: the run's, then those of each ranked run inside it."""
    return [record for folder in (run, *ranked_inside(run)) for record in read_records(folder)]
