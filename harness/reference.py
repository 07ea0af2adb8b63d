"""Reference log-probs: computed once per start checkpoint and token artefact, shared by every loss, seed and run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BLOCK = 16
"""Pairs computed together. Blocks are fixed by index, so a value does not depend on which run asked for it first."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Summed log-probs of the training responses under the start checkpoint, nats; NaN where nobody asked yet."""

    chosen: np.ndarray
    """(training pairs,) float64."""
    rejected: np.ndarray
    """(training pairs,) float64."""
    seconds: float
    """What the pairs asked for cost when they were computed, whoever paid."""
    cached: bool
    """True where nothing had to be computed this time."""


def reference_sums(
    folder: Path,
    key: str,
    n_pairs: int,
    wanted: np.ndarray,
    compute: Callable[[Sequence[int]], tuple[np.ndarray, np.ndarray]],
) -> Reference:
    """Return the reference sums of the pairs `wanted`, computing what `folder` does not hold yet under `key`.

    `compute(indices)` returns the summed log-probs (chosen, rejected) of those pairs, (len(indices),) each.
    """
    path = folder / f"{key}.npz"
    table = np.full((3, n_pairs), np.nan)  # chosen, rejected, seconds a pair
    if path.exists():
        with np.load(path) as stored:
            table = stored["table"]
    missing = np.unique(wanted[np.isnan(table[0, wanted])] // BLOCK)
    for block in missing:
        indices = range(block * BLOCK, min((block + 1) * BLOCK, n_pairs))
        began = time.perf_counter()
        table[0, indices], table[1, indices] = compute(indices)
        table[2, indices] = (time.perf_counter() - began) / len(indices)
    if len(missing):
        folder.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        with open(temporary, "wb") as file:
            np.savez(file, table=table)
        os.replace(temporary, path)
    return Reference(chosen=table[0], rejected=table[1], seconds=float(table[2, wanted].sum()), cached=not len(missing))
