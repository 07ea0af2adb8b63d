"""Log-probs under the reference model, computed once per start checkpoint and data set for all losses and runs."""

from __future__ import annotations

import io
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from harness.api import HarnessError
from harness.run_folder.store import write_atomically

BLOCKS = {"cpu": 1}
"""Number of pairs computed together, by type of device; 16 on those not listed.

Block k holds the pairs k * size to (k + 1) * size - 1 of the data set and is computed as a whole, whichever of them a
run needs. The last digits of a value depend on what it is batched with; so they do not depend on which run came first.
On a CPU the size is 1: a pair by itself costs little more than in a block, while a run that visits a sixth of the data
would need nearly every block of 16."""

Ragged = Sequence[np.ndarray]
"""The token log-probs of each response, float32, nats; NaN where not computed yet."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """Log-probs of the training responses under the reference model, nats; NaN where not computed yet."""

    chosen: np.ndarray
    """(training pairs,) float64, summed over tokens."""
    rejected: np.ndarray
    """(training pairs,) float64, summed over tokens."""
    tokens: tuple[Ragged, Ragged] | None = None
    """Per token, (chosen, rejected), if they were asked for."""
    entropy: tuple[np.ndarray, np.ndarray] | None = None
    """(training pairs,) float64 each, chosen and rejected: entropy per token over log(vocabulary), if asked for."""
    mismatched: np.ndarray | None = None
    """(training pairs,) float64, summed over tokens: of the mismatched responses, if they were asked for."""
    seconds: float
    """Time that the requested pairs took when they were computed, in this run or in an earlier one."""
    cached: bool
    """Whether all of it was in the cache and nothing had to be computed."""

    def swapped(self, where: np.ndarray) -> Reference:
        """Return the same with chosen and rejected swapped for the pairs `where`, (training pairs,) bool."""
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
            entropy=None
            if self.entropy is None
            else (np.where(where, *self.entropy[::-1]), np.where(where, *self.entropy)),
        )


@dataclass(frozen=True, kw_only=True)
class Pass:
    """The result of a forward pass of the reference model, computed or from the cache."""

    sums: np.ndarray
    """(responses per pair, pairs) float64, nats; NaN where not computed yet."""
    lengths: np.ndarray
    """(responses per pair, pairs): tokens of each response."""
    tokens: tuple[Ragged, ...] | None
    """For each response of a pair, if token log-probs were asked for."""
    seconds: float
    """As in `Reference`."""
    cached: bool
    """As in `Reference`."""


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
    """Return the log-probs of the pairs `wanted`; those not yet in the cache in `folder`, under `key`, are computed.

    `lengths`, (responses per pair, pairs), is the number of tokens of every response; `block_pairs` neighbours are
    computed together, see `BLOCKS`. `compute(indices)` returns, for each response of a pair, the token log-probs of
    those pairs. Sums are stored in `<key>.npz`, token log-probs, only with `tokens`, in `<key>-tokens.npz`.
    """
    responses, n_pairs = lengths.shape
    table = _stored(
        folder / f"{key}.npz", np.full((responses + 1, n_pairs), np.nan)
    )  # sums; last row: seconds per pair
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
        require_finite(table[:responses, indices], indices)
        table[responses, indices] = (time.perf_counter() - began) / len(indices)
    if len(missing):
        _store(folder / f"{key}.npz", table)
        if flat is not None:
            _store(folder / f"{key}-tokens.npz", flat)
    return Pass(
        sums=table[:responses],
        lengths=lengths,
        tokens=None if pieces is None else tuple(pieces[k * n_pairs : (k + 1) * n_pairs] for k in range(responses)),
        seconds=float(table[responses, wanted].sum()),
        cached=not len(missing),
    )


def require_finite(sums: np.ndarray, indices: Sequence[int]) -> None:
    """Raise `HarnessError` where a log-prob of the reference is not finite; `sums` is (responses per pair, indices)."""
    lost = [index for index, finite in zip(indices, np.isfinite(sums).all(axis=0), strict=True) if not finite]
    if lost:
        raise HarnessError(
            f"the start checkpoint gives a log-prob of {sums[~np.isfinite(sums)][0]} to training pair {lost[0] + 1}, "
            "expected finite numbers; every loss that reads the reference would be nan: take another checkpoint, or "
            "--dtype float32"
        )


def _stored(path: Path, empty: np.ndarray) -> np.ndarray:
    """Return the array stored in `path`, or `empty` if there is none of the same shape, or it is damaged."""
    if not path.exists():
        return empty
    try:
        with open(path, "rb") as file, np.load(file) as stored:  # which would leave a damaged file open
            table: np.ndarray = stored["table"]
    except (OSError, ValueError, KeyError, EOFError, NotImplementedError, zipfile.BadZipFile):  # zip has check sums
        return empty
    return table if table.shape == empty.shape else empty


def _store(path: Path, table: np.ndarray) -> None:
    packed = io.BytesIO()
    np.savez(packed, table=table)
    write_atomically(path, packed.getvalue())
