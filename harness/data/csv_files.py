"""CSV and TSV files -> raw rows; every cell is text, and what is a list or a number is read from it later."""

from __future__ import annotations

import csv
import io
import sys

from harness.api import HarnessError
from harness.data.raw import RawRow, RowError, counted


def csv_rows(data: bytes, where: str, delimiter: str) -> list[RawRow]:
    """Return the rows under the header; a row that has other cells than the header is a `RowError`."""
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        place = f"byte 0x{data[error.start]:02x} in line {line}, at offset {error.start}"
        raise HarnessError(f"{where}: not valid UTF-8 ({place}); write it as UTF-8") from None
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))  # the default refuses cells of 128 KiB
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[RawRow] = []
    header: list[str] | None = None
    line = 1
    try:
        for cells in reader:
            if header is None:
                header = cells
            elif cells:
                number = len(rows)
                if len(cells) == len(header):
                    rows.append(
                        RawRow(number=number, line=line, values=dict(zip(header, cells, strict=True)), where=where)
                    )
                else:
                    rows.append(RawRow(number=number, line=line, values=_other_width(cells, header), where=where))
            line = reader.line_num + 1
    except csv.Error as error:
        end = "; is the file truncated?" if "end of data" in str(error) else ""
        raise HarnessError(f"{where}: line {line} is not valid CSV ({error}{end}), expected quoted cells") from None
    return rows


def _other_width(cells: list[str], header: list[str]) -> RowError:
    return RowError(
        "other number of cells", (), f"the row has {counted(len(cells), 'cell')}, expected {len(header)} as the header"
    )
