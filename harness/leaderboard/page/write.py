"""leaderboard.html and plots/ of a run folder: the records read, the pictures drawn where they can be. No torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.leaderboard.page import html
from harness.leaderboard.pictures import files
from harness.leaderboard.pictures.data import frames
from harness.leaderboard.pictures.kept import keep, kept, made_from
from harness.leaderboard.pictures.vega import pictures
from harness.leaderboard.table import Table
from harness.run_folder.paths import cache_folder
from harness.run_folder.record import Record
from harness.run_folder.store import write_atomically

PAGE, PLOTS = "leaderboard.html", "plots"
LEFT_OUT = "No pictures: this page was made without them."


def write_page(
    run: Path, table: Table, records: Sequence[Record], manifest: Mapping[str, Any], draw: bool = True
) -> str:
    """Write leaderboard.html and, where the extra `plots` is installed, plots/*.svg and *.png.

    Return what must be said on the screen: one line on why there are no pictures; empty where there are. `draw=False`
    leaves them out, for pages that must have the same bytes with every version of the extra.
    """
    note = files.missing() if draw else LEFT_OUT
    drawn = None
    if not note:
        try:
            drawn = _drawn(run, table, records)
        except Exception as error:  # whatever the drawing libraries raise, a finished run keeps its page
            note = f"No pictures: drawing them failed, {type(error).__name__}: {' '.join(str(error).split())}"
    write_atomically(run / PAGE, html.render(table, manifest=manifest, drawn=drawn, note=note))
    return note if draw else ""


def _drawn(run: Path, table: Table, records: Sequence[Record]) -> html.Drawn:
    styles, names = files.styles(table), files.file_names(table)
    found = frames(records, table)
    key = made_from(table, found)
    boards = kept(run / PLOTS, key)
    if boards is None:
        boards = [
            list(pictures(board, its, styles, table.ranked_by)) for board, its in zip(table.boards, found, strict=True)
        ]
        keep(run / PLOTS, key, boards, files.write_files(run / PLOTS, names, boards))
    return html.Drawn(
        boards=boards,
        styles=styles,
        script=files.script(cache_folder()),
        files=[f"{PLOTS}/{name}" if name else "" for name in names],
    )
