"""The columns that a loss declares or prepares, for the training pairs. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from harness.api import HarnessError, Loss, Pair
from harness.data.tokens import TokenPair
from harness.training.reference_cache import Reference

LARGEST = float(np.finfo(np.float32).max)
"""Losses get their columns as fp32, in which a larger number is infinite."""


def prepare_columns(
    loss: Loss, pairs: Sequence[Pair], tokens: Sequence[TokenPair], visited: np.ndarray, reference: Reference | None
) -> dict[str, np.ndarray]:
    """Return the columns that a loss declares and prepares, (pairs,) float64 each, NaN for pairs that are not visited.

    `visited` holds the indices of the pairs that the budget visits. Raises `HarnessError` if the data lack a column
    that the loss needs, or if `prepare` returns the wrong shape.
    """
    table = _table(pairs, tokens, visited, reference if loss.needs_reference else None)
    columns: dict[str, np.ndarray] = {}
    for name in loss.needs_columns:
        if name not in table or not np.isfinite(table[name].to_numpy(dtype=np.float64)).all():
            known = int(np.isfinite(table[name].to_numpy(dtype=np.float64)).sum()) if name in table else 0
            raise HarnessError(
                f"loss '{loss.name}' needs '{name}' for every training pair, got it for {known} of {len(table)}; "
                "use data with annotation scores or leave this loss out"
            )
        columns[name] = table[name].to_numpy(dtype=np.float64)
    columns |= _prepared(loss, table.copy())  # it may write into what it gets
    return {name: _scatter(values, visited, len(pairs)) for name, values in columns.items()}


def _prepared(loss: Loss, table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return what the loss prepares, (rows,) float64 each. Raises `HarnessError` where that is not finite numbers."""
    given = loss.prepare(table)
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise HarnessError(f"loss '{loss.name}': prepare gave a {type(given).__name__}, expected arrays by name")
    columns = {}
    for name, values in given.items():
        array, trouble = np.asarray(values), ""
        if array.shape != (len(table),):
            trouble = f"of shape {array.shape}"
        elif array.dtype.kind not in "fiub":
            trouble = f"of type {array.dtype}"
        elif lost := int((~(np.abs(array.astype(np.float64)) <= LARGEST)).sum()):
            trouble = f"that is not finite in fp32 for {lost} of {len(table)} pairs"
        if trouble:
            raise HarnessError(
                f"loss '{loss.name}': prepare gave '{name}' {trouble}, expected ({len(table)},) finite numbers"
            )
        columns[name] = array.astype(np.float64)
    return columns


def _table(
    pairs: Sequence[Pair], tokens: Sequence[TokenPair], visited: np.ndarray, reference: Reference | None
) -> pd.DataFrame:
    """Return the table that `Loss.prepare` gets: one row per visited pair."""
    rows = [pairs[i] for i in visited]
    ids = [tokens[i] for i in visited]
    table = pd.DataFrame(
        {
            "pair_id": [pair.pair_id for pair in rows],
            "prompt_id": [pair.prompt_id for pair in rows],
            "prompt": [pair.prompt for pair in rows],
            "chosen": [pair.chosen for pair in rows],
            "rejected": [pair.rejected for pair in rows],
            "score_chosen": [pair.score_chosen for pair in rows],
            "score_rejected": [pair.score_rejected for pair in rows],
            "chosen_tokens": [len(pair.chosen_ids) for pair in ids],
            "rejected_tokens": [len(pair.rejected_ids) for pair in ids],
        }
    )
    if reference is not None:
        table["ref_chosen"], table["ref_rejected"] = reference.chosen[visited], reference.rejected[visited]
    return table


def _scatter(values: np.ndarray, visited: np.ndarray, length: int) -> np.ndarray:
    """Return an array of `length` with `values` at the places `visited` and NaN elsewhere."""
    full = np.full(length, np.nan)
    full[visited] = values
    return full
