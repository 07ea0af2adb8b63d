"""WPO: DPO with each pair weighted by how likely the policy itself finds its two responses.

Formula: -w * log sigmoid(beta * h), w = min(1, exp(a_w + a_l)) held constant, a = mean over the response tokens of
log p(y_t) - log sum_v p(v)^2.
Reward: beta * (S - R).
Source: Zhou et al. (2024), "WPO: Enhancing RLHF with Weighted Preference Optimization", arXiv:2406.11827, eq. 2,
weights aligned to sampling.
Provenance: [V] the authors' `scripts/run_wpo.py` (wzhouad/WPO, a104458) with the clamp and TRL 1.16.0's
`use_weighting` without, by golden values.
Traps: TRL 1.16 dropped the clamp of the product at 1 (`clamp=false` here): the two differ on greedy-like text. Without
it the exponent is capped at 30, which no softmax reaches: a <= log V, 12.4 for 250 000 tokens. The weights are not
rescaled: a mean weight far below 1 lowers the effective learning rate, and a pair of very unlikely responses
(a_w + a_l below -100) weighs nothing and learns nothing, misranked or not. A likelier response raises the weight, so
the VALUE may rise with it; the gradient, which holds w fixed, never pulls that way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.api import Logps, Loss, PairLogps, Range, ResponseLogps, Terms, hookimpl, require, stop_gradient

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class WPO(Loss):
    """-weight * log sigmoid(beta * (summed log-ratio chosen - summed log-ratio rejected))."""

    name: ClassVar[str] = "wpo"
    search_space: ClassVar[Mapping[str, Range]] = {"beta": Range(low=0.005, high=0.5, log=True)}
    needs_reference = True
    needs_log_sum_sq = True
    monotone = False  # the weight rises with either likelihood
    saturates = True  # the weight of unlikely responses underflows

    beta: float = 0.01
    """Strength of the tie to the reference model, above 0. Default: the authors'."""
    clamp: bool = True
    """Whether the product of the two weights is held at 1 at most. Default: the authors' code (TRL: no)."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the weighted loss of each pair, (B,)."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = pairs.log_ratios()
        logits = self.beta * (chosen - rejected).to(pairs.chosen.token.dtype)
        exponent = (_alignment(pairs.chosen) + _alignment(pairs.rejected)).clamp(max=0.0 if self.clamp else 30.0)
        return Terms.of(stop_gradient(exponent.exp().to(logits.dtype)) * -logsigmoid(logits))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,): comparable between responses to one prompt only."""
        assert response.ref_sum is not None, "the reward of wpo needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


def _alignment(side: Logps) -> Tensor:
    """Return the mean over the response tokens of log p(y_t) - log sum_v p(v)^2, (B,) float64."""
    import torch

    assert side.log_sum_sq is not None, "wpo needs the trait needs_log_sum_sq"
    excess = torch.where(side.mask, side.token.double() - side.log_sum_sq.double(), 0.0)
    return excess.sum(-1) / side.mask.sum(-1).clamp(min=1)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [WPO]
