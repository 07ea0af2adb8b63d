"""leaderboard.html and plots/ of a run folder: the records read, the pictures drawn where they can be. No torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.leaderboard.page import html
from harness.leaderboard.page.manifest_facts import manifest_facts
from harness.leaderboard.page.picture_section import PagePictures
from harness.leaderboard.pictures import cache, files
from harness.leaderboard.pictures.data import picture_data
from harness.leaderboard.pictures.styles import styles
from harness.leaderboard.pictures.vega import pictures
from harness.leaderboard.table import Table
from harness.run_folder.manifest import Manifest
from harness.run_folder.paths import PAGE, PLOTS, cache_folder
from harness.run_folder.record import Record
from harness.run_folder.store import write_atomically

LEFT_OUT = "No pictures: this page was made without them."


def write_page(run: Path, table: Table, records: Sequence[Record], manifest: Manifest, draw: bool = True) -> str:
    """Write leaderboard.html and, where the extra `plots` is installed, plots/*.svg and *.png.

    Return what must be said on the screen: one line on why there are no pictures; empty where there are. `draw=False`
    leaves them out, for pages that must have the same bytes with every version of the extra.
    """
    note = files.why_no_pictures() if draw else LEFT_OUT
    drawn = None
    if not note:
        try:
            drawn = _pictures(run, table, records)
        except Exception as error:  # whatever the drawing libraries raise, a finished run keeps its page
            note = f"No pictures: drawing them failed, {type(error).__name__}: {' '.join(str(error).split())}"
    page = html.render(table, manifest=manifest_facts(manifest), pictures=drawn, note=note)
    write_atomically(run / PAGE, page)
    return note if draw else ""


def _pictures(run: Path, table: Table, records: Sequence[Record]) -> PagePictures:
    """Return the pictures of the page and write their files, unless this machine drew the same ones before."""
    style_of, names, data = styles(table), files.file_names(table), picture_data(records, table)
    sources = cache.hash_of_sources(table, data)
    boards = cache.drawn_before(run / PLOTS, sources)
    if boards is None:
        boards = [
            list(pictures(board, shown, style_of, table.ranked_by))
            for board, shown in zip(table.boards, data, strict=True)
        ]
        cache.remember(run / PLOTS, sources, boards, files.write_files(run / PLOTS, names, boards))
    return PagePictures(
        boards=boards,
        styles=style_of,
        script=files.vega_script(cache_folder()),
        files=[f"{PLOTS}/{name}" if name else "" for name in names],
    )
