"""APO-down: lowers both responses against the reference, the rejected one more.

Formula: sigmoid(beta * h_w) + 1 - sigmoid(beta * h), h_w = S_w - R_w, h = h_w - (S_l - R_l).
Reward: beta * (S - R)
Source: D'Oosterlinck et al. (2024), "Anchored Preference Optimization and Contrastive Revisions: Addressing
Underspecification in Alignment", arXiv:2408.06266.
Provenance: [V] TRL 1.16.0's code (`loss_type="apo_down"`), by golden values; the paper was not checked against it.
Traps: for chosen responses that are worse than the model's own: a likelier CHOSEN response raises the loss wherever h
is farther from 0 than h_w, so the chosen log-prob falls by design. The loss lies between 0 and 2 and its gradient
vanishes at both ends: a badly misranked pair is given up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.api import Loss, PairLogps, Range, ResponseLogps, Terms, hookimpl, require

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class APODown(Loss):
    """sigmoid(chosen reward) + 1 - sigmoid(chosen reward - rejected reward)."""

    name: ClassVar[str] = "apo-down"
    search_space: ClassVar[Mapping[str, Range]] = {"beta": Range(low=0.01, high=0.5, log=True)}
    needs_reference = True
    monotone = False  # the first term pulls the chosen response down
    saturates = True  # sigmoids as values

    beta: float = 0.1
    """Strength of the tie to the reference model, above 0. Default: TRL's."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,)."""
        import torch

        chosen, rejected = (self.beta * ratio.to(pairs.chosen.token.dtype) for ratio in pairs.log_ratios())
        return Terms.of(torch.sigmoid(chosen) + torch.sigmoid(rejected - chosen))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,): comparable between responses to one prompt only."""
        assert response.ref_sum is not None, "the reward of apo-down needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [APODown]
