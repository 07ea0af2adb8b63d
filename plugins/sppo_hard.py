"""SPPO with hard labels: the log-ratio of each response is regressed on a target that its win or loss sets.

Formula: (h_w - t)^2 + (h_l + t)^2, t = 1 / (2 beta), h_w = S_w - R_w, h_l = S_l - R_l.
Reward: beta * (S - R)
Source: Wu et al. (2024), "Self-Play Preference Optimization for Language Model Alignment", arXiv:2405.00675.
Provenance: [V] TRL 1.16.0's code (`loss_type="sppo_hard"`), by golden values; the authors' code (uclaml/SPPO,
`sppo/trainer.py`) was read.
Traps: hard labels and one round: the method's win probabilities (PairRM) and its self-play rounds are not here. The
authors' code takes HALF of this sum. A log-ratio past its target raises the loss. The target is in nats per response: 5
at beta 0.1, but 500 at the authors' 0.001, where the loss starts at 500,000: clip the gradient and retune the learning
rate with beta.
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
class SPPOHard(Loss):
    """Squared distance of each log-ratio to 1 / (2 beta), chosen, and -1 / (2 beta), rejected."""

    name: ClassVar[str] = "sppo-hard"
    search_space: ClassVar[Mapping[str, Range]] = {"beta": Range(low=0.001, high=0.5, log=True)}
    needs_reference = True
    comparison = "pointwise"
    monotone = False  # a parabola a response

    beta: float = 0.1
    """Sets the targets +-1 / (2 beta) in nats, above 0. Default: TRL's (the authors' script: 0.001)."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,)."""
        chosen, rejected = (ratio.to(pairs.chosen.token.dtype) for ratio in pairs.log_ratios())
        target = 1 / (2 * self.beta)
        return Terms.of((chosen - target).square() + (rejected + target).square())

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,): comparable between responses to one prompt only."""
        assert response.ref_sum is not None, "the reward of sppo-hard needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [SPPOHard]
