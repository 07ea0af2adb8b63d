"""SFT: the negative log-likelihood of the chosen response, the baseline that reads no preference.

Formula: -A_w with `nll_reduction="sequence"`, -sum S_w / sum n_w over the step with "token".
Reward: A = S / n (none is defined; the log-prob that the loss averages stands in).
Source: no paper of its own; TRL 1.16.0's `DPOTrainer` with `loss_type="sft"`.
Provenance: [V] TRL 1.16.0's code, by golden values (its losses of single pairs; its batch loss is the token mean).
Traps: the rejected response is never read, so what the reward ranks right it learnt from the chosen ones alone. The NLL
is the auxiliary term, as in CPO, and the preference term is 0: it compares nothing, and a wrapper that weighs
preferences must leave it as it is. The two reductions differ in every step of unequal lengths: "token" (TRL, HALOs)
lets long answers weigh more and is batch-coupled. Response tokens only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.api import Loss, PairLogps, ResponseLogps, Terms, hookimpl, require

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SFT(Loss):
    """-mean logp chosen."""

    name: ClassVar[str] = "sft"
    length_normalised = True

    nll_reduction: Literal["sequence", "token"] = "sequence"
    """Averaged over each response ("sequence") or over all chosen tokens of the step ("token"). Default: ours."""

    def __post_init__(self) -> None:
        reduction = self.nll_reduction
        require(reduction in ("sequence", "token"), f"nll_reduction got '{reduction}', expected 'sequence' or 'token'")

    @property
    def comparison(self) -> Literal["unpaired"]:
        """No pair is needed: it reads the chosen response alone."""
        return "unpaired"

    @property
    def batch_coupled(self) -> bool:
        """Whether the NLL is a mean over the tokens of the step."""
        return self.nll_reduction == "token"

    def terms(self, pairs: PairLogps) -> Terms:
        """Return zeros and the NLL of each chosen response, (B,) each."""
        import torch

        if self.nll_reduction == "sequence":
            nll = -pairs.chosen.mean()
        else:  # the mean over the step's pairs is then the mean over its tokens
            tokens = pairs.chosen.length()
            nll = -pairs.chosen.sum() * (tokens.numel() / tokens.sum())
        return Terms(torch.zeros_like(nll), nll)

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return A, (B,)."""
        return response.sum / response.length


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [SFT]
