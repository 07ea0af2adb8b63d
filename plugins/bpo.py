"""BPO (balanced): pushes whichever of the two responses is worse off relative to the reference.

Formula: f(rho), rho = beta * min(h_w, -adaptor * h_l), h = S - R; f = hinge max(0, 1 - rho), logistic
log(1 + exp(-rho)), square (rho - 1)^2, exponential exp(-rho), truncated_quadratic max(0, 1 - rho)^2 or savage
1 / (1 + exp(rho))^2.
Reward: beta * (S - R).
Source: Sun et al. (2025), "BPO: Revisiting Preference Modeling in Direct Preference Optimization", arXiv:2506.03557.
Provenance: [V] the authors' `train_dpo.py` (sunlin-ai/BPO, d882c0f), by golden values of all six functions.
Traps: other methods are called BPO too. The gradient reaches only the smaller of the two; at the start both are 0 and
share it equally, and under a small adaptor the chosen response is pushed first. An adaptor of 0.3 belongs to the code's
`balance_hinge_alpha` and `balance_logistic_alpha`; its other variants have 1. "square" also pulls back what exceeds the
target; the gradient of "savage" vanishes where rho is far below 0. exp(-rho) overflows: beyond an exponent of
0.4 * log(largest number of the dtype) (35 in float32, 283 in float64) "exponential" goes on as its tangent, so that
even the square of a gradient stays finite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.api import ComparisonKind, Loss, PairLogps, Range, ResponseLogps, Terms, hookimpl, require

if TYPE_CHECKING:
    from torch import Tensor


def logistic(margin: Tensor) -> Tensor:
    """Return -log sigmoid(margin)."""
    from torch.nn.functional import logsigmoid

    return -logsigmoid(margin)


def exponential(margin: Tensor) -> Tensor:
    """Return exp(-margin), and its tangent where that grows too large."""
    import torch

    exponent = (-margin).clamp(max=0.4 * math.log(torch.finfo(margin.dtype).max))
    return exponent.exp() * (1 + (-margin - exponent))


FUNCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "logistic": logistic,
    "hinge": lambda margin: (1 - margin).relu(),
    "square": lambda margin: (margin - 1).square(),
    "exponential": exponential,
    "truncated_quadratic": lambda margin: (1 - margin).relu().square(),
    "savage": lambda margin: margin.neg().sigmoid().square(),
}


@dataclass(frozen=True, kw_only=True)
class BPO(Loss):
    """f(beta * min(summed log-ratio chosen, -adaptor * summed log-ratio rejected))."""

    name: ClassVar[str] = "bpo"
    search_space: ClassVar[Mapping[str, Range]] = {
        "beta": Range(low=0.01, high=0.5, log=True),
        "adaptor": Range(low=0.1, high=1.0),
    }
    needs_reference = True

    beta: float = 0.1
    """Scale of the log-ratios, above 0. Default: the authors' configuration."""
    kind: Literal["logistic", "hinge", "square", "exponential", "truncated_quadratic", "savage"] = "hinge"
    """The function f. Default: the authors' configuration."""
    adaptor: float = 0.3
    """Gap adaptor: weight of the rejected response's log-ratio, above 0 and at most 1. Default: as above."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")
        require(self.kind in FUNCTIONS, f"kind got '{self.kind}', expected one of {', '.join(FUNCTIONS)}")
        require(0 < self.adaptor <= 1, f"adaptor got {self.adaptor}, expected a number above 0 and at most 1")

    @property
    def comparison(self) -> ComparisonKind:
        """Each response is compared with the reference, and the worse one counts."""
        return "pointwise"

    @property
    def monotone(self) -> bool:
        """All but "square", which has a target."""
        return self.kind != "square"

    @property
    def saturates(self) -> bool:
        """ "savage" alone: rho is below 0 on every misranked pair, and there only savage tends to a constant."""
        return self.kind == "savage"

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,)."""
        chosen, rejected = pairs.log_ratios()
        balanced = self.beta * chosen.minimum(-self.adaptor * rejected)
        return Terms.of(FUNCTIONS[self.kind](balanced.to(pairs.chosen.token.dtype)))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,)."""
        assert response.ref_sum is not None, "the reward of bpo needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [BPO]
