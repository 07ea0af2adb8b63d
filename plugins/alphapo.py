"""AlphaPO: SimPO with a reward of another shape.

Formula: -log sigmoid(r(y_w) - r(y_l) - gamma), r(y) = beta * (1 - exp(-alpha * A)) / alpha, A = log-prob averaged over
the response tokens; r -> beta * A for alpha -> 0, which is SimPO.
Reward: r(y).
Source: Gupta et al. (2025), "AlphaPO: Reward Shape Matters for LLM Alignment", arXiv:2501.03884.
Provenance: [V] TRL 1.16.0's code (`loss_type="simpo"` with `alpha`), by golden values; the recipe of the defaults
(Mistral-Instruct, gamma = 0.1 * beta) is known to us second-hand from the paper's table 3.
Traps: gamma is absolute; TRL's documented recipe copies the *ratio* 0.1. TRL raises exp(A) to the power -alpha, which
is inf where exp(A) underflows; we use expm1. Where alpha * A is below -0.4 * log(largest number of the dtype) (-35 in
float32: 142 nats per token at alpha 0.25; -284 in float64) the exponent is capped there: r is constant beyond and its
gradient 0, so that even the square of a gradient stays finite. With alpha below 0 r is flat for unlikely responses.
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
class AlphaPO(Loss):
    """-log sigmoid(r(chosen) - r(rejected) - gamma), r = beta * (1 - exp(-alpha * mean logp)) / alpha."""

    name: ClassVar[str] = "alphapo"
    search_space: ClassVar[Mapping[str, Range]] = {
        "beta": Range(low=1.0, high=10.0, log=True),
        "gamma": Range(low=0.1, high=5.0, log=True),
        "alpha": Range(low=-0.25, high=0.5),
    }
    length_normalised = True

    beta: float = 2.5
    """Scale of the reward, above 0. Default: the Mistral-Instruct recipe."""
    gamma: float = 0.25
    """Target gap in reward units, absolute. Default: the Mistral-Instruct recipe (ratio 0.1)."""
    alpha: float = 0.25
    """Shape of the reward: above 0 steeper for unlikely responses, below 0 flatter, 0 SimPO. Default: that recipe."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")
        require(0 <= self.gamma < math.inf, f"gamma got {self.gamma}, expected a finite number of at least 0")
        require(math.isfinite(self.alpha), f"alpha got {self.alpha}, expected a finite number")

    @property
    def saturates(self) -> bool:
        """With a steep alpha: both responses of a pair may lie beyond the cap, or where r is flat to float32."""
        return not -80 < self.alpha * -self.domain.lowest_token <= 35

    @property
    def limits(self) -> tuple[Limit, ...]:
        """With alpha 0 it is SimPO."""
        same = {"beta": self.beta, "gamma": self.gamma}
        return (Limit(options={"alpha": 0.0}, equals="simpo", equals_options=same),)

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,)."""
        from torch.nn.functional import logsigmoid

        return Terms.of(
            -logsigmoid(self._shaped(pairs.chosen.mean()) - self._shaped(pairs.rejected.mean()) - self.gamma)
        )

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return r, (B,): it ranks the responses to a prompt as SimPO's does, at other distances."""
        return self._shaped(response.sum / response.length)

    def _shaped(self, mean: Tensor) -> Tensor:
        import torch

        if abs(self.alpha) < 1e-6:  # the quotient loses its digits; the limit is exact to alpha * A^2 / 2
            return self.beta * mean
        cap = 0.4 * math.log(torch.finfo(mean.dtype).max)
        return -self.beta * torch.expm1((-self.alpha * mean).clamp(max=cap)) / self.alpha


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [AlphaPO]
