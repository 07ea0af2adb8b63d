"""DPO-norm: DPO on log-ratios averaged over the response tokens.

Formula: -log sigmoid(beta * (h_w / n_w - h_l / n_l)), h = S - R, n = response tokens.
Reward: beta * (S - R) / n.
Source: Lambert et al. (2024), "Tulu 3: Pushing Frontiers in Open Language Model Post-Training", arXiv:2411.15124
(length-normalised DPO).
Provenance: [V] TRL 1.16.0's `sigmoid_norm`, by golden values.
Traps: beta is a scale *per token*: Tulu 3 used 5, and our default of 0.1, DPO's, is weak here; set beta or tune it. TRL
logs beta * (S - R), summed, which is not the reward that it trains.
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
class DPONorm(Loss):
    """-log sigmoid(beta * (mean log-ratio chosen - mean log-ratio rejected))."""

    name: ClassVar[str] = "dpo-norm"
    search_space: ClassVar[Mapping[str, Range]] = {"beta": Range(low=0.1, high=10.0, log=True)}
    needs_reference = True
    length_normalised = True

    beta: float = 0.1
    """Scale of the averaged log-ratios, above 0. Default: DPO's (Tulu 3: 5)."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,)."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = pairs.log_ratios()
        gap = chosen / pairs.chosen.length() - rejected / pairs.rejected.length()
        return Terms.of(-logsigmoid(self.beta * gap.to(pairs.chosen.token.dtype)))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R) / n, (B,)."""
        assert response.ref_sum is not None, "the reward of dpo-norm needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum) / response.length


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [DPONorm]
