"""Cal-DPO: DPO without beta, with the log-ratio of each response pulled to a target of its own.

Formula: -log sigmoid(h_w - h_l) + cal_weight * ((h_w - t)^2 + (h_l + t)^2), t = 1 / (2 beta), h_w = S_w - R_w, h_l =
S_l - R_l; cal_weight 0 is DPO with beta 1.
Reward: S - R
Source: Xiao et al. (2024), "Cal-DPO: Calibrated Direct Preference Optimization for Language Model Alignment",
arXiv:2412.14516.
Provenance: [V] the authors' code (tengxiao1/Cal-DPO, 7d16b46, `scripts/dpo_trainer.py`), by golden values. Whether the
paper has the code's weight 0.5 was not verified.
Traps: beta sets the target only, there is none inside the sigmoid. At beta 0.001 the target is 500 nats, the loss
starts at 250,000 and its gradient at 500 per nat: clip the gradient. The squares dominate, and the loss rises again for
a log-ratio past its target. The code's mean square is over the batch and is added to each pair, so its values per pair
differ from ours while the batch means agree. The code logs raw log-probs as rewards.
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
class CalDPO(Loss):
    """-log sigmoid(difference of log-ratios) + cal_weight * squared distance of each log-ratio to +-1 / (2 beta)."""

    name: ClassVar[str] = "cal-dpo"
    search_space: ClassVar[Mapping[str, Range]] = {
        "beta": Range(low=0.001, high=0.1, log=True),
        "cal_weight": Range(low=0.01, high=1.0, log=True),
    }
    needs_reference = True

    beta: float = 0.001
    """Sets the targets +-1 / (2 beta) in nats, above 0. Default: the authors' script (their recipe file: 0.002)."""
    cal_weight: float = 0.5
    """Weight of the two squares, at least 0. Default: the authors' code."""

    def __post_init__(self) -> None:
        weight = self.cal_weight
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")
        require(0 <= weight < math.inf, f"cal_weight got {weight}, expected a finite number of at least 0")

    @property
    def monotone(self) -> bool:
        """A log-ratio past its target raises the loss, unless there is no calibration."""
        return self.cal_weight == 0

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Without the calibration it is DPO at beta 1."""
        return (Limit(options={"cal_weight": 0.0}, equals="dpo", equals_options={"beta": 1.0}),)

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,); the calibration holds both responses to their labels: a preference."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = (ratio.to(pairs.chosen.token.dtype) for ratio in pairs.log_ratios())
        target = 1 / (2 * self.beta)
        calibration = (chosen - target).square() + (rejected + target).square()
        return Terms.of(self.cal_weight * calibration - logsigmoid(chosen - rejected))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return S - R, (B,): comparable between responses to one prompt only."""
        assert response.ref_sum is not None, "the reward of cal-dpo needs the reference's log-probs"
        return response.sum - response.ref_sum


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [CalDPO]
