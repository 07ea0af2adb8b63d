"""Robust DPO: DPO's loss made unbiased under labels that are flipped at a known rate.

Formula: (-(1 - e) log sigmoid(beta * h) + e log sigmoid(-beta * h)) / (1 - 2 e), h = (S_w - R_w) - (S_l - R_l); e =
flip, 0 is DPO.
Reward: beta * (S - R)
Source: Chowdhury, Kini, Natarajan (2024), "Provably Robust DPO: Aligning Language Models with Noisy Feedback",
arXiv:2403.00409.
Provenance: [V] TRL 1.16.0's code (`loss_type="robust"`), by golden values.
Traps: not cDPO (label_smoothing of dpo): the flipped term is subtracted here. The loss falls below 0 and has no lower
bound: far out a well-ranked pair still gains e / (1 - 2 e) per unit of beta * h, so rewards keep growing; read its
accuracy, not its loss curve. 1 / (1 - 2 e) scales the gradient: 1.25 times at 0.1, 5 times at 0.4.
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
class RobustDPO(Loss):
    """DPO's logistic loss less the share of it that flipped labels put there."""

    name: ClassVar[str] = "robust-dpo"
    search_space: ClassVar[Mapping[str, Range]] = {
        "beta": Range(low=0.01, high=0.5, log=True),
        "flip": Range(low=0.0, high=0.4),
    }
    needs_reference = True

    beta: float = 0.1
    """Strength of the tie to the reference model, above 0. Default: TRL's."""
    flip: float = 0.1
    """Share of labels that are flipped, at least 0 and below 0.5. Default: our choice; TRL's is 0, plain DPO."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")
        require(0 <= self.flip < 0.5, f"flip got {self.flip}, expected a number of at least 0 and below 0.5")

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Without flips it is DPO."""
        return (Limit(options={"flip": 0.0}, equals="dpo", equals_options={"beta": self.beta}),)

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,); it may be negative."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = pairs.log_ratios()
        logits = self.beta * (chosen - rejected).to(pairs.chosen.token.dtype)
        kept, flipped = 1 - self.flip, self.flip
        return Terms.of((flipped * logsigmoid(-logits) - kept * logsigmoid(logits)) / (kept - flipped))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,): comparable between responses to one prompt only."""
        assert response.ref_sum is not None, "the reward of robust-dpo needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [RobustDPO]
