"""The tables of a cell: their columns, what identifies a row, and reading them. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.api.errors import HarnessError
from harness.run_folder.paths import JUDGEMENTS, RESPONSES, ROWS

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
"""Columns of rows.parquet: one row per held-out pair; unknown numbers are NaN."""
SUBSET = "subset"
"""A further column of rows.parquet, of data that have parts: the pair's; empty for a pair of none."""

RESPONSE_COLUMNS = (
    *("prompt_id", "response_id", "split", "sum_logp", "tokens", "ref_sum_logp", "reward", "score"),
    *("true_quality", "characters", "listwise"),
)
"""Columns of responses.parquet: one row per unique held-out response; `listwise` marks those of the listwise data."""

ANSWER_COLUMNS = (
    *("prompt_id", "sample", "seed", "text", "tokens", "finish", "sum_logp", "ref_sum_logp"),
    *("kl_log_ratio", "kl_low_variance", "length", "cut", "distinct_2", "longest_loop", "rouge_l"),
)
"""Columns of generations.parquet: one row per answer."""
ANSWER_KEYS = ("prompt_id", "sample")
"""What identifies a row of it."""
ANSWER_METRICS = ANSWER_COLUMNS[8:]
"""Those that a record has the means of."""

JUDGEMENT_COLUMNS = (
    *("prompt_id", "sample", "against", "order", "repeat"),
    *("preference", "rating", "reason", "judge"),
)
"""Columns of a judge's table: one row per question."""
JUDGEMENT_NUMBERS = dict.fromkeys(("sample", "order", "repeat"), "int64") | dict.fromkeys(
    ("preference", "rating"), "float64"
)
"""The types of those that are numbers."""
QUESTION_KEYS = JUDGEMENT_COLUMNS[:5]
"""What identifies a row of it."""
JUDGED = "answers"
"""In its metadata, as `DataFrame.attrs`: the sha256 of the generations.parquet that it is about."""
VALUES = "values"
"""In its metadata: the sha256 of its values, for no record has one of this file, which is written after it."""

PAIR_KEYS = ("split", "prompt_id", "pair_id")
"""What identifies a row of rows.parquet."""
RESPONSE_KEYS = ("prompt_id", "response_id")
"""What identifies a row of responses.parquet; pairs of several splits may share a response."""

OWNER = "cell"
"""In the metadata of both tables, as `DataFrame.attrs`: the key of the cell that they are of."""

KINDS: Mapping[str, type] = {
    **dict.fromkeys(("split", "prompt_id", "pair_id", "response_id", SUBSET, "text"), object),
    **dict.fromkeys(("against", "reason", "judge"), object),
    "listwise": bool,
}
"""The types of the columns that are not numbers."""


def read_frame(path: Path, expected: tuple[str, ...]) -> pd.DataFrame:
    """Return a table with all `expected` columns. Raises `HarnessError` where it is no table or lacks a column."""
    import pandas as pd

    try:
        table = pd.read_parquet(path, page_checksum_verification=True)  # of tables that have check sums
    except Exception as error:  # pandas has its own errors of metadata that are damaged
        raise _unreadable(path, error) from None
    check_columns(path, list(table.columns), expected)
    return table


def read_columns(path: Path, names: Iterable[str]) -> Columns:
    """Return columns of a cell's table as arrays. Imports no pandas, which takes three times as long.

    Of rows.parquet and responses.parquet every column must be there; of another file those that are there are returned.
    """
    return _read(path, list(names), {ROWS: ROW_COLUMNS, RESPONSES: RESPONSE_COLUMNS}.get(path.name, ()))[0]


def _read(path: Path, names: Sequence[str], expected: tuple[str, ...]) -> tuple[Columns, dict[str, Any]]:
    """Return the columns, and the metadata that pandas calls `attrs`."""
    import pyarrow.parquet

    try:
        file = pyarrow.parquet.ParquetFile(path, memory_map=True, page_checksum_verification=True)
        present, metadata = file.schema_arrow.names, file.schema_arrow.metadata or {}
        table = file.read(columns=[name for name in names if name in present], use_threads=False)
        found = {name: _array(table[name], KINDS.get(name)) for name in table.column_names}
        attributes: dict[str, Any] = json.loads(metadata.get(b"PANDAS_ATTRS", "{}"))
    except (OSError, ValueError, TypeError, pyarrow.ArrowException) as error:
        raise _unreadable(path, error) from None
    check_columns(path, present, expected)
    return found, attributes


