"""RSO: the losses of statistical rejection sampling, on the pairs as they are.

Formula: hinge_norm max(0, 1 - gamma * h), h = (S_w - R_w) - (S_l - R_l); hinge max(0, 1 - gamma * (S_w - S_l));
sigmoid_norm -log sigmoid(gamma * h).
Reward: gamma * (S - R) with hinge_norm and sigmoid_norm, gamma * S with hinge.
Source: Liu et al. (2023), "Statistical Rejection Sampling Improves Preference Optimization", arXiv:2309.06657,
eq. 8-10.
Provenance: [P] the paper's full text; hinge_norm also agrees with TRL 1.16.0's DPO `hinge` and hinge with its CPO
`hinge`, by golden values.
Traps: RSO is a way to make pairs (64 candidates of the SFT policy, kept by rejection sampling, labelled by a ranking
model); on a fixed data set of pairs, as here, it reduces to its loss and a result says nothing of the sampling. gamma
is the scale of the loss; the beta of the sampling is another number. "hinge" is SLiC's ranking term with the margin
1 / gamma, times gamma, without SLiC's regulariser. Beyond the margin a hinge has no gradient at all.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from harness.api import Limit, Loss, PairLogps, Range, ResponseLogps, Terms, hookimpl, require

if TYPE_CHECKING:
    from torch import Tensor

KINDS = ("hinge_norm", "hinge", "sigmoid_norm")


@dataclass(frozen=True, kw_only=True)
class RSO(Loss):
    """max(0, 1 - gamma * (log-ratio chosen - log-ratio rejected)), or its two relatives."""

    name: ClassVar[str] = "rso"
    search_space: ClassVar[Mapping[str, Range]] = {"gamma": Range(low=0.005, high=0.5, log=True)}

    gamma: float = 0.05
    """Scale of the margin, above 0: a hinge is satisfied at 1 / gamma nats. Default: the paper's."""
    kind: Literal["hinge_norm", "hinge", "sigmoid_norm"] = "hinge_norm"
    """The loss; "norm" means against the reference model. Default: ours, the hinge against the reference."""

    def __post_init__(self) -> None:
        require(0 < self.gamma < math.inf, f"gamma got {self.gamma}, expected a finite number above 0")
        require(self.kind in KINDS, f"kind got '{self.kind}', expected one of {', '.join(KINDS)}")

    @property
    def needs_reference(self) -> bool:
        """All but "hinge"."""
        return self.kind != "hinge"

    @property
    def limits(self) -> tuple[Limit, ...]:
        """With sigmoid_norm it is DPO."""
        return (Limit(options={"kind": "sigmoid_norm"}, equals="dpo", equals_options={"beta": self.gamma}),)

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,)."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = pairs.log_ratios() if self.needs_reference else (pairs.chosen.sum(), pairs.rejected.sum())
        margin = self.gamma * (chosen - rejected).to(pairs.chosen.token.dtype)
        return Terms.of(-logsigmoid(margin) if self.kind == "sigmoid_norm" else (1 - margin).relu())

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return gamma * (S - R), or gamma * S with "hinge", (B,)."""
        if not self.needs_reference:
            return self.gamma * response.sum
        assert response.ref_sum is not None, "the reward of rso needs the reference's log-probs"
        return self.gamma * (response.sum - response.ref_sum)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [RSO]
