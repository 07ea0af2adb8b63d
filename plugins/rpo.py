"""RPO (iterative RPO, DPO + NLL): DPO with the NLL of the chosen response beside it.

Formula: -log sigmoid(beta * h) + nll_weight * NLL(chosen), h = (S_w - R_w) - (S_l - R_l), NLL = -A_w with
`nll_reduction="sequence"`, the mean over all chosen tokens of the step with "token"; nll_weight 0 is DPO.
Reward: beta * (S - R)
Source: Pang et al. (2024), "Iterative Reasoning Preference Optimization", arXiv:2404.19733.
Provenance: [V] TRL 1.16.0's code (`loss_type=["sigmoid", "sft"]`), by golden values; the paper's weighting through a
TRL thread.
Traps: v1 of the paper and early TRL put the weight on the DPO term. TRL's NLL is the token mean of the batch, equal to
-A_w for one pair per batch only: long answers weigh more and the loss is batch-coupled. Response tokens only, where the
paper counts the chain of thought as response. The name is not unique: reward-aware PO (NVIDIA) and arXiv:2405.16436,
the latter of the same shape with beta 0.01 and weight 0.005.
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
class RPO(Loss):
    """-log sigmoid(beta * difference of log-ratios) + nll_weight * NLL(chosen)."""

    name: ClassVar[str] = "rpo"
    search_space: ClassVar[Mapping[str, Range]] = {
        "beta": Range(low=0.01, high=0.5, log=True),
        "nll_weight": Range(low=0.01, high=2.0, log=True),
    }
    needs_reference = True

    beta: float = 0.1
    """Strength of the tie to the reference model, above 0. Default: DPO's."""
    nll_weight: float = 1.0
    """Weight of the NLL term, at least 0. Default: the paper's."""
    nll_reduction: Literal["sequence", "token"] = "sequence"
    """NLL averaged over each response ("sequence", the paper) or over all chosen tokens of the step ("token", TRL)."""

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
        """Without the NLL it is DPO."""
        return (Limit(options={"nll_weight": 0.0}, equals="dpo", equals_options={"beta": self.beta}),)

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the logistic term and the weighted NLL of each pair, (B,) each."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = pairs.log_ratios()
        preference = -logsigmoid(self.beta * (chosen - rejected).to(pairs.chosen.token.dtype))
        if self.nll_reduction == "sequence":
            return Terms(preference, -self.nll_weight * pairs.chosen.mean())
        # -S_w * pairs / tokens: the mean over the step's pairs is the token mean, as the step loss is a mean over pairs
        tokens = pairs.chosen.length()
        return Terms(preference, -self.nll_weight * pairs.chosen.sum() * (tokens.numel() / tokens.sum()))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,): comparable between responses to one prompt only."""
        assert response.ref_sum is not None, "the reward of rpo needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [RPO]
