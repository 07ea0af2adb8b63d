"""f-DPO: DPO with another divergence from the reference than reverse KL.

Formula: -log sigmoid(beta * (g(h_w) - g(h_l))), h = S - R; g = forward_kl 1 - exp(-h), js log 2 + log sigmoid(h) or
alpha (exp((a - 1) * h) - 1) / (a - 1), a the coefficient; g is the derivative of the divergence's generator at exp(h).
Reward: beta * g(S - R).
Source: Wang et al. (2023), "Beyond Reverse KL: Generalizing Direct Preference Optimization with Diverse Divergence
Constraints", arXiv:2309.16240.
Provenance: [V] TRL 1.16.0's `f_divergence_type`, by golden values (alpha in float32, as TRL fails there in float64).
Traps: a is TRL's coefficient, 1 - the paper's alpha; a = 0 is forward KL, a = 1 reverse KL, which is DPO. The reward is
the trained one; TRL logs beta * (S - R), which ranks alike. It is bounded above (but for a = 1): likelier responses
tie once exp(-h) is below the precision of 1 (36 nats in float64, 17 in float32, 1 / (1 - a) times that for alpha), and
a pair whose two responses lie there has no gradient. exp(-h) is inf in TRL for responses much less likely than under
the reference: beyond an exponent of 0.4 * log(largest number of the dtype) (35 in float32, 283 in float64) g goes on as
its tangent, so that even the square of a gradient stays finite. Log-ratios are summed, so exp(-h) soon outgrows any
other term: expect divergence at DPO's learning rates.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.api import Limit, Loss, PairLogps, Range, ResponseLogps, Terms, hookimpl, require

if TYPE_CHECKING:
    from torch import Tensor

DIVERGENCES = ("forward_kl", "js", "alpha")


@dataclass(frozen=True, kw_only=True)
class FDPO(Loss):
    """-log sigmoid(beta * (g(summed log-ratio chosen) - g(summed log-ratio rejected)))."""

    name: ClassVar[str] = "f-dpo"
    search_space: ClassVar[Mapping[str, Range]] = {"beta": Range(low=0.01, high=0.5, log=True)}
    needs_reference = True
    saturates = True

    beta: float = 0.1
    """Strength of the tie to the reference model, above 0. Default: TRL's."""
    divergence: Literal["forward_kl", "js", "alpha"] = "forward_kl"
    """The divergence from the reference. Default: ours, the opposite of DPO's."""
    coefficient: float = 0.5
    """From 0 (forward KL) to 1 (reverse KL, DPO); read by "alpha" alone. Default: TRL's."""

    def __post_init__(self) -> None:
        divergence, coefficient = self.divergence, self.coefficient
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")
        require(divergence in DIVERGENCES, f"divergence got '{divergence}', expected one of {', '.join(DIVERGENCES)}")
        require(0 <= coefficient <= 1, f"coefficient got {coefficient}, expected a number from 0 to 1")

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The alpha-divergence with a coefficient of 1 is reverse KL."""
        options = {"divergence": "alpha", "coefficient": 1.0}
        return (Limit(options=options, equals="dpo", equals_options={"beta": self.beta}),)

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,)."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = (self._score(ratio.to(pairs.chosen.token.dtype)) for ratio in pairs.log_ratios())
        return Terms.of(-logsigmoid(self.beta * (chosen - rejected)))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * g(S - R), (B,)."""
        assert response.ref_sum is not None, "the reward of f-dpo needs the reference's log-probs"
        return self.beta * self._score(response.sum - response.ref_sum)

    def _score(self, ratio: Tensor) -> Tensor:
        """Return g of the summed log-ratios, (B,)."""
        import torch
        from torch.nn.functional import logsigmoid

        if self.divergence == "js":
            return math.log(2) + logsigmoid(ratio)
        power = -1.0 if self.divergence == "forward_kl" else self.coefficient - 1
        if power == 0:
            return ratio
        exponent = power * ratio
        capped = exponent.clamp(max=0.4 * math.log(torch.finfo(ratio.dtype).max))
        return (capped.expm1() + capped.exp() * (exponent - capped)) / power


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [FDPO]
