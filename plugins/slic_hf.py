"""SLiC-HF: hinge on summed log-probs without a reference model, with the NLL of the chosen response.

Formula: max(0, delta - S_w + S_l) + nll_weight * NLL(chosen), NLL = -A_w.
Reward: S.
Source: Zhao et al. (2023), "SLiC-HF: Sequence Likelihood Calibration with Human Feedback", arXiv:2305.10425; with the
chosen response as the regularisation target.
Provenance: [V] for the hinge: TRL 1.16.0's `CPOTrainer` with `loss_type="hinge"`, by golden values. [P] for the whole:
eq. 1 of RSO (arXiv:2309.06657) quotes it; the original was not read.
Traps: TRL's `DPOTrainer` hinge reads the reference: that is RSO's hinge-norm, another loss. The hinge is in nats per
response, our NLL in nats per token: an nll_weight for a summed NLL means another strength. Summed log-probs with delta
1 are soon satisfied by length alone; there only the NLL acts. Response tokens only; `nll_reduction="token"` is
batch-coupled. HALOs' code for it raises on general input.
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
class SLiCHF(Loss):
    """max(0, delta - summed logp chosen + summed logp rejected) + nll_weight * NLL(chosen)."""

    name: ClassVar[str] = "slic-hf"
    search_space: ClassVar[Mapping[str, Range]] = {
        "delta": Range(low=0.1, high=10.0, log=True),
        "nll_weight": Range(low=0.01, high=10.0, log=True),
    }

    delta: float = 1.0
    """Margin of the hinge in nats per response, above 0. Default: HALOs' configuration."""
    nll_weight: float = 0.1
    """Weight of the NLL term, at least 0. Default: HALOs' configuration."""
    nll_reduction: Literal["sequence", "token"] = "sequence"
    """NLL averaged over each response ("sequence") or over all chosen tokens of the step ("token"). Default: ours."""

    def __post_init__(self) -> None:
        weight, reduction = self.nll_weight, self.nll_reduction
        require(0 < self.delta < math.inf, f"delta got {self.delta}, expected a finite number above 0")
        require(0 <= weight < math.inf, f"nll_weight got {weight}, expected a finite number of at least 0")
        require(reduction in ("sequence", "token"), f"nll_reduction got '{reduction}', expected 'sequence' or 'token'")

    @property
    def batch_coupled(self) -> bool:
        """Whether the NLL is a mean over the tokens of the step."""
        return self.nll_reduction == "token"

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the hinge and the weighted NLL of each pair, (B,) each."""
        preference = (self.delta - (pairs.chosen.sum() - pairs.rejected.sum())).relu()
        if self.nll_reduction == "sequence":
            return Terms(preference, -self.nll_weight * pairs.chosen.mean())
        tokens = pairs.chosen.length()  # the mean over the step's pairs is then the mean over its tokens
        return Terms(preference, -self.nll_weight * pairs.chosen.sum() * (tokens.numel() / tokens.sum()))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return S, (B,)."""
        return response.sum


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [SLiCHF]
