"""Parquet and arrow files -> raw rows; `datasets` saves to disk in the latter."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from harness.api import HarnessError
from harness.data.raw import Choose, RawRow, RowError, Table, printable

BATCH_ROWS = 4096


def rows_of_batches(batches: Iterable[Any], where: str) -> list[RawRow]:
    """Return the rows of pyarrow record batches or tables, in order; a row that is not UTF-8 becomes a `RowError`."""
    rows: list[RawRow] = []
    for batch in batches:
        try:
            values = batch.to_pylist()
        except UnicodeDecodeError:
            values = [_arrow_row(batch.slice(index, 1)) for index in range(batch.num_rows)]
        rows.extend(
            RawRow(number=number, line=None, values=value, where=where)
            for number, value in enumerate(values, len(rows))
        )
    return rows


def read_parquet(path: Path, data: bytes, where: str, choose: Choose) -> Table:
    """Return the rows of a parquet file, or of the bytes of one that was compressed as a whole."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(pa.BufferReader(data) if data else path) as file:
            names = file.schema_arrow.names
            wanted = [name for name in names if name in choose(names)]
            rows = rows_of_batches(file.iter_batches(BATCH_ROWS, columns=wanted), where) if wanted else []
            count = file.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(where, "parquet", error) from error
    if count == 0:
        raise HarnessError(f"{where}: the file holds 0 rows, expected at least one; fetch or write it again")
    return Table(where=where, columns=frozenset(names), rows=rows)


def read_arrow(path: Path, data: bytes, where: str, choose: Choose) -> Table:
    """Return the rows of an arrow file, streamed or with a footer."""
    import pyarrow as pa

    try:
        with pa.BufferReader(data) if data else pa.memory_map(str(path)) as source:
            try:
                reader = pa.ipc.open_stream(source)
                batches: Iterator[Any] = iter(reader)
            except pa.ArrowInvalid:
                source.seek(0)
                reader = pa.ipc.open_file(source)
                batches = (reader.get_batch(index) for index in range(reader.num_record_batches))
            names = reader.schema.names
            wanted = [name for name in names if name in choose(names)]
            rows = rows_of_batches((batch.select(wanted) for batch in batches), where) if wanted else []
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(where, "arrow", error) from error
    return Table(where=where, columns=frozenset(names), rows=rows)


def _arrow_row(batch: Any) -> Mapping[str, Any] | RowError:
    try:
        row: Mapping[str, Any] = batch.to_pylist()[0]
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        return RowError(
            "invalid UTF-8", (), f"text is not valid UTF-8 (byte 0x{byte:02x} at offset {error.start} of its cell)"
        )
    return row


def _unreadable(where: str, kind: str, error: Exception) -> HarnessError:
    reason = printable(str(error).splitlines()[0])[-160:]
    return HarnessError(f"{where}: not a readable {kind} file, is it truncated? ({reason}); fetch or write it again")
