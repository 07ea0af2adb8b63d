"""The run folder: records and their tables, written so that a cell is done or never was. Imports no torch.

<run>/cells/<key>/rows.parquet, responses.parquet, record.json (last)
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.run_folder.full_disk import told
from harness.run_folder.hashes import SEAL, file_hash, sealed
from harness.run_folder.json_types import plain
from harness.run_folder.limits import check_size
from harness.run_folder.paths import RECORD, RESPONSES, ROWS, check_run, record_files
from harness.run_folder.record import Record, RecordError, parse_record
from harness.run_folder.tables import OWNER, RESPONSE_COLUMNS, ROW_COLUMNS, check_columns

if TYPE_CHECKING:
    import pandas as pd


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write `content`, text in UTF-8, so that a reader sees the old file or the whole new one, also after a power cut.

    Raises `HarnessError` where the disk is full.
    """
    with told(path.parent, path.name):
        _write(path, content.encode() if isinstance(content, str) else content)


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes files that only their owner may read
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_record(
    folder: Path, record: Record, rows: pd.DataFrame | None = None, responses: pd.DataFrame | None = None
) -> Record:
    """Write a cell's tables and then, last, its record; return it. A failed cell may have no tables.

    Both tables name the cell in their metadata. The record's `files` gets the sha256 of every table in the folder, the
    step log included.
    Raises `HarnessError` where a column is missing or the disk is full.
    """
    with told(folder, RECORD):
        folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).unlink(missing_ok=True)  # a cell that is written anew is not done until its tables are
    write_tables(folder, record.key, rows, responses)
    files = {path.name: file_hash(path) for path in sorted(folder.glob("*.parquet"))}
    facts = record.as_json() | {"files": files}
    facts.pop(SEAL, None)  # of a record that somebody wrote otherwise
    text = sealed(as_text(facts))
    write_atomically(folder / RECORD, text)
    return parse_record(folder, text)


def write_tables(folder: Path, owner: str, rows: pd.DataFrame | None, responses: pd.DataFrame | None) -> dict[str, str]:
    """Write the two tables of a cell, or of one of its points, into `folder`; return the sha256 of each by its name.

    A table that is None is removed. Raises `HarnessError` where a column is missing or the disk is full.
    """
    with told(folder, ROWS):
        folder.mkdir(parents=True, exist_ok=True)
    for name, table, columns in ((ROWS, rows, ROW_COLUMNS), (RESPONSES, responses, RESPONSE_COLUMNS)):
        if table is None:
            (folder / name).unlink(missing_ok=True)
            continue
        check_columns(folder / name, list(table.columns), columns)
        owned = table.copy(deep=False)
        owned.attrs = {OWNER: owner}
        with told(folder, name):
            owned.to_parquet(folder / name, index=False, compression="zstd")
    return {name: file_hash(folder / name) for name in (ROWS, RESPONSES) if (folder / name).is_file()}


def read_record(folder: Path) -> Record:
    """Return the record of one finished cell. Raises `HarnessError` where record.json is no record."""
    path = folder / RECORD
    try:
        check_size(path)
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise RecordError(path, [f"got {error}, expected JSON; delete the file and run again"]) from None
    return parse_record(folder, text)


def read_records(run: Path) -> list[Record]:
    """Return the finished cells of a run folder, sorted by key; a cell folder without record.json is not done."""
    check_run(run)
    records = [read_record(path.parent) for path in record_files(run)]
    return sorted(records, key=lambda record: (record.key, record.folder.name))


def records_by_now(run: Path) -> Iterator[Record]:
    """Yield the finished cells that are there, while others are written: one that is written anew is left out."""
    for path in sorted(record_files(run)):
        try:
            yield read_record(path.parent)
        except RecordError:
            if path.exists():
                raise


def as_text(value: Mapping[str, Any]) -> str:
    """Return JSON as the files of a run have it; numbers that are not finite are null."""
    return json.dumps(plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
