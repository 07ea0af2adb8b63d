"""Dual margin (arXiv:2502.14560): pairs that the scores and a model trained for a moment both have clearly right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.api import Candidate, HarnessError, Selector, StartLogps, hookimpl, score_margins

LEAST = 1e-6
"""How near to 0 and 1 a probability may come: two that are sure of the opposite would be 0 / 0."""


@dataclass(frozen=True, kw_only=True)
class DualMargin(Selector):
    """The pairs with the highest P = p q / (p q + (1 - p)(1 - q)).

    p is the score margin and q the implicit margin of a probe, each clipped to [L, U] and brought to 0 to 1. The
    implicit margin is the difference of log-ratios to the start, without beta; the probe is DPO on `probe` pairs drawn
    at random. The sources do not give L and U: here they are the quantiles `low` and `high` of each margin over all
    candidates.
    """

    name: ClassVar[str] = "dual-margin"
    needs_scores: ClassVar[bool] = True
    needs_logps: ClassVar[bool] = True

    share: float = 0.1
    probe: int = 256
    """Random pairs on which the probe is trained by DPO."""
    low: float = 0.05
    """Quantile of the margins that becomes 0."""
    high: float = 0.95
    """Quantile that becomes 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.probe < 1:
            raise HarnessError(f"probe got {self.probe}, expected 1 or more pairs")
        if not 0 <= self.low < self.high <= 1:
            raise HarnessError(f"low and high got {self.low} and {self.high}, expected 0 <= low < high <= 1")

    @property
    def probe_pairs(self) -> int:
        """As the option `probe` has it."""
        return self.probe

    def select(
        self, pairs: Sequence[Candidate], logps: StartLogps | None, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        assert logps is not None
        explicit = certainty(score_margins(pairs), self.low, self.high)
        implicit = certainty(log_ratio_margins(logps), self.low, self.high)
        return self.top(joint(explicit, implicit))


def log_ratio_margins(logps: StartLogps) -> NDArray[np.float64]:
    """Return the log-ratio of probe to start of the chosen response minus that of the rejected one, (pairs,), nats."""
    assert logps.probe is not None
    chosen, rejected = logps.probe
    return (chosen - logps.chosen) - (rejected - logps.rejected)


def certainty(margins: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    """Return margins brought from their quantiles `low` and `high` to 0 and 1; a half where these are the same."""
    lower, upper = np.quantile(margins, [low, high])
    if upper == lower:
        return np.full_like(margins, 0.5)
    found: NDArray[np.float64] = np.clip((np.clip(margins, lower, upper) - lower) / (upper - lower), LEAST, 1 - LEAST)
    return found


def joint(first: NDArray[np.float64], second: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how sure two independent witnesses are together."""
    both = first * second
    return both / (both + (1 - first) * (1 - second))


@hookimpl
def harness_selectors() -> list[type[Selector]]:
    """Return dual margin."""
    return [DualMargin]
