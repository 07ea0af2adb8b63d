"""Reference log-probs: computed once per start checkpoint and token artefact, shared by every loss, seed and run."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

BLOCKS = {"cpu": 1}
"""Pairs computed together, by device; elsewhere 16. Blocks are fixed by index, so a value does not depend on which run
asked for it first. On a CPU one pair alone costs little more than its share of a block, and a block of 16 would compute
nearly all pairs of a data set for a run that visits a sixth of them."""

Ragged = Sequence[np.ndarray]
"""The token log-probs of each response, float32, nats; NaN where nobody asked yet."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Log-probs of the training responses under the start checkpoint, nats; NaN where nobody asked yet."""

    chosen: np.ndarray
    """(training pairs,) float64, summed."""
    rejected: np.ndarray
    """(training pairs,) float64, summed."""
    tokens: tuple[Ragged, Ragged] | None = None
    """A token, (chosen, rejected), where they were asked for."""
    mismatched: np.ndarray | None = None
    """(training pairs,) float64, summed: of the mismatched responses, where they were asked for."""
    seconds: float
    """What the pairs asked for cost when they were computed, whoever paid."""
    cached: bool
    """True where nothing had to be computed this time."""

    def swapped(self, where: np.ndarray) -> Reference:
        """Return it with chosen and rejected exchanged on the pairs `where`, (training pairs,) bool."""
        tokens = None
        if self.tokens is not None:
            sides = [
                (rejected, chosen) if swap else (chosen, rejected)
                for chosen, rejected, swap in zip(*self.tokens, where, strict=True)
            ]
            tokens = [chosen for chosen, _ in sides], [rejected for _, rejected in sides]
        return replace(
            self,
            chosen=np.where(where, self.rejected, self.chosen),
            rejected=np.where(where, self.chosen, self.rejected),
            tokens=tokens,
        )


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What a forward pass of the start checkpoint gave, or its cache."""

    sums: np.ndarray
    """(responses a pair, pairs) float64, nats; NaN where nobody asked yet."""
    tokens: tuple[Ragged, ...] | None
    """For each response of a pair, where token log-probs were asked for."""
    seconds: float
    cached: bool


def reference_pass(
    folder: Path,
    key: str,
    wanted: np.ndarray,
    compute: Callable[[Sequence[int]], Sequence[Ragged]],
    *,
    lengths: np.ndarray,
    block_pairs: int,
    tokens: bool = False,
) -> Pass:
    """Return the log-probs of the pairs `wanted`, computing what `folder` does not hold yet under `key`.

    `lengths`, (responses a pair, pairs), counts the tokens of every response; `block_pairs` neighbours are computed
    together. `compute(indices)` returns, for each response of a pair, the token log-probs of those pairs. Sums lie in
    `<key>.npz`, token log-probs, only where they are asked for, in `<key>-tokens.npz`.
    """
    responses, n_pairs = lengths.shape
    table = _stored(folder / f"{key}.npz", np.full((responses + 1, n_pairs), np.nan))  # sums, seconds a pair
    ends = np.cumsum(lengths)
    flat = _stored(folder / f"{key}-tokens.npz", np.full(ends[-1], np.nan, dtype=np.float32)) if tokens else None
    pieces = None if flat is None else np.split(flat, ends[:-1])  # views: writing to them writes to `flat`
    unknown = np.isnan(table[0, wanted])
    if flat is not None:
        unknown |= np.isnan(flat[(ends - lengths.ravel())[wanted]])
    missing = np.unique(wanted[unknown] // block_pairs)
    for block in missing:
        indices = range(block * block_pairs, min((block + 1) * block_pairs, n_pairs))
        began = time.perf_counter()
        for response, rows in enumerate(compute(indices)):
            table[response, indices] = [row.sum(dtype=np.float64) for row in rows]
            if pieces is not None:
                for index, row in zip(indices, rows, strict=True):
                    pieces[response * n_pairs + index][:] = row
        table[responses, indices] = (time.perf_counter() - began) / len(indices)
    if len(missing):
        _store(folder / f"{key}.npz", table)
        if flat is not None:
            _store(folder / f"{key}-tokens.npz", flat)
    return Pass(
        sums=table[:responses],
        tokens=None if pieces is None else tuple(pieces[k * n_pairs : (k + 1) * n_pairs] for k in range(responses)),
        seconds=float(table[responses, wanted].sum()),
        cached=not len(missing),
    )


def _stored(path: Path, empty: np.ndarray) -> np.ndarray:
    """Return the array in `path`, or `empty` where there is none of its shape."""
    if not path.exists():
        return empty
    with np.load(path) as stored:
        table: np.ndarray = stored["table"]
    return table if table.shape == empty.shape else empty


def _store(path: Path, table: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with open(temporary, "wb") as file:
        np.savez(file, table=table)
    os.replace(temporary, path)
