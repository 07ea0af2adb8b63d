"""ExampleHinge: a pairwise hinge on averaged log-probs, from a distribution of its own.

Formula: max(0, margin - (A_w - A_l)), A = log-prob averaged over the response tokens.
Reward: A.
Source: an example, no paper; RePO (arXiv:2503.07426) has this form.
Provenance: [R] written for this example and tested against a calculation by hand.
Traps: pairs beyond the margin have no gradient, and the mean is still over all pairs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from harness.api import Loss, PairLogps, Range, ResponseLogps, Terms, hookimpl, require


@dataclass(frozen=True, kw_only=True)
class ExampleHinge(Loss):
    """max(0, margin - (mean logp chosen - mean logp rejected))."""

    name: ClassVar[str] = "example-hinge"
    search_space: ClassVar[Mapping[str, Range]] = {"margin": Range(low=0.1, high=2.0, log=True)}
    length_normalised = True

    margin: float = 0.5
    """Gap in nats per token beyond which a pair costs nothing, above 0. Default: a guess."""

    def __post_init__(self) -> None:
        require(0 < self.margin < math.inf, f"margin got {self.margin}, expected a finite number above 0")

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,)."""
        return Terms.of((self.margin - (pairs.chosen.mean() - pairs.rejected.mean())).relu())

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return A, (B,)."""
        return response.sum / response.length


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [ExampleHinge]
