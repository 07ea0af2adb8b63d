"""The files of a study beside its study.toml: study.md, the boards, the pictures, and the records packed."""

from __future__ import annotations

import io
import lzma
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from harness.api import HarnessError
from harness.leaderboard import renders, table_of
from harness.leaderboard.formatting import markdown_text
from harness.leaderboard.markdown import grid_lines
from harness.leaderboard.page.write import write_page
from harness.leaderboard.table import Table
from harness.run_folder.limits import unpacked
from harness.run_folder.manifest import known_manifest
from harness.run_folder.paths import BOARD_MARKDOWN, BOARDS, LOCK, LOGS, PAGE, PLOTS, TENSORBOARD, is_run
from harness.run_folder.store import write_atomically
from harness.study.answer import Answer
from harness.study.answers import answers
from harness.study.cells import Cells, cells_of
from harness.study.pictures import draw_answers
from harness.study.study_file import STUDY_FILE, Study

RUN, RECORDS, REPORT = "run", "records.tar.xz", "study.md"
"""In a study's folder: its run while it is computed, the same packed, and what was found."""
NOT_PACKED = (LOGS, LOCK, PLOTS, TENSORBOARD, PAGE, *BOARDS)


def write_study(folder: Path, study: Study, *, draw: bool) -> tuple[Answer, ...]:
    """Write all files of a study from the records of its run, and pack these; return what was found.

    Raises `HarnessError` where the run has no result yet, or none of what the study asks of it.
    """
    with run_of(folder) as run:
        table, records = table_of(run, study.metric or None)
        cells = cells_of(records, study.metric or table.ranked_by)
        found = answers(study, cells)
        for name, text in renders(table).items():
            write_atomically(folder / name, text)
        write_page(folder, table, records, known_manifest(run), draw=False)
        drawn = draw_answers(folder, found) if draw else []
        write_atomically(folder / REPORT, report(study, cells, found, table, drawn))
        if run == folder / RUN:
            pack(run, folder / RECORDS)
    return found


def report(study: Study, cells: Cells, found: Sequence[Answer], table: Table, drawn: Sequence[str]) -> str:
    """Return study.md: the question, the hypothesis, what was found, and the tables behind it."""
    findings = [sentence for answer in found for sentence in answer.findings]
    lines = [f"# {markdown_text(study.question)}", "", markdown_text(study.setting), ""]
    lines += ["## Hypothesis, written before the run", "", markdown_text(study.hypothesis), ""]
    lines += ["## Findings", "", *(f"- {markdown_text(sentence)}" for sentence in findings), ""]
    lines += ["Measured by implicit rewards on held-out pairs, not by generated text.", ""]
    for answer in found:
        for grid in answer.grids:
            lines += [*grid_lines(grid), ""]
        lines += [f"![95 % intervals of the table above]({answer.name}.svg)", ""] if answer.name in drawn else []
    lines += ["## The run", "", *_of_the_run(cells, table)]
    return "\n".join(lines)


def _of_the_run(cells: Cells, table: Table) -> list[str]:
    budget, seeds = markdown_text(str(table.boards[0].settings.budget)), ", ".join(map(str, cells.seeds))
    trainings = len(cells.cells) * len(cells.seeds) * len(cells.models)
    trials = (
        " The trials behind what is tuned are in the records." if any(b.settings.trials for b in table.boards) else ""
    )
    lines = [
        f"{trainings} trainings of {budget}: {len(cells.cells)} rows x settings, seeds {seeds}, models "
        f"{markdown_text(', '.join(cells.models))}. All rows: [leaderboard.html]({PAGE}), "
        f"[leaderboard.md]({BOARD_MARKDOWN}).{trials}",
        "",
    ]
    if cells.left_out:
        lines += [f"Without a result on every seed, and left out: {markdown_text('; '.join(cells.left_out))}.", ""]
    return [
        *lines,
        f"`harness study {STUDY_FILE}` computes what is missing; `harness study {STUDY_FILE} --rebuild` makes these "
        f"files again from the records in {RECORDS}, byte for byte, the pictures as this version draws them.",
        "",
    ]


@contextmanager
def run_of(folder: Path) -> Iterator[Path]:
    """Yield the run folder of a study: `run/` where it is, else the packed records, unpacked for the time being."""
    if is_run(folder / RUN):
        yield folder / RUN
        return
    if not (folder / RECORDS).is_file():
        raise HarnessError(f"got {folder}, which has neither {RUN}/ nor {RECORDS}; run the study without --rebuild")
    with tempfile.TemporaryDirectory() as temporary:
        unpack(folder / RECORDS, Path(temporary) / RUN)
        yield Path(temporary) / RUN


def pack(run: Path, archive: Path) -> None:
    """Write the records and tables of a run folder, and of those inside it, into one archive: same files, same bytes.

    Tables of one run share most columns, so that together they take a quarter of their size.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(run.rglob("*")):
            inside = path.relative_to(run)
            if path.is_file() and not set(inside.parts) & set(NOT_PACKED):
                entry = tarfile.TarInfo(inside.as_posix())
                entry.size, entry.mode = path.stat().st_size, 0o644
                with path.open("rb") as file:
                    tar.addfile(entry, file)
    new = archive.with_suffix(".new")
    new.write_bytes(lzma.compress(buffer.getvalue(), preset=9 | lzma.PRESET_EXTREME))
    new.replace(archive)


def unpack(archive: Path, run: Path) -> None:
    """Unpack a study's records as a run folder, whole or not at all. Raises `HarnessError` for a broken archive."""
    filling = run.with_name(f".{run.name}.unfinished")
    shutil.rmtree(filling, ignore_errors=True)
    try:
        with lzma.open(archive) as packed:
            content = unpacked(packed, archive.stat().st_size)  # to its end, where its checksum is
        with tarfile.open(fileobj=io.BytesIO(content)) as tar:
            _check_entries(tar.getmembers(), len(content))
            tar.extractall(filling, filter="data")
    except (OSError, EOFError, ValueError, lzma.LZMAError, tarfile.TarError) as error:
        shutil.rmtree(filling, ignore_errors=True)
        raise HarnessError(f"{archive}: cannot be unpacked ({error}); fetch it again or delete it") from None
    filling.rename(run)


def _check_entries(entries: Sequence[tarfile.TarInfo], size: int) -> None:
    """Raise `ValueError` for an entry that `pack` would not have written: a link, a device, a file with holes."""
    for entry in entries:
        if not (entry.isreg() and entry.sparse is None) and not entry.isdir():
            raise ValueError(f"got {entry.name!r:.60} in it, expected plain files")
    if sum(entry.size for entry in entries) > size:
        raise ValueError("got files that are larger than the archive")
