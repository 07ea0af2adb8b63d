"""RRHF: hinge without a margin on averaged log-probs, with the NLL of the chosen response.

Formula: max(0, A_l - A_w) + nll_weight * NLL(chosen), NLL = -A_w.
Reward: A = S / n.
Source: Yuan et al. (2023), "RRHF: Rank Responses to Align Language Models with Human Feedback without tears",
arXiv:2304.05302; the authors rank k candidates, sum over misordered pairs and take the NLL of the best one. This is
its PAIR FORM, k = 2, with their length penalty of 1.
Provenance: [V] for the rank term: the authors' `train.py` (GanjinZero/RRHF, e1a2b61), by golden values. [R] for the
pair form with a weighted NLL, as later comparisons use it: recalled, not re-read.
Traps: the authors weigh the RANK term (their class default 100, their published script 1), we weigh the NLL: a rank
weight w is nll_weight = 1 / w at another learning rate. Their NLL divides by the PADDED length; ours does not. Ordered
pairs have no rank gradient: only the NLL acts on them. It covers response tokens only; `nll_reduction="token"` is
batch-coupled.
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
class RRHF(Loss):
    """max(0, mean logp rejected - mean logp chosen) + nll_weight * NLL(chosen)."""

    name: ClassVar[str] = "rrhf"
    search_space: ClassVar[Mapping[str, Range]] = {"nll_weight": Range(low=0.1, high=10.0, log=True)}
    length_normalised = True

    nll_weight: float = 1.0
    """Weight of the NLL term, at least 0. Default: the authors' published script (rank weight 1)."""
    nll_reduction: Literal["sequence", "token"] = "sequence"
    """NLL averaged over each response ("sequence") or over all chosen tokens of the step ("token"). Default: ours."""

    def __post_init__(self) -> None:
        weight, reduction = self.nll_weight, self.nll_reduction
        require(0 <= weight < math.inf, f"nll_weight got {weight}, expected a finite number of at least 0")
        require(reduction in ("sequence", "token"), f"nll_reduction got '{reduction}', expected 'sequence' or 'token'")

    @property
    def batch_coupled(self) -> bool:
        """Whether the NLL is a mean over the tokens of the step."""
        return self.nll_reduction == "token"

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Without the NLL it is RePO without a margin."""
        return (Limit(options={"nll_weight": 0.0}, equals="repo", equals_options={"gamma": 0.0}),)

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the rank term and the weighted NLL of each pair, (B,) each."""
        preference = (pairs.rejected.mean() - pairs.chosen.mean()).relu()
        if self.nll_reduction == "sequence":
            return Terms(preference, -self.nll_weight * pairs.chosen.mean())
        tokens = pairs.chosen.length()  # the mean over the step's pairs is then the mean over its tokens
        return Terms(preference, -self.nll_weight * pairs.chosen.sum() * (tokens.numel() / tokens.sum()))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return A, (B,)."""
        return response.sum / response.length


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [RRHF]
