"""EXO: reverse KL divergence of the policy's preference from a smoothed label.

Formula: q * log(q / (1 - e)) + (1 - q) * log((1 - q) / e), q = sigmoid(beta * h), h = (S_w - R_w) - (S_l - R_l), e the
smoothing.
Reward: beta * (S - R).
Source: Ji et al. (2024), "Towards Efficient Exact Optimization of Language Model Alignment", arXiv:2402.00856, eq. 16.
Provenance: [V] TRL 1.16.0's `exo_pair`, by golden values.
Traps: the loss is least at beta * h = log((1 - e) / e) (6.9 at e = 0.001) and rises again beyond, to -log(1 - e). On
badly misranked pairs it tends to -log e and its gradient vanishes, unlike DPO's. It is written through log sigmoid, so
nothing overflows and no cap is needed.
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
class EXO(Loss):
    """KL((q, 1 - q) || (1 - smoothing, smoothing)), q = sigmoid(beta * difference of the log-ratios)."""

    name: ClassVar[str] = "exo"
    search_space: ClassVar[Mapping[str, Range]] = {
        "beta": Range(low=0.01, high=0.5, log=True),
        "smoothing": Range(low=1e-4, high=0.1, log=True),
    }
    needs_reference = True
    monotone = False
    saturates = True

    beta: float = 0.1
    """Scale of the log-ratios, above 0. Default: TRL's."""
    smoothing: float = 1e-3
    """Probability that the label gives to the rejected response, above 0 and below 0.5. Default: TRL's."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")
        require(0 < self.smoothing < 0.5, f"smoothing got {self.smoothing}, expected a number above 0 and below 0.5")

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,)."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = pairs.log_ratios()
        logits = self.beta * (chosen - rejected).to(pairs.chosen.token.dtype)
        agree = logits.sigmoid() * (logsigmoid(logits) - math.log1p(-self.smoothing))
        disagree = logits.neg().sigmoid() * (logsigmoid(-logits) - math.log(self.smoothing))
        return Terms.of(agree + disagree)

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,)."""
        assert response.ref_sum is not None, "the reward of exo needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [EXO]
