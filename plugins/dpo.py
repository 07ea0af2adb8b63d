"""DPO: logistic loss on the difference of summed log-ratios to a reference model; cDPO with label smoothing.

Formula: -(1 - e) log sigmoid(beta * h) - e log sigmoid(-beta * h), h = (S_w - R_w) - (S_l - R_l), S and R the summed
log-probs under policy and reference; e = 0 is DPO.
Reward: beta * (S - R).
Source: Rafailov et al. (2023), "Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
arXiv:2305.18290, eq. 7.
Provenance: [V] the authors' `trainers.py:preference_loss` (eric-mitchell/direct-preference-optimization, f8b8c0f), with
and without label smoothing, and TRL 1.16.0's code, by golden values.
Traps: at the start policy and reference agree, so every reward is 0 and every pair a tie. TRL 1.16 ignores
`label_smoothing` for its "sigmoid" loss. beta = 0.1 is the paper's; SimPO's tuned DPO baselines use 0.01.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.api import Loss, PairLogps, Range, ResponseLogps, Terms, hookimpl, require

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class DPO(Loss):
    """-log sigmoid(beta * (summed log-ratio chosen - summed log-ratio rejected))."""

    name: ClassVar[str] = "dpo"
    search_space: ClassVar[Mapping[str, Range]] = {"beta": Range(low=0.01, high=0.5, log=True)}
    needs_reference = True

    beta: float = 0.1
    """Strength of the tie to the reference model, above 0. Default: the paper's."""
    label_smoothing: float = 0.0
    """Assumed share of flipped labels (cDPO), at least 0 and below 0.5. Default: the authors' code."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")
        require(
            0 <= self.label_smoothing < 0.5,
            f"label_smoothing got {self.label_smoothing}, expected a number of at least 0 and below 0.5",
        )

    @property
    def monotone(self) -> bool:
        """Not with label smoothing, which pulls a gap back that is too sure."""
        return self.label_smoothing == 0

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,)."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = pairs.log_ratios()
        logits = self.beta * (chosen - rejected).to(pairs.chosen.token.dtype)
        flipped = self.label_smoothing
        return Terms.of(-(1 - flipped) * logsigmoid(logits) - flipped * logsigmoid(-logits))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,): comparable between responses to one prompt only."""
        assert response.ref_sum is not None, "the reward of dpo needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [DPO]
