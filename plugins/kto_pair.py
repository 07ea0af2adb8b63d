"""KTO on pairs without mismatched completions: each response against the mean log-ratio of the other side of the step.

Formula: (sigmoid(beta * (z_l - h_w)) + sigmoid(beta * (h_l - z_w))) / 2, h = S - R; z_w = max(0, mean of h_w over the
step) and z_l likewise, both held constant.
Reward: beta * (S - R).
Source: TRL's `loss_type="kto_pair"`, up to its version 0.8; Ethayarajh et al. (2024), "KTO: Model Alignment as Prospect
Theoretic Optimization", arXiv:2402.01306, for the terms.
Provenance: [V] values by TRL 0.8.6's own code, run in float64; the gradient differs as told below.
Traps: not `kto`: chosen and rejected responses answer the prompts they are judged on, so z is no estimate of the KL.
TRL lets the gradient flow through z; the KTO paper holds it constant, and so do we, as in `kto`. A pair is two
examples, so its value is the mean of the two. Both terms are sigmoids: the gradient vanishes on a response that is
badly wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.api import Loss, PairLogps, Range, ResponseLogps, Terms, hookimpl, require, stop_gradient

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class KTOPair(Loss):
    """Mean of 1 - sigmoid(beta * (h_w - z of the rejected)) and 1 - sigmoid(beta * (z of the chosen - h_l))."""

    name: ClassVar[str] = "kto-pair"
    search_space: ClassVar[Mapping[str, Range]] = {"beta": Range(low=0.01, high=0.5, log=True)}
    needs_reference = True
    batch_coupled = True
    comparison = "unpaired"
    saturates = True

    beta: float = 0.1
    """Scale of the log-ratios, above 0: how soon a response counts as won or lost. Default: TRL's."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the mean loss of the two examples of each pair, (B,)."""
        chosen, rejected = (ratio.to(pairs.chosen.token.dtype) for ratio in pairs.log_ratios())
        over_chosen, over_rejected = (stop_gradient(ratio.mean().clamp(min=0)) for ratio in (chosen, rejected))
        desirable = (self.beta * (over_rejected - chosen)).sigmoid()
        undesirable = (self.beta * (rejected - over_chosen)).sigmoid()
        return Terms.of((desirable + undesirable) / 2)

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,): the baselines are the same for all responses and left out."""
        assert response.ref_sum is not None, "the reward of kto-pair needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [KTOPair]
