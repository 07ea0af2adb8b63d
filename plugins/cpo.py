"""CPO: reference-free logistic loss on summed log-probs, with the NLL of the chosen response.

Formula: -(1 - e) log sigmoid(beta * (S_w - S_l)) - e log sigmoid(-beta * (S_w - S_l)) + nll_weight * NLL(chosen).
Reward: beta * S.
Source: Xu et al. (2024), "Contrastive Preference Optimization: Pushing the Boundaries of LLM Performance in Machine
Translation", arXiv:2401.08417, eq. 3-5.
Provenance: [V] TRL 1.16.0's `CPOTrainer`, by golden values, its NLL with `nll_reduction="token"`.
Traps: summed log-probs favour brevity. The NLL has two flavours that differ wherever lengths do: "sequence" is a
value of the pair alone, "token" (TRL's) is a mean over the tokens of the whole step, so long answers weigh more and
the loss is batch-coupled. The NLL covers response tokens only. `fe1ixxu/ALMA`'s head is no longer CPO.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.api import Loss, PairLogps, Range, ResponseLogps, Terms, hookimpl, require

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class CPO(Loss):
    """-log sigmoid(beta * (summed logp chosen - summed logp rejected)) + nll_weight * NLL(chosen)."""

    name: ClassVar[str] = "cpo"
    search_space: ClassVar[Mapping[str, Range]] = {
        "beta": Range(low=0.01, high=1.0, log=True),
        "nll_weight": Range(low=0.01, high=2.0, log=True),
    }

    beta: float = 0.1
    """Scale of the summed log-probs, above 0. Default: the paper's."""
    nll_weight: float = 1.0
    """Weight of the NLL term, at least 0. Default: the paper's plain sum."""
    nll_reduction: Literal["sequence", "token"] = "sequence"
    """NLL averaged over each response ("sequence") or over all chosen tokens of the step ("token", as TRL)."""
    label_smoothing: float = 0.0
    """Assumed share of flipped labels, at least 0 and below 0.5. Default: TRL's."""

    def __post_init__(self) -> None:
        smoothing, reduction = self.label_smoothing, self.nll_reduction
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")
        require(0 <= self.nll_weight < math.inf, f"nll_weight got {self.nll_weight}, expected a number of at least 0")
        require(reduction in ("sequence", "token"), f"nll_reduction got '{reduction}', expected 'sequence' or 'token'")
        require(0 <= smoothing < 0.5, f"label_smoothing got {smoothing}, expected a number of at least 0 and below 0.5")

    @property
    def batch_coupled(self) -> bool:
        """Whether the NLL is a mean over the tokens of the step."""
        return self.nll_reduction == "token"

    @property
    def monotone(self) -> bool:
        """Not with label smoothing, which pulls a gap back that is too sure."""
        return self.label_smoothing == 0

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the logistic term and the weighted NLL of each pair, (B,) each."""
        from torch.nn.functional import logsigmoid

        logits = self.beta * (pairs.chosen.sum() - pairs.rejected.sum())
        flipped = self.label_smoothing
        preference = -(1 - flipped) * logsigmoid(logits) - flipped * logsigmoid(-logits)
        if self.nll_reduction == "sequence":
            return Terms(preference, -self.nll_weight * pairs.chosen.mean())
        # -S_w * pairs / tokens: the mean over the step's pairs is the token mean, as the step loss is a mean over pairs
        tokens = pairs.chosen.length()
        return Terms(preference, -self.nll_weight * pairs.chosen.sum() * (tokens.numel() / tokens.sum()))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * S, (B,)."""
        return self.beta * response.sum


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [CPO]