def read_judgements(path: Path) -> pd.DataFrame:
    """Return a judge's table. Raises `HarnessError` as `read_frame` does, and where a value was written as another."""
    table = read_frame(path, JUDGEMENT_COLUMNS)
    attributes = table.attrs
    try:
        table = table.astype(JUDGEMENT_NUMBERS)
    except (TypeError, ValueError) as error:
        raise _unreadable(path, error) from None
    _check_values(path, table, attributes)
    table.attrs = attributes
    return table


def judgement_columns(path: Path) -> Columns:
    """Return the same as arrays, without pandas."""
    columns, attributes = _read(path, JUDGEMENT_COLUMNS, JUDGEMENT_COLUMNS)
    _check_values(path, columns, attributes)
    return columns


def write_judgements(path: Path, table: pd.DataFrame) -> None:
    """Write a judge's table, whole or not at all, with a hash of its values and of its `attrs` among these."""
    unfinished = path.with_suffix(".unfinished")
    path.parent.mkdir(parents=True, exist_ok=True)
    table.attrs[VALUES] = _values_hash(table, table.attrs)
    table.to_parquet(unfinished, index=False, compression="zstd", write_page_checksum=True)
    unfinished.replace(path)


def _check_values(path: Path, table: pd.DataFrame | Columns, attributes: Mapping[Any, Any]) -> None:
    """Raise `HarnessError` where a judge's table has other values than were written; one of before has no hash."""
    if VALUES in attributes and attributes[VALUES] != _values_hash(table, attributes):
        raise HarnessError(
            f"{path}: got other values than were written, expected those of the hash in its metadata; "
            "delete it and judge again"
        )


def _values_hash(table: pd.DataFrame | Columns, attributes: Mapping[Any, Any]) -> str:
    """Return the sha256, in hex, of a judge's table: of its values as JSON, and of what else its metadata say."""
    columns = columns_of(table, JUDGEMENT_COLUMNS)
    said = {
        name: [each if isinstance(each, str | float) and each == each else None for each in columns[name].tolist()]
        for name in JUDGEMENT_COLUMNS
    }
    about = {name: value for name, value in sorted(attributes.items()) if name != VALUES}
    return hashlib.sha256(json.dumps([said, about]).encode()).hexdigest()


def columns_of(table: pd.DataFrame | Columns, names: Iterable[str]) -> Columns:
    """Return columns of a DataFrame as arrays; `Columns` are returned as they are."""
    if isinstance(table, Mapping):
        return table
    return {
        name: table[name].to_numpy(KINDS[name]) if name in KINDS else table[name].to_numpy(np.float64, na_value=np.nan)
        for name in names
    }


def check_columns(path: Path, got: list[str], expected: tuple[str, ...]) -> None:
    """Raise `HarnessError` where a table lacks a column."""
    missing = [column for column in expected if column not in got]
    if missing:
        raise HarnessError(
            f"{path}: got no column {', '.join(missing)}, expected all of {', '.join(expected)}; add them"
        )


def _array(column: Any, kind: type | None) -> NDArray[Any]:
    """Return a column of pyarrow's as an array; its own `to_numpy` imports pandas."""
    if kind is not None or column.null_count or not len(column) or str(column.type) == "bool":
        return np.array(column.to_pylist(), dtype=kind or np.float64)  # None becomes NaN
    return np.asarray(np.from_dlpack(column.combine_chunks()), dtype=np.float64)


def _unreadable(path: Path, error: Exception) -> HarnessError:
    again = "it and judge" if path.parent.name == JUDGEMENTS else "the cell's folder and run"
    return HarnessError(f"{path}: got {error}, expected a parquet table; delete {again} again")
