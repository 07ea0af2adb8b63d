"""GPO: one convex function of DPO's margin, of six to choose from.

Formula: f(x), x = beta * h, h = (S_w - R_w) - (S_l - R_l); f = logistic log(1 + exp(-x)), hinge max(0, 1 - x), square
(x - 1)^2, exponential exp(-x), truncated_quadratic max(0, 1 - x)^2 or savage 1 / (1 + exp(x))^2.
Reward: beta * (S - R).
Source: Tang et al. (2024), "Generalized Preference Optimization: A Unified Approach to Offline Alignment",
arXiv:2402.05749.
Provenance: [S] the list of functions was read in the code of sunlin-ai/BPO, which uses the same six; the abstract
confirms DPO, IPO and SLiC as members; the paper's own text was not read. logistic and hinge agree with TRL 1.16.0's
`sigmoid` and `hinge`, by golden values.
Traps: the six differ in scale and slope, so beta and the learning rate must be tuned anew for each. "square" also pulls
back what exceeds the target: it is IPO on summed log-ratios with tau = beta / 2, times beta^2. "savage" is not convex,
and its gradient vanishes on badly misranked pairs. exp(-x) overflows: beyond an exponent of 0.4 * log(largest number of
the dtype) (35 in float32, 283 in float64) "exponential" goes on as its tangent, so that even the square of a gradient
stays finite and the gradient never vanishes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.api import Limit, Loss, PairLogps, Range, ResponseLogps, Terms, hookimpl, require

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
class GPO(Loss):
    """f(beta * (summed log-ratio chosen - summed log-ratio rejected))."""

    name: ClassVar[str] = "gpo"
    search_space: ClassVar[Mapping[str, Range]] = {"beta": Range(low=0.01, high=0.5, log=True)}
    needs_reference = True

    beta: float = 0.1
    """Scale of the log-ratios, above 0. Default: DPO's."""
    kind: Literal["logistic", "hinge", "square", "exponential", "truncated_quadratic", "savage"] = "logistic"
    """The function f. Default: ours, the logistic one, which is DPO."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")
        require(self.kind in FUNCTIONS, f"kind got '{self.kind}', expected one of {', '.join(FUNCTIONS)}")

    @property
    def monotone(self) -> bool:
        """All but "square", which has a target."""
        return self.kind != "square"

    @property
    def saturates(self) -> bool:
        """ "savage" alone: it tends to 1."""
        return self.kind == "savage"

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The members of the family that have a name of their own."""
        summed = {"tau": self.beta / 2, "reduction": "sum"}
        return (
            Limit(options={"kind": "logistic"}, equals="dpo", equals_options={"beta": self.beta}),
            Limit(options={"kind": "square"}, equals="ipo", equals_options=summed, scale=self.beta**2),
            Limit(options={"kind": "hinge"}, equals="rso", equals_options={"gamma": self.beta, "kind": "hinge_norm"}),
        )

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,)."""
        chosen, rejected = pairs.log_ratios()
        return Terms.of(FUNCTIONS[self.kind](self.beta * (chosen - rejected).to(pairs.chosen.token.dtype)))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,)."""
        assert response.ref_sum is not None, "the reward of gpo needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [GPO]
