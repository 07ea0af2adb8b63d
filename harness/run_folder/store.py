"""The run folder: records and their rows, written so that a cell is done or never was. Imports no torch.

<run>/manifest.json
<run>/cells/<key>/rows.parquet, responses.parquet, record.json (last)
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.api.errors import HarnessError
from harness.run_folder.paths import CELLS, MANIFEST, RECORD, RESPONSES, ROWS

if TYPE_CHECKING:
    import pandas as pd

Columns = Mapping[str, NDArray[Any]]
"""A table as arrays by the names of its columns, (n,) each: ids as objects, numbers as float64, `listwise` as bool."""

ROW_COLUMNS = (
    *("pair_id", "prompt_id", "split", "score_chosen", "score_rejected", "gap"),
    *("chosen_sum_logp", "chosen_tokens", "rejected_sum_logp", "rejected_tokens"),
    *("ref_chosen_sum_logp", "ref_rejected_sum_logp", "reward_chosen", "reward_rejected"),
    *("chosen_characters", "rejected_characters", "true_chosen", "true_rejected"),
    *("chosen_response_id", "rejected_response_id"),
)
"""Columns of rows.parquet: one row a held-out pair; unknown numbers are NaN."""

RESPONSE_COLUMNS = (
    *("prompt_id", "response_id", "split", "sum_logp", "tokens", "ref_sum_logp", "reward", "score"),
    *("true_quality", "characters", "listwise"),
)
"""Columns of responses.parquet: one row a unique held-out response; `listwise` marks those of the listwise data."""

KINDS: Mapping[str, type] = {
    **dict.fromkeys(("split", "prompt_id", "pair_id", "response_id"), object),
    "listwise": bool,
}
"""Of the columns that are no numbers."""


@dataclass(frozen=True, kw_only=True)
class Record:
    """One finished cell."""

    folder: Path
    fields: Mapping[str, Any]
    """The parsed record.json; null stands for a number that is missing."""

    def rows(self) -> pd.DataFrame:
        """Return one row a held-out pair, with `ROW_COLUMNS`."""
        return _read_parquet(self.folder / ROWS, ROW_COLUMNS)

    def responses(self) -> pd.DataFrame:
        """Return one row a unique held-out response, with `RESPONSE_COLUMNS`."""
        return _read_parquet(self.folder / RESPONSES, RESPONSE_COLUMNS)

    def columns(self, file: str, names: Iterable[str]) -> Columns:
        """Return columns of one of the cell's tables as arrays. Imports no pandas, which takes thrice the time.

        All columns of `ROWS` and `RESPONSES` must be there, as for `rows`; of another file those that are there are
        returned.
        """
        expected = {ROWS: ROW_COLUMNS, RESPONSES: RESPONSE_COLUMNS}.get(file, ())
        return _read_arrays(self.folder / file, expected, list(names))


def write_atomically(path: Path, text: str) -> None:
    """Write `text` to `path` so that a reader sees the old file or the whole new one, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
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
    folder: Path, fields: Mapping[str, Any], rows: pd.DataFrame | None = None, responses: pd.DataFrame | None = None
) -> Record:
    """Write a cell's tables and then, last, its record; return it. A failed cell may have no tables.

    The record's `files` has the sha256 of every table in the folder, the step log included.
    Raises `HarnessError` where a column is missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RECORD).unlink(missing_ok=True)  # a cell that is written anew is not done until its tables are
    for name, table, columns in ((ROWS, rows, ROW_COLUMNS), (RESPONSES, responses, RESPONSE_COLUMNS)):
        if table is None:
            (folder / name).unlink(missing_ok=True)
            continue
        _check_columns(folder / name, list(table.columns), columns)
        table.to_parquet(folder / name, index=False, compression="zstd")
    text = _dump({**fields, "files": {path.name: file_hash(path) for path in sorted(folder.glob("*.parquet"))}})
    write_atomically(folder / RECORD, text)
    return Record(folder=folder, fields=json.loads(text))


def file_hash(path: Path) -> str:
    """Return `sha256:` and the hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def read_record(folder: Path) -> Record:
    """Return the record of one finished cell. Raises `HarnessError` where record.json is no JSON object."""
    return Record(folder=folder, fields=_load(folder / RECORD))


def read_records(run: Path) -> list[Record]:
    """Return the finished cells of a run folder, sorted by key; a cell folder without record.json is not done."""
    cells = run / CELLS
    if not cells.is_dir():
        raise HarnessError(f"got {run}, expected a run folder (one with cells/ in it); name the output folder of a run")
    found = [read_record(path.parent) for path in cells.glob(f"*/{RECORD}")]
    return sorted(found, key=lambda record: (str(record.fields.get("key", record.folder.name)), record.folder.name))


def write_manifest(run: Path, manifest: Mapping[str, Any]) -> None:
    """Write `manifest.json`: versions, hardware, fingerprints, environment switches."""
    write_atomically(run / MANIFEST, _dump(manifest))


def read_manifest(run: Path) -> dict[str, Any]:
    """Return the parsed `manifest.json` of a run folder."""
    path = run / MANIFEST
    if not path.is_file():
        raise HarnessError(f"got {run}, expected a run folder (one with {MANIFEST}); name the output folder of a run")
    return _load(path)


def _dump(value: Mapping[str, Any]) -> str:
    return json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    """Return `value` as JSON has it: numpy scalars and arrays as Python's, numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if type(value).__module__ == "numpy":
        return _plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value


def _load(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise HarnessError(f"{path}: got {error}, expected JSON; delete the file and run again") from None
    if not isinstance(value, dict):
        raise HarnessError(
            f"{path}: got a {type(value).__name__}, expected a JSON object; delete the file and run again"
        )
    return value


def _read_parquet(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    import pandas as pd

    try:
        table = pd.read_parquet(path)
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these two kinds
        raise HarnessError(
            f"{path}: got {error}, expected a parquet table; delete the cell's folder and run again"
        ) from None
    _check_columns(path, list(table.columns), columns)
    return table


def _read_arrays(path: Path, expected: tuple[str, ...], names: list[str]) -> Columns:
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path, memory_map=True)
        present = file.schema_arrow.names
        table = file.read(columns=[name for name in names if name in present], use_threads=False)
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these two kinds
        raise HarnessError(
            f"{path}: got {error}, expected a parquet table; delete the cell's folder and run again"
        ) from None
    _check_columns(path, present, expected)
    return {name: _array(table[name], KINDS.get(name)) for name in table.column_names}


def _array(column: Any, kind: type | None) -> NDArray[Any]:
    """Return a column of pyarrow's as an array; its own `to_numpy` imports pandas."""
    if kind is not None or column.null_count or not len(column) or str(column.type) == "bool":
        return np.array(column.to_pylist(), dtype=kind or np.float64)  # None becomes NaN
    return np.asarray(np.from_dlpack(column.combine_chunks()), dtype=np.float64)


def columns_of(table: pd.DataFrame | Columns, names: Iterable[str]) -> Columns:
    """Return columns of a DataFrame as arrays; what is `Columns` already is given back."""
    if isinstance(table, Mapping):
        return table
    return {
        name: table[name].to_numpy(KINDS[name]) if name in KINDS else table[name].to_numpy(np.float64, na_value=np.nan)
        for name in names
    }


def _check_columns(path: Path, got: list[str], expected: tuple[str, ...]) -> None:
    missing = [column for column in expected if column not in got]
    if missing:
        raise HarnessError(
            f"{path}: got no column {', '.join(missing)}, expected all of {', '.join(expected)}; add them"
        )
