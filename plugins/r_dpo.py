"""R-DPO: DPO with the difference of the two lengths in the margin, against length exploitation.

Formula: -log sigmoid(beta * h + alpha * (n_w - n_l)), h = (S_w - R_w) - (S_l - R_l), n = response tokens; alpha 0 is
DPO.
Reward: beta * (S - R)
Source: Park, Rafailov, Ermon, Finn (2024), "Disentangling Length from Quality in Direct Preference Optimization",
arXiv:2403.19159, eq. 9.
Provenance: [S] third-party code (sail-sg/oat) that cites eq. 9; the original was not read. The PLUS was also derived:
maximising E[r - alpha n] - beta KL gives r = beta * (S - R) + alpha * n + const, so a longer winner already scores
higher and gets a smaller gradient.
Traps: gammaPO's baseline has the opposite sign, and lengths that cancel, so its R-DPO is DPO. alpha is a price per
token: at a gap of 300 tokens 0.05 adds 15 to the margin. A much longer chosen response can hold the gradient near 0
while the pair is misranked. The reward leaves the length out: alpha * n models the raw preference.
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
class RDPO(Loss):
    """-log sigmoid(beta * difference of log-ratios + alpha * difference of lengths)."""

    name: ClassVar[str] = "r-dpo"
    search_space: ClassVar[Mapping[str, Range]] = {
        "beta": Range(low=0.01, high=0.5, log=True),
        "alpha": Range(low=0.001, high=0.1, log=True),
    }
    needs_reference = True

    beta: float = 0.1
    """Strength of the tie to the reference model, above 0. Default: DPO's."""
    alpha: float = 0.01
    """Weight of a token of length difference, at least 0. Default: our choice in the range that goes with beta 0.1."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")
        require(0 <= self.alpha < math.inf, f"alpha got {self.alpha}, expected a finite number of at least 0")

    @property
    def saturates(self) -> bool:
        """A chosen response longer by thousands of tokens outweighs the misranking."""
        return self.alpha > 0

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Without the length term it is DPO."""
        return (Limit(options={"alpha": 0.0}, equals="dpo", equals_options={"beta": self.beta}),)

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,)."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = pairs.log_ratios()
        longer = pairs.chosen.length() - pairs.rejected.length()
        logits = self.beta * (chosen - rejected) + self.alpha * longer
        return Terms.of(-logsigmoid(logits.to(pairs.chosen.token.dtype)))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,): the length term is part of the loss, never of the reward."""
        assert response.ref_sum is not None, "the reward of r-dpo needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [RDPO]
