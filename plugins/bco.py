"""BCO: a binary classifier whose logit is the implicit reward; chosen responses are one class, rejected the other.

Formula: -log sigmoid(beta * h_w) - log sigmoid(-beta * h_l), h_w = S_w - R_w, h_l = S_l - R_l.
Reward: beta * (S - R)
Source: Jung et al. (2024), "Binary Classifier Optimization for Large Language Model Alignment", arXiv:2404.04656.
Provenance: [V] TRL 1.16.0's code (`loss_type="bco_pair"`), by golden values; the paper was not checked against it.
Traps: without the paper's reward shift, as TRL's pair form: there the logit is the reward less a running mean of the
rewards, here the threshold stays at the reference, and both responses may drift to one side of it. The value is an
upper bound of DPO's at the same beta, so the two losses do not compare by value.
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
class BCO(Loss):
    """-log sigmoid(chosen reward) - log sigmoid(-rejected reward), without a reward shift."""

    name: ClassVar[str] = "bco"
    search_space: ClassVar[Mapping[str, Range]] = {"beta": Range(low=0.01, high=0.5, log=True)}
    needs_reference = True
    comparison = "unpaired"

    beta: float = 0.1
    """Strength of the tie to the reference model, above 0. Default: TRL's."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,)."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = (self.beta * ratio.to(pairs.chosen.token.dtype) for ratio in pairs.log_ratios())
        return Terms.of(-logsigmoid(chosen) - logsigmoid(-rejected))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,): comparable between responses to one prompt only."""
        assert response.ref_sum is not None, "the reward of bco needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [BCO]
