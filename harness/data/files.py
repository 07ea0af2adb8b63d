"""People's files -> raw rows, with every defect tied to its row and line: which format a file has, and its shards."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.api import HarnessError
from harness.data.arrow_files import read_arrow, read_parquet
from harness.data.csv_files import csv_rows
from harness.data.json_files import BOM, json_rows, line_rows
from harness.data.raw import Choose, RawRow, RowError, Table, printable
from harness.run_folder.limits import unpacked

FORMATS = (".parquet", ".jsonl", ".json", ".csv", ".tsv", ".ndjson", ".arrow")
COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
"""Each may follow a format: `train.jsonl.gz`."""

OPENERS: Mapping[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}


def format_of(path: Path) -> tuple[str, str]:
    """Return (format, compression) by the file's suffixes, in lower case; "" where there is none."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = suffixes.pop() if suffixes and suffixes[-1] in COMPRESSED else ""
    return (suffixes[-1] if suffixes else ""), packed


def is_data(path: Path) -> bool:
    """Return whether the file's name is that of a format we read."""
    return format_of(path)[0] in FORMATS


def stem_of(path: Path) -> str:
    """Return the name without format and compression: `train` of `train.jsonl.gz`."""
    kind, packed = format_of(path)
    return path.name[: len(path.name) - len(kind) - len(packed)]


def read_table(paths: Path | Sequence[Path], choose: Choose) -> Table:
    """Return the rows of a file, or of the shards of a split in this order; of columnar files only what `choose` names.

    Rows that cannot be read become `RowError`s. Raises `HarnessError` if a file as a whole cannot be
    read: another format, 0 bytes, no rows, truncated, a git-lfs pointer.
    """
    files = [paths] if isinstance(paths, Path) else list(paths)
    tables = [_read(path, choose) for path in files]
    if len(tables) == 1:
        return tables[0]
    return Table(
        where=f"{tables[0].where} and {len(tables) - 1} more",
        columns=frozenset[str]().union(*(table.columns for table in tables)),
        rows=[row for table in tables for row in table.rows],
        textual=any(table.textual for table in tables),
    )


def _read(path: Path, choose: Choose) -> Table:
    where = printable(str(path))
    kind, packed = format_of(path)
    if kind not in FORMATS:
        raise HarnessError(
            f"{where}: got format '{printable(path.suffix)}', expected one of {', '.join(FORMATS)} "
            f"(also with {', '.join(COMPRESSED)}); convert the file"
        )
    data = b"" if _check_head(path, where) and not packed and kind in (".parquet", ".arrow") else _bytes(path, where)
    if kind in (".parquet", ".arrow"):
        table = (read_parquet if kind == ".parquet" else read_arrow)(path, data, where, choose)
    else:
        bare = data.removeprefix(BOM)
        rows: list[RawRow]
        if kind in (".csv", ".tsv"):
            rows = csv_rows(bare, where, "," if kind == ".csv" else "\t")
        else:
            whole = json_rows(bare, where) if kind == ".json" else None
            rows = list(line_rows(bare, where, first_byte=len(data) - len(bare))) if whole is None else whole
        names = frozenset(name for row in rows if not isinstance(row.values, RowError) for name in row.values)
        table = Table(where=where, columns=names, rows=rows, textual=kind in (".csv", ".tsv"))
    if not table.rows and not (kind in (".parquet", ".arrow") and table.columns and not choose(table.columns)):
        raise HarnessError(f"{where}: the file holds 0 rows, expected at least one; fetch or write it again")
    return table


def _check_head(path: Path, where: str) -> bool:
    """Return True for a file that can be opened and is neither empty nor a git-lfs pointer; else raise."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(64)
    except OSError as error:
        raise HarnessError(f"{where}: cannot be read ({error.strerror}); check the path and its permissions") from error
    if size == 0:
        raise HarnessError(f"{where}: the file is empty (0 bytes), expected rows; fetch or write it again")
    if head.startswith(b"version https://git-lfs"):
        raise HarnessError(f"{where}: got a git-lfs pointer, expected the data itself; run `git lfs pull`")
    return True


def _bytes(path: Path, where: str) -> bytes:
    """Return the content, decompressed."""
    packed = format_of(path)[1]
    try:
        if packed in OPENERS:
            with OPENERS[packed](path) as opened:
                return unpacked(opened, path.stat().st_size)
        if packed == ".zst":
            import pyarrow as pa

            with pa.input_stream(str(path), compression="zstd") as stream:
                return unpacked(stream, path.stat().st_size)
    except (OSError, EOFError, ValueError, lzma.LZMAError) as error:
        reason = printable(str(error).splitlines()[0] if str(error) else type(error).__name__)[:160]
        raise HarnessError(
            f"{where}: not a readable {packed} file, is it truncated? ({reason}); fetch or write it again"
        ) from error
    return path.read_bytes()
