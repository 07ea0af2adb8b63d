"""SimPO: length-normalised margin with a target gap, no reference model.

Formula: -log sigmoid(beta * (A_w - A_l) - gamma), A = log-prob averaged over the response tokens.
Reward: beta * A.
Source: Meng, Xia, Chen (2024), "SimPO: Simple Preference Optimization with a Reference-Free Reward", arXiv:2405.14734,
eq. 6.
Provenance: [V] the authors' `scripts/simpo_trainer.py` (princeton-nlp/SimPO, 1b3e8f3) and TRL 1.16.0's
`loss_type="simpo"`, by golden values to the last digit.
Traps: gamma is absolute here, as in the paper; the authors' recipes state the ratio gamma / beta. The average
includes the end-of-turn token. TRL adds CPO's NLL term unless `cpo_alpha=0`.
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
class SimPO(Loss):
    """-log sigmoid(beta * (mean logp chosen - mean logp rejected) - gamma)."""

    name: ClassVar[str] = "simpo"
    search_space: ClassVar[Mapping[str, Range]] = {
        "beta": Range(low=1.0, high=10.0, log=True),
        "gamma": Range(low=0.1, high=5.0, log=True),
    }
    length_normalised = True

    beta: float = 2.0
    """Scale of the averaged log-probs, above 0. Default: the authors' code (their recipes: 2 to 10)."""
    gamma: float = 0.5
    """Target gap in reward units, absolute. Default: the authors' code, 0.25 * beta (their recipes: 0.1 to 0.8)."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")
        require(0 <= self.gamma < math.inf, f"gamma got {self.gamma}, expected a finite number of at least 0")

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,)."""
        from torch.nn.functional import logsigmoid

        gap = pairs.chosen.mean() - pairs.rejected.mean()
        return Terms.of(-logsigmoid(self.beta * gap - self.gamma))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * A, (B,); the target gap is part of the loss, never of the reward."""
        return self.beta * response.sum / response.length


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [SimPO]
