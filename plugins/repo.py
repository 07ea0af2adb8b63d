"""RePO: a hinge on averaged log-probs with a target margin, no reference model and no beta.

Formula: max(0, gamma - (A_w - A_l)).
Reward: A = S / n.
Source: Wu et al. (2025), "RePO: ReLU-based Preference Optimization", arXiv:2503.07426.
Provenance: [V] the authors' `scripts/simpo_trainer.py` (junkangwu/RePO, 79cdf5b), by golden values.
Traps: gamma is in nats per token, comparable to SimPO's RATIO gamma / beta and not to its gamma. Pairs beyond the
margin have no gradient and stay in the mean: dividing by the active ones is another method. It is SimPO at beta ->
infinity.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.api import Limit, Loss, PairLogps, Range, ResponseLogps, Terms, hookimpl, require

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class RePO(Loss):
    """max(0, gamma - (mean logp chosen - mean logp rejected))."""

    name: ClassVar[str] = "repo"
    search_space: ClassVar[Mapping[str, Range]] = {"gamma": Range(low=0.1, high=2.0, log=True)}
    length_normalised = True

    gamma: float = 0.4
    """Target margin in nats per token, at least 0. Default: the authors' Mistral and Gemma recipes (Llama 3: 0.6)."""

    def __post_init__(self) -> None:
        require(0 <= self.gamma < math.inf, f"gamma got {self.gamma}, expected a finite number of at least 0")

    @property
    def limits(self) -> tuple[Limit, ...]:
        """SimPO with a huge beta: softplus(beta * x) / beta is max(0, x) up to log(2) / beta, the gradient off 0."""
        steep = {"beta": 1e6, "gamma": 1e6 * self.gamma}
        return (Limit(options={}, equals="simpo", equals_options=steep, scale=1e-6, tolerance=1e-5),)

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,)."""
        return Terms.of((self.gamma - (pairs.chosen.mean() - pairs.rejected.mean())).relu())

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return A, (B,); the margin is part of the loss, never of the reward."""
        return response.sum / response.length


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [RePO]
