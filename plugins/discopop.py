"""DiscoPOP: a blend of the logistic and the exponential loss, found by a language model's search.

Formula: (1 - m) * (-log sigmoid(x)) + m * exp(-x), m = sigmoid(x / temperature), x = beta * h,
h = (S_w - R_w) - (S_l - R_l).
Reward: beta * (S - R).
Source: Lu et al. (2024), "Discovering Preference Optimization Algorithms with and for Large Language Models",
arXiv:2406.08414, eq. 5.
Provenance: [V] TRL 1.16.0's `discopop`, by golden values.
Traps: it is not convex: around x = 0, where training starts, the loss rises with x (at temperature 0.05, from a dip at
-0.12 to a hump at 0.07), so a pair that starts at 0 is first pushed the wrong way and may rest in the dip. TRL
multiplies m by exp(-x), which is 0 * inf = NaN for badly misranked pairs (x below -88 in float32); we write the product
as exp(log sigmoid(x / temperature) - x), the same number wherever TRL's is finite. Up to a temperature of 1 that is
never above 1 and nothing is capped. Above 1 it grows without bound for misranked pairs: beyond an exponent of
0.4 * log(largest number of the dtype) (35 in float32, 283 in float64) it goes on as the tangent. The authors' model
card (SakanaAI/DiscoPOP-zephyr-7b-gemma) has m = sigmoid(h): a temperature that follows beta, as the defaults do.
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
class DiscoPOP(Loss):
    """(1 - m) * logistic(x) + m * exp(-x), m = sigmoid(x / temperature), x = beta * difference of the log-ratios."""

    name: ClassVar[str] = "discopop"
    search_space: ClassVar[Mapping[str, Range]] = {
        "beta": Range(low=0.01, high=0.5, log=True),
        "temperature": Range(low=0.01, high=1.0, log=True),
    }
    needs_reference = True
    monotone = False

    beta: float = 0.05
    """Scale of the log-ratios, above 0. Default: the authors'."""
    temperature: float = 0.05
    """Width of the blend in units of x, at least 0.0001. Default: TRL's, which is the authors' code at their beta."""

    def __post_init__(self) -> None:
        temperature = self.temperature
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")
        require(
            1e-4 <= temperature < math.inf,
            f"temperature got {temperature}, expected a finite number of at least 0.0001",
        )

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,)."""
        import torch
        from torch.nn.functional import logsigmoid

        chosen, rejected = pairs.log_ratios()
        logits = self.beta * (chosen - rejected).to(pairs.chosen.token.dtype)
        blend = logits / self.temperature
        exponent = logsigmoid(blend) - logits
        capped = exponent.clamp(max=0.4 * math.log(torch.finfo(exponent.dtype).max))
        return Terms.of(blend.neg().sigmoid() * -logsigmoid(logits) + capped.exp() * (1 + (exponent - capped)))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,)."""
        assert response.ref_sum is not None, "the reward of discopop needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [DiscoPOP]
