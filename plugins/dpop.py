"""DPOP (Smaug): DPO with a penalty where the chosen response gets less likely than under the reference.

Formula: -log sigmoid(beta * (h - penalty * max(0, R_w - S_w))), h = (S_w - R_w) - (S_l - R_l); penalty 0 is DPO.
Reward: beta * (S - R)
Source: Pal et al. (2024), "Smaug: Fixing Failure Modes of Preference Optimisation with DPO-Positive", arXiv:2402.13228,
eq. 3.
Provenance: [S] third-party code that cites eq. 3, and golden values from the code of BPO's authors (sunlin-ai/BPO,
d882c0f), who call it DDPO; the original was not read and abacusai/smaug holds no code.
Traps: mlx-lm, after v1 of the paper, puts the penalty OUTSIDE the sigmoid: another loss. 50 on summed log-probs swamps
everything else as soon as the chosen response loses a nat. The kink is at S_w = R_w, where training starts; the
penalty's gradient there is 0. BPO's code uses beta 0.1.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.api import Limit, Loss, PairLogps, Range, ResponseLogps, Terms, hookimpl, require

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class DPOP(Loss):
    """-log sigmoid(beta * (difference of log-ratios - penalty * what the chosen response lost))."""

    name: ClassVar[str] = "dpop"
    search_space: ClassVar[Mapping[str, Range]] = {
        "beta": Range(low=0.01, high=0.5, log=True),
        "penalty": Range(low=0.5, high=50.0, log=True),
    }
    needs_reference = True

    beta: float = 0.3
    """Strength of the tie to the reference model, above 0. Default: the paper's, by other implementations."""
    penalty: float = 50.0
    """Weight of a nat that the chosen response lost, at least 0. Default: the paper's, by other implementations."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")
        require(0 <= self.penalty < math.inf, f"penalty got {self.penalty}, expected a finite number of at least 0")

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Without the penalty it is DPO."""
        return (Limit(options={"penalty": 0.0}, equals="dpo", equals_options={"beta": self.beta}),)

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,)."""
        from torch.nn.functional import logsigmoid, relu

        chosen, rejected = pairs.log_ratios()
        margin = (chosen - rejected) - self.penalty * relu(-chosen)
        return Terms.of(-logsigmoid(self.beta * margin.to(pairs.chosen.token.dtype)))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,): the penalty is part of the loss, never of the reward."""
        assert response.ref_sum is not None, "the reward of dpop needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [DPOP]
