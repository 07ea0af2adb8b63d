"""APO-zero for labelled responses: KTO's weighted mean over the two examples of a pair, without a baseline.

Formula: (w_d * (1 - sigmoid(beta * h_w)) + w_u * sigmoid(beta * h_l)) / 2, h = S - R; with weights of 1 half of
apo-zero.
Reward: beta * (S - R).
Source: TRL's `KTOTrainer` with `loss_type="apo_zero_unpaired"`; D'Oosterlinck et al. (2024), "Anchored Preference
Optimization and Contrastive Revisions: Addressing Underspecification in Alignment", arXiv:2408.06266, for the terms.
Provenance: [V] values by TRL 0.12.2's own code, run in float64.
Traps: a pair is two examples, so its value is the mean of the two, half of `apo-zero`: the two differ by a constant
factor that Adam hardly feels, and by the weights. The gradient vanishes on a response that is badly wrong.
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
class APOZeroUnpaired(Loss):
    """Weighted mean of 1 - sigmoid(chosen reward) and sigmoid(rejected reward)."""

    name: ClassVar[str] = "apo-zero-unpaired"
    search_space: ClassVar[Mapping[str, Range]] = {
        "beta": Range(low=0.01, high=0.5, log=True),
        "desirable_weight": Range(low=0.75, high=1.5, log=True),
    }
    needs_reference = True
    comparison = "unpaired"
    saturates = True  # sigmoids as values

    beta: float = 0.1
    """Strength of the tie to the reference model, above 0. Default: TRL's."""
    desirable_weight: float = 1.0
    """Weight of the chosen response, above 0. Default: TRL's."""
    undesirable_weight: float = 1.0
    """Weight of the rejected response, above 0. Default: TRL's."""

    def __post_init__(self) -> None:
        for option in ("beta", "desirable_weight", "undesirable_weight"):
            value = getattr(self, option)
            require(0 < value < math.inf, f"{option} got {value}, expected a finite number above 0")

    @property
    def limits(self) -> tuple[Limit, ...]:
        """With weights of 1 it is half of apo-zero."""
        plain, same = {"desirable_weight": 1.0, "undesirable_weight": 1.0}, {"beta": self.beta}
        return (Limit(options=plain, equals="apo-zero", equals_options=same, scale=0.5),)

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the mean loss of the two examples of each pair, (B,)."""
        chosen, rejected = (self.beta * ratio.to(pairs.chosen.token.dtype) for ratio in pairs.log_ratios())
        desirable, undesirable = (-chosen).sigmoid(), rejected.sigmoid()
        return Terms.of((self.desirable_weight * desirable + self.undesirable_weight * undesirable) / 2)

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,): comparable between responses to one prompt only."""
        assert response.ref_sum is not None, "the reward of apo-zero-unpaired needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [APOZeroUnpaired]
