"""Alignment potential (arXiv:2503.01864): a large margin of scores that the start model does not have yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.api import Candidate, HarnessError, Selector, StartLogps, hookimpl, mean_gaps, score_margins


@dataclass(frozen=True, kw_only=True)
class AlignmentPotential(Selector):
    """The pairs with the highest z(|score margin|) - weight * z(|mean log-prob gap|).

    z is over all candidates, with the population's standard deviation (ddof 0); the gap is that of log-probs per token
    under the start checkpoint. The authors' code has weight 1 and share 0.4 for given pairs, and 2.5 and 0.25 for
    generated ones.
    """

    name: ClassVar[str] = "alignment-potential"
    needs_scores: ClassVar[bool] = True
    needs_logps: ClassVar[bool] = True

    share: float = 0.4
    weight: float = 1.0
    """Of the gap that the start checkpoint has already."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight < 0:
            raise HarnessError(f"weight got {self.weight}, expected 0 or more")

    def select(
        self, pairs: Sequence[Candidate], logps: StartLogps | None, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        assert logps is not None
        return self.top(potential(pairs, logps, self.weight))


def potential(pairs: Sequence[Candidate], logps: StartLogps, weight: float) -> NDArray[np.float64]:
    """Return the alignment potential of each pair, (pairs,)."""
    return _z(np.abs(score_margins(pairs))) - weight * _z(np.abs(mean_gaps(pairs, logps)))


def _z(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return z-scores; those of values that are all alike are 0."""
    spread = float(values.std())
    return (values - values.mean()) / spread if spread > 0 else np.zeros_like(values)


@hookimpl
def harness_selectors() -> list[type[Selector]]:
    """Return alignment potential."""
    return [AlignmentPotential]
