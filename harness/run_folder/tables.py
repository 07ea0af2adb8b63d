"""The tables of a cell: their columns, what identifies a row, and reading them. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from harness.api.errors import HarnessError
from harness.run_folder.paths import RESPONSES, ROWS

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
QUESTION_KEYS = JUDGEMENT_COLUMNS[:5]
"""What identifies a row of it."""
JUDGED = "answers"
"""In its metadata, as `DataFrame.attrs`: the sha256 of the generations.parquet that it is about."""

PAIR_KEYS = ("split", "prompt_id", "pair_id")
"""What identifies a row of rows.parquet."""
RESPONSE_KEYS = ("prompt_id", "response_id")
"""What identifies a row of responses.parquet; pairs of several splits may share a response."""

OWNER = "cell"
"""In the metadata of both tables, as `DataFrame.attrs`: the key of the cell that they are of."""

KINDS: Mapping[str, type] = {
    **dict.fromkeys(("split", "prompt_id", "pair_id", "response_id", SUBSET, "text", "against", "reason"), object),
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
    import pyarrow.parquet

    names, expected = list(names), {ROWS: ROW_COLUMNS, RESPONSES: RESPONSE_COLUMNS}.get(path.name, ())
    try:
        file = pyarrow.parquet.ParquetFile(path, memory_map=True, page_checksum_verification=True)
        present = file.schema_arrow.names
        table = file.read(columns=[name for name in names if name in present], use_threads=False)
    except (OSError, ValueError) as error:  # pyarrow's own errors are of these two kinds
        raise _unreadable(path, error) from None
    check_columns(path, present, expected)
    return {name: _array(table[name], KINDS.get(name)) for name in table.column_names}


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
    return HarnessError(f"{path}: got {error}, expected a parquet table; delete the cell's folder and run again")
