"""APO-zero: raises the chosen response and lowers the rejected one against the reference, each by a bounded term.

Formula: 1 - sigmoid(beta * h_w) + sigmoid(beta * h_l), h_w = S_w - R_w, h_l = S_l - R_l.
Reward: beta * (S - R)
Source: D'Oosterlinck et al. (2024), "Anchored Preference Optimization and Contrastive Revisions: Addressing
Underspecification in Alignment", arXiv:2408.06266.
Provenance: [V] TRL 1.16.0's code (`loss_type="apo_zero"`), by golden values; the paper was not checked against it.
Traps: for chosen responses that are better than the model's own; where they are worse the authors have apo-down. The
loss lies between 0 and 2 and its gradient vanishes at both ends: a badly misranked pair is given up, like a label that
is wrong.
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
class APOZero(Loss):
    """1 - sigmoid(chosen reward) + sigmoid(rejected reward)."""

    name: ClassVar[str] = "apo-zero"
    search_space: ClassVar[Mapping[str, Range]] = {"beta": Range(low=0.01, high=0.5, log=True)}
    needs_reference = True
    comparison = "unpaired"
    saturates = True  # sigmoids as values

    beta: float = 0.1
    """Strength of the tie to the reference model, above 0. Default: TRL's."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,)."""
        import torch

        chosen, rejected = (self.beta * ratio.to(pairs.chosen.token.dtype) for ratio in pairs.log_ratios())
        return Terms.of(torch.sigmoid(-chosen) + torch.sigmoid(rejected))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,): comparable between responses to one prompt only."""
        assert response.ref_sum is not None, "the reward of apo-zero needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [APOZero]
