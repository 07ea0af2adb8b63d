"""CPO with a hinge in place of the logistic function: a margin of summed log-probs plus the NLL of the chosen response.

Formula: max(0, 1 - beta * (S_w - S_l)) + nll_weight * NLL(chosen), NLL = -A_w with `nll_reduction="sequence"`, the mean
over all chosen tokens of the step with "token".
Reward: beta * S.
Source: TRL's `CPOTrainer` with `loss_type="hinge"`; Xu et al. (2024), "Contrastive Preference Optimization: Pushing the
Boundaries of LLM Performance in Machine Translation", arXiv:2401.08417, for the NLL.
Provenance: [V] TRL 1.16.0's code, by golden values of the hinge term in float64.
Traps: not SLiC-HF, whose margin is in nats (delta = 1 / beta, and the hinge is beta times smaller), and whose NLL
weighs 0.1; without NLL it is `rso:kind=hinge`. A pair whose margin is met has no gradient but the NLL's. Summed
log-probs meet a margin by length alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.api import Limit, Loss, PairLogps, Range, ResponseLogps, Terms, hookimpl, require

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class CPOHinge(Loss):
    """max(0, 1 - beta * (summed logp chosen - summed logp rejected)) + nll_weight * NLL(chosen)."""

    name: ClassVar[str] = "cpo-hinge"
    search_space: ClassVar[Mapping[str, Range]] = {
        "beta": Range(low=0.01, high=1.0, log=True),
        "nll_weight": Range(low=0.01, high=2.0, log=True),
    }

    beta: float = 0.1
    """Scale of the summed log-probs, above 0; the margin is 1 / beta nats. Default: TRL's."""
    nll_weight: float = 1.0
    """Weight of the NLL term, at least 0. Default: TRL's."""
    nll_reduction: Literal["sequence", "token"] = "sequence"
    """NLL averaged over each response ("sequence") or over all chosen tokens of the step ("token", as TRL)."""

    def __post_init__(self) -> None:
        weight, reduction = self.nll_weight, self.nll_reduction
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")
        require(0 <= weight < math.inf, f"nll_weight got {weight}, expected a finite number of at least 0")
        require(reduction in ("sequence", "token"), f"nll_reduction got '{reduction}', expected 'sequence' or 'token'")

    @property
    def batch_coupled(self) -> bool:
        """Whether the NLL is a mean over the tokens of the step."""
        return self.nll_reduction == "token"

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Without NLL it is RSO's hinge."""
        hinge = {"kind": "hinge", "gamma": self.beta}
        return (Limit(options={"nll_weight": 0.0}, equals="rso", equals_options=hinge),)

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the hinge term and the weighted NLL of each pair, (B,) each."""
        preference = (1 - self.beta * (pairs.chosen.sum() - pairs.rejected.sum())).relu()
        if self.nll_reduction == "sequence":
            return Terms(preference, -self.nll_weight * pairs.chosen.mean())
        tokens = pairs.chosen.length()  # the mean over the step's pairs is then the mean over its tokens
        return Terms(preference, -self.nll_weight * pairs.chosen.sum() * (tokens.numel() / tokens.sum()))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * S, (B,)."""
        return self.beta * response.sum


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [CPOHinge]
