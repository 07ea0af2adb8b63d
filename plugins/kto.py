"""KTO: each response judged by its label alone, against a baseline that the whole step shares.

Formula: (w_d * sigmoid(beta * (z - h_w)) + w_u * sigmoid(beta * (h_l - z))) / 2, h = S - R; the baseline z = max(0,
mean over the step's mismatched completions of (S - R)) is held constant.
Reward: beta * (S - R).
Source: Ethayarajh et al. (2024), "KTO: Model Alignment as Prospect Theoretic Optimization", arXiv:2402.01306, eq. 7-8.
Provenance: [V] TRL 1.16.0's code, by golden values: z, every example, the rewards.
Traps: a pair is two examples, so its value is the mean of the two: the mean over pairs is the method's mean over
examples. Both terms are sigmoids: the gradient vanishes on a response that is badly wrong, and beyond some 80 nats of
beta * h it underflows to 0 in float32. z couples the pairs of a step. A mismatched completion must not answer the same
prompt: rotating a batch in which the two answers of a prompt are neighbours gives just that. HALOs averages the
non-zero entries of z only and returns rewards without beta; we take the plain mean, as TRL.
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
class KTO(Loss):
    """Mean of 1 - sigmoid(beta * (h_w - z)) and 1 - sigmoid(beta * (z - h_l)), weighted."""

    name: ClassVar[str] = "kto"
    search_space: ClassVar[Mapping[str, Range]] = {
        "beta": Range(low=0.01, high=0.5, log=True),
        "desirable_weight": Range(low=0.75, high=1.5, log=True),
    }
    needs_reference = True
    needs_kl = True
    batch_coupled = True
    comparison = "unpaired"
    saturates = True

    beta: float = 0.1
    """Scale of the log-ratios, above 0: how soon a response counts as won or lost. Default: the paper's."""
    desirable_weight: float = 1.0
    """Weight of the chosen response, above 0; keep it at 1 to 4/3 of the other on pairs. Default: the paper's."""
    undesirable_weight: float = 1.0
    """Weight of the rejected response, above 0. Default: the paper's."""

    def __post_init__(self) -> None:
        for option in ("beta", "desirable_weight", "undesirable_weight"):
            value = getattr(self, option)
            require(0 < value < math.inf, f"{option} got {value}, expected a finite number above 0")

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the mean loss of the two examples of each pair, (B,)."""
        assert pairs.kl is not None, "kto needs mismatched completions"
        assert pairs.ref_kl is not None
        dtype = pairs.chosen.token.dtype
        chosen, rejected = (ratio.to(dtype) for ratio in pairs.log_ratios())
        baseline = stop_gradient((pairs.kl.sum() - pairs.ref_kl).mean().clamp(min=0).to(dtype))
        desirable = self.desirable_weight * (self.beta * (baseline - chosen)).sigmoid()
        undesirable = self.undesirable_weight * (self.beta * (rejected - baseline)).sigmoid()
        return Terms.of((desirable + undesirable) / 2)

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,): the baseline is one number for all responses and left out."""
        assert response.ref_sum is not None, "the reward of kto needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [KTO]
