"""ASFT: raises the odds of the chosen response and lowers those of the rejected one, each on its own, no reference.

Formula: nll_weight * NLL(chosen) - weight * (log sigmoid(beta * r_w) + log sigmoid(-beta * r_l)), r = A - log(1 -
exp(A)) the log-odds of the averaged log-prob, NLL = -A_w; at beta 1 the terms are -A_w and -log(1 - exp(A_l)).
Reward: A = S / n.
Source: Wang et al. (2024), "ASFT: Aligned Supervised Fine-Tuning through Absolute Likelihood", arXiv:2409.10571; beta
and the form without NLL: Gorbatovski et al. (2025), "The Differences Between Direct Alignment Algorithms are a Blur",
arXiv:2502.01237.
Provenance: [S] the formula as others quote it, from 2502.01237; the papers were not read. Values by hand.
Traps: 2502.01237 compares the losses without NLL, `asft:nll_weight=0,weight=1`, and tunes beta; the first paper's loss
has the NLL and no beta. At beta 1 the chosen term is an NLL itself, so the two add up. As for ORPO, A is capped at
minus the epsilon of its dtype, where exp(A) is 1; the reward is A, which ranks as r does.
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
class ASFT(Loss):
    """NLL(chosen) - weight * (log sigmoid(beta * chosen log-odds) + log sigmoid(-beta * rejected log-odds))."""

    name: ClassVar[str] = "asft"
    search_space: ClassVar[Mapping[str, Range]] = {"weight": Range(low=0.01, high=2.0, log=True)}
    length_normalised = True
    comparison = "unpaired"

    weight: float = 0.1
    """Weight of the two odds terms (the paper's lambda), at least 0. Default: as ORPO's."""
    beta: float = 1.0
    """Scale of the log-odds, above 0. Default: the first paper's, which has none."""
    nll_weight: float = 1.0
    """Weight of the NLL, at least 0; 0 with `weight=1` is the form of 2502.01237. Default: the first paper's."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")
        for option in ("weight", "nll_weight"):
            value = getattr(self, option)
            require(0 <= value < math.inf, f"{option} got {value}, expected a finite number of at least 0")
        require(self.weight + self.nll_weight > 0, "weight and nll_weight got 0, expected one of them above 0")

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Without the odds terms it is SFT."""
        return (Limit(options={"weight": 0.0, "nll_weight": 1.0}, equals="sft"),)

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the weighted odds terms and the weighted NLL of each pair, (B,) each."""
        from torch.nn.functional import logsigmoid

        chosen = logsigmoid(self.beta * _log_odds(pairs.chosen.mean()))
        rejected = logsigmoid(-self.beta * _log_odds(pairs.rejected.mean()))
        return Terms(-self.weight * (chosen + rejected), -self.nll_weight * pairs.chosen.mean())

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return A, (B,)."""
        return response.sum / response.length


def _log_odds(mean: Tensor) -> Tensor:
    # log(-expm1(A)) has all digits near A = 0; far below it, where log1p(-exp(A)) has more, the term vanishes beside A
    import torch

    mean = mean.clamp(max=-torch.finfo(mean.dtype).eps)
    return mean - torch.log(-torch.expm1(mean))


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [ASFT]
