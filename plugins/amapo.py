"""AMaPO: SimPO without a fixed gap, with a margin for the pairs of a step that lag behind its mean.

Formula: -log sigmoid(beta * d - m), d = A_w - A_l, m = beta * exp((mu - d) / sd * mu) where d < mu and 0 elsewhere, m
held constant; mu and sd = mean and unbiased standard deviation of d over the pairs of the step.
Reward: beta * A.
Source: Deng et al. (2025), "AMaPO: Adaptive Margin-attached Preference Optimization for Language Model Alignment",
arXiv:2511.09385, as in the authors' `scripts/amapo_trainer.py` (Shiroha-Offical/AMaPO, c6c89cc).
Provenance: [V] the authors' code, by golden values of whole batches. Where paper and code differ, the code is followed.
Traps: in the paper (third-party notes) the trailing mu carries beta, and at mu < 0 it gives margins to the pairs ABOVE
the mean; the code gives the hard ones a margin below beta there. A pair's value depends on the whole optimiser step;
the authors' depends on the micro-batch. A step of one pair, or of gaps that are equal up to rounding (sd below 8 units
in the last place of the largest A), has no margins: the authors' code does the same by its NaN, or divides by noise.
The exponent is capped at 20: a margin of beta * 5e8 changes the value only, its gradient is full long before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.api import Loss, PairLogps, Range, ResponseLogps, Terms, hookimpl, require, stop_gradient

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class AMaPO(Loss):
    """-log sigmoid(beta * (mean logp chosen - mean logp rejected) - margin of a lagging pair)."""

    name: ClassVar[str] = "amapo"
    search_space: ClassVar[Mapping[str, Range]] = {"beta": Range(low=1.0, high=10.0, log=True)}
    batch_coupled = True
    length_normalised = True
    monotone = False  # a better pair raises the mean and with it the margins of the others

    beta: float = 2.0
    """Scale of the averaged log-probs and of the margin, above 0. Default: the authors' for Mistral (Llama 3: 3)."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair of the step, (B,)."""
        import torch
        from torch.nn.functional import logsigmoid

        chosen, rejected = pairs.chosen.mean(), pairs.rejected.mean()
        gap = chosen - rejected
        rounding = 8 * torch.finfo(gap.dtype).eps * torch.maximum(chosen.abs().max(), rejected.abs().max())
        return Terms.of(-logsigmoid(self.beta * gap - stop_gradient(self._margin(gap, rounding))))

    def _margin(self, gap: Tensor, rounding: Tensor) -> Tensor:
        """Return the margin of each pair, (B,), in the dtype of `gap`; 0 where the gaps spread by rounding only."""
        import torch

        precise = gap.double()
        mean = precise.mean()
        spread = ((precise - mean).square().sum() / max(len(gap) - 1, 1)).sqrt()
        lag = (mean - precise) / spread.clamp(min=torch.finfo(torch.float64).tiny)
        margin = self.beta * (lag * mean).clamp(max=20.0).exp()
        return torch.where((precise < mean) & (spread > rounding), margin, 0.0).to(gap.dtype)

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * A, (B,); the margin is part of the loss, never of the reward."""
        return self.beta * response.sum / response.length


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [AMaPO]
