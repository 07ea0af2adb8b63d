"""ORPO: log-odds ratio of averaged log-probs added to the NLL of the chosen response, no reference model.

Formula: nll_weight * NLL(chosen) - weight * log sigmoid(beta * (odds(A_w) - odds(A_l))), odds(A) = A - log(1 - exp(A)),
NLL = -A_w; beta and nll_weight are 1 in the paper.
Reward: A = S / n.
Source: Hong, Lee, Thorne (2024), "ORPO: Monolithic Preference Optimization without Reference Model", arXiv:2403.07691,
eq. 6-7; beta and the form without NLL: Gorbatovski et al. (2025), "The Differences Between Direct Alignment Algorithms
are a Blur", arXiv:2502.01237.
Provenance: [V] TRL 1.16.0's code, by golden values of the odds-ratio term in float64; beta [S], as others quote
2502.01237.
Traps: TRL's `odds_ratio_loss` returns weight * log sigmoid(.), negative, and its trainer SUBTRACTS it; it computes in
float32. TRL and the authors take the NLL over prompt AND response (unless `--disable_prompt_loss`); ours covers the
response only, sequence mean by default; `nll_reduction="token"` is batch-coupled. A is capped at minus the epsilon of
its dtype (-1.2e-7 in float32), above which exp(A) is 1: a response more certain than that has no odds gradient (the
log1p(-exp(A)) of other code is -inf there). The NLL leads: at weight 0.1 this is mostly SFT; without it,
`orpo:nll_weight=0,weight=1`, beta is what 2502.01237 tunes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.api import Limit, Loss, PairLogps, Range, ResponseLogps, Terms, hookimpl, require

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ORPO(Loss):
    """NLL(chosen) - weight * log sigmoid(beta * (log-odds chosen - log-odds rejected)), odds of the mean logp."""

    name: ClassVar[str] = "orpo"
    search_space: ClassVar[Mapping[str, Range]] = {"weight": Range(low=0.01, high=2.0, log=True)}
    length_normalised = True

    weight: float = 0.1
    """Weight of the odds-ratio term (the paper's lambda), at least 0. Default: the authors' script."""
    nll_reduction: Literal["sequence", "token"] = "sequence"
    """NLL averaged over each response ("sequence") or over all chosen tokens of the step ("token"). Default: ours."""
    beta: float = 1.0
    """Scale of the log-odds ratio, above 0. Default: the paper's, which has none."""
    nll_weight: float = 1.0
    """Weight of the NLL, at least 0; 0 with `weight=1` is the form of 2502.01237. Default: the paper's."""

    def __post_init__(self) -> None:
        weight, reduction = self.weight, self.nll_reduction
        require(0 <= weight < math.inf, f"weight got {weight}, expected a finite number of at least 0")
        require(reduction in ("sequence", "token"), f"nll_reduction got '{reduction}', expected 'sequence' or 'token'")
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")
        nll = self.nll_weight
        require(0 <= nll < math.inf, f"nll_weight got {nll}, expected a finite number of at least 0")
        require(weight + nll > 0, "weight and nll_weight got 0, expected one of them above 0")

    @property
    def batch_coupled(self) -> bool:
        """Whether the NLL is a mean over the tokens of the step."""
        return self.nll_reduction == "token"

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Without the odds-ratio term it is SFT."""
        inner = {"nll_reduction": self.nll_reduction}
        return (Limit(options={"weight": 0.0, "nll_weight": 1.0}, equals="sft", equals_options=inner),)

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the weighted odds-ratio term and the NLL of each pair, (B,) each."""
        from torch.nn.functional import logsigmoid

        odds_ratio = _log_odds(pairs.chosen.mean()) - _log_odds(pairs.rejected.mean())
        preference = -self.weight * logsigmoid(self.beta * odds_ratio)
        if self.nll_reduction == "sequence":
            return Terms(preference, -self.nll_weight * pairs.chosen.mean())
        tokens = pairs.chosen.length()  # the mean over the step's pairs is then the mean over its tokens
        return Terms(preference, -self.nll_weight * pairs.chosen.sum() * (tokens.numel() / tokens.sum()))

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
    return [ORPO]
