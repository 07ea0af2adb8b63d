"""Whether leaderboard.html is the page that this version makes of the records; its pictures as far as can be told."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html import unescape
from pathlib import Path

from harness.exchange.cell_checks import Check, first_difference
from harness.leaderboard.page import html
from harness.leaderboard.page.manifest_facts import ManifestFacts, manifest_facts
from harness.leaderboard.page.picture_section import PagePictures
from harness.leaderboard.page.write import LEFT_OUT
from harness.leaderboard.pictures import files
from harness.leaderboard.pictures.data import picture_data
from harness.leaderboard.pictures.drawing import Picture
from harness.leaderboard.pictures.styles import styles
from harness.leaderboard.pictures.vega import pictures
from harness.leaderboard.table import Table
from harness.run_folder.limits import read_json
from harness.run_folder.manifest import known_manifest
from harness.run_folder.paths import PAGE, PICTURE_SPECS, PLOTS, cache_folder
from harness.run_folder.record import Record

DATA = '<script type="application/json" id="pictures">'
"""Begins what the pictures of a page are drawn from; the script that draws them follows."""
NOT_INSTALLED = re.compile(
    r"No pictures: (altair|vl-convert-python|altair and vl-convert-python) (is|are) not installed; "
    r"pip install 'preference-harness\[plots\]' and rebuild the leaderboard\."
)
FAILED = re.compile(r"No pictures: drawing them failed, \w+: .*")
"""What a page may say of why it has no pictures, besides `LEFT_OUT`."""


@dataclass(frozen=True, kw_only=True)
class _Page:
    """What a page may be made of, besides the table."""

    manifest: ManifestFacts
    pictures: PagePictures | None = None
    note: str = ""
    unsure: tuple[str, ...] = ()
    """What of it is not checked."""

    def render(self, table: Table) -> str:
        return html.render(table, manifest=self.manifest, pictures=self.pictures, note=self.note)


def check_page(run: Path, table: Table, records: Sequence[Record]) -> Check:
    """The page is what the table gives, byte for byte; its pictures where what drew them is installed here."""
    path = run / PAGE
    if not path.is_file():
        return Check(summary=f"no {PAGE}", notes=(f"the folder has no {PAGE} to compare",))
    got = path.read_text(encoding="utf-8", errors="replace")
    candidates = _candidates(got, run, table, records)
    if not candidates:
        why = f"not checked: it has pictures, and neither {PLOTS}/{PICTURE_SPECS} nor the extra `plots` is here"
        return Check(summary=PAGE, notes=(why,))
    made = [page.render(table) for page in candidates]
    for page, text in zip(candidates, made, strict=True):
        if text == got:
            return Check(
                summary=f"{PAGE} as the records give it, byte for byte",
                notes=tuple(f"not checked: {what}" for what in page.unsure),
            )
    if _code(made[0]) != _code(got):
        return Check(summary=PAGE, notes=("not checked: another version of the harness wrote it",))
    if DATA in got and _shown(run) is None:
        why = f"without {PLOTS}/{PICTURE_SPECS} nobody can tell what drew its pictures, which are others here"
        return Check(summary=PAGE, notes=(f"not checked: {why}",))
    where = first_difference(got, made[-1])
    problem = f"{PAGE}: got another page than the records give ({where}), expected the same; rebuild it: harness "
    return Check(summary=f"{PAGE} as the records give it", problems=(f"{problem}leaderboard {run}",))


def _code(page: str) -> tuple[str, str]:
    """Return the style and the last script of a page: they change with the version that wrote it."""
    return page.partition("<style>")[2].partition("</style>")[0], page.rpartition("<script>")[2]


def _candidates(got: str, run: Path, table: Table, records: Sequence[Record]) -> list[_Page]:
    """Return what the page may be, what is checked most first; nothing where that cannot be known."""
    plain = _Page(manifest=manifest_facts(known_manifest(run)))
    if DATA not in got:
        hit = re.search(r'<p class="note" role="note">(No pictures: [^<]*)</p>\n</header>', got)
        said = unescape(hit[1]) if hit else LEFT_OUT
        if FAILED.fullmatch(said):
            return [replace(plain, note=said, unsure=("its line on why it has no pictures",))]
        return [replace(plain, note=said if NOT_INSTALLED.fullmatch(said) else LEFT_OUT)]
    drawn, shown = _drawn(table, records), _shown(run)
    boards, unsure = drawn or shown, list[str]()
    if boards is None:
        return []
    if shown is not None and (drawn is None or _libraries(drawn) != _libraries(shown)):
        here = "what draws them is not installed here" if drawn is None else "another version draws them here"
        boards, unsure = shown, [f"its pictures and what is said of them: {here}"]
    own = got.partition(DATA)[2].partition("</script>\n<script>")[2].partition("</script>")[0]
    script = _script()
    names = [f"{PLOTS}/{name}" if name else "" for name in files.file_names(table)]
    fixed = PagePictures(boards=boards, styles=styles(table), script=own, files=names)
    other = "the script that draws its pictures: not the one that is here"
    foreign = replace(plain, pictures=fixed, unsure=(*unsure, other))
    own_script = replace(plain, pictures=replace(fixed, script=script), unsure=tuple(unsure))
    return [own_script, foreign] if script else [foreign]


def _drawn(table: Table, records: Sequence[Record]) -> list[list[Picture]] | None:
    """Return the pictures of each board as they are drawn here; None where they cannot be."""
    if files.why_no_pictures():
        return None
    style_of = styles(table)
    try:
        data = picture_data(records, table)
        together = zip(table.boards, data, strict=True)
        drawn = [list(pictures(board, of_board, style_of, table.ranked_by)) for board, of_board in together]
    except Exception:  # whatever the drawing libraries raise, the pictures cannot be compared
        return None
    return [[replace(picture, spec=json.loads(json.dumps(picture.spec))) for picture in board] for board in drawn]


def _shown(run: Path) -> list[list[Picture]] | None:
    """Return the pictures as they lie in the folder; None where they do not."""
    try:
        boards = read_json(run / PLOTS / PICTURE_SPECS)
        return [[Picture(**picture) for picture in board] for board in boards]
    except (OSError, ValueError, TypeError):
        return None


def _libraries(boards: Sequence[Sequence[Picture]]) -> set[object]:
    """Return which versions of Vega-Lite the pictures are written for."""
    return {picture.spec.get("$schema") for board in boards for picture in board}


def _script() -> str:
    """Return the script that draws pictures here; empty where there is none."""
    try:
        return "" if files.why_no_pictures() else files.vega_script(cache_folder())
    except Exception:  # whatever the library raises, or a cache that cannot be written
        return ""
