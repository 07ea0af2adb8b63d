"""A share of the cells of a run: what one of several processes computes, `--cells K/N`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from harness.api import HarnessError
from harness.planning.grid import Cell


@dataclass(frozen=True, kw_only=True)
class Share:
    """The K-th of N shares; the cells are known from the grid alone, so that processes need not ask each other."""

    number: int = 1
    """K, from 1."""
    of: int = 1
    """N; 1: all cells are computed here."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the share that `--cells K/N` names. Raises `HarnessError` for what is none."""
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise HarnessError(f"--cells got '{text}', expected K/N, the K-th of N shares, such as 1/4 to 4/4")
        return cls(number=int(found[1]), of=int(found[2]))

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def cut(self, cells: Sequence[Cell]) -> tuple[Cell, ...]:
        """Return the cells of this share: neighbours in the grid, so that few shares train the same model.

        Shares differ by one cell at most. Raises `HarnessError` where there are fewer cells than shares.
        """
        if self.of > len(cells):
            raise HarnessError(
                f"--cells got {self}, expected at most {len(cells)} shares, as this run has {len(cells)} cells"
            )
        return tuple(cells[(self.number - 1) * len(cells) // self.of : self.number * len(cells) // self.of])


WHOLE = Share()
"""The one share of a run that one process computes."""
