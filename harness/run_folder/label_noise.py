"""Noise in labels as a setting: which dial, and how far it is turned. `harness.data.noise` applies it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

GAUSSIAN = "gaussian"
DIALS = ("flip", "near-ties", "longer-wins", GAUSSIAN)


@dataclass(frozen=True, kw_only=True)
class NoiseSetting:
    """A dial of `DIALS`, turned."""

    dial: str
    amount: float
    """The share of all pairs whose label changes; of `gaussian` a standard deviation, in the unit of the scores."""

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the setting that `DIAL=AMOUNT` names; None for `none` and an amount of 0. Raises `ValueError`."""
        dial, _, number = (part.strip() for part in text.partition("="))
        if text.strip() == "none":
            return None
        try:
            amount = float(number)
        except ValueError:
            amount = math.nan
        if dial not in DIALS or not 0 <= amount <= (math.inf if dial == GAUSSIAN else 1) or math.isinf(amount):
            shares = ", ".join(f"{name}=SHARE" for name in DIALS if name != GAUSSIAN)
            raise ValueError(f"expected none, {shares} (0 to 1, of all pairs) or {GAUSSIAN}=SD (0 or more, of scores)")
        return cls(dial=dial, amount=amount) if amount else None

    def __str__(self) -> str:
        return f"{self.dial}={self.amount:.10g}"
