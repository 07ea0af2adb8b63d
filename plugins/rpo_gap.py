"""Reward-aware preference optimisation: the difference of implicit rewards is pulled to the gap of the scores.

Formula: d(beta * h, t), h = (S_w - R_w) - (S_l - R_l), t = eta * (s_w - s_l), s the annotation scores; d = squared
(beta * h - t)^2, kl-target KL(Bernoulli(sigmoid(t)) from Bernoulli(sigmoid(beta * h))), target first, or kl-policy the
same KL with the policy first.
Reward: beta * (S - R).
Source: NVIDIA (2024), "Nemotron-4 340B Technical Report", arXiv:2406.11704; Sun et al. (2025), "Reward-aware Preference
Optimization: A Unified Mathematical Framework for Model Alignment", arXiv:2502.00203.
Provenance: [S] the code of NeMo-Aligner was read (`rpo_sq`, `rpo_bwd_kl` = kl-target, `rpo_fwd_kl` = kl-policy); values
by hand; the papers were not read.
Traps: not `rpo`, which is DPO with an NLL. The gap is signed: a pair whose scores contradict its label is pulled the
other way, and a tie to 0. eta carries the scale of the scores: on a scale from 1 to 10 a gap of 4 at eta 1 is a target
of 4 nats. With kl-policy the gradient vanishes on a badly misranked pair.
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
class RPOGap(Loss):
    """Distance between beta * difference of log-ratios and eta * score gap: squared, or KL of their sigmoids."""

    name: ClassVar[str] = "rpo-gap"
    search_space: ClassVar[Mapping[str, Range]] = {
        "beta": Range(low=0.01, high=0.5, log=True),
        "eta": Range(low=0.1, high=5.0, log=True),
    }
    needs_reference = True
    needs_columns = ("score_chosen", "score_rejected")
    monotone = False  # beyond the target a larger margin costs

    beta: float = 0.1
    """Strength of the tie to the reference model, above 0. Default: DPO's."""
    eta: float = 1.0
    """Nats of margin per unit of score gap, above 0. Default: NeMo-Aligner's."""
    form: Literal["kl-target", "kl-policy", "squared"] = "kl-target"
    """The distance, see Formula. Default: Nemotron-4's."""

    def __post_init__(self) -> None:
        forms = ("kl-target", "kl-policy", "squared")
        require(self.form in forms, f"form got '{self.form}', expected one of {', '.join(forms)}")
        for option in ("beta", "eta"):
            value = getattr(self, option)
            require(0 < value < math.inf, f"{option} got {value}, expected a finite number above 0")

    @property
    def saturates(self) -> bool:
        """With the policy first the gradient has the factor p * (1 - p)."""
        return self.form == "kl-policy"

    @property
    def limits(self) -> tuple[Limit, ...]:
        """With a hopeless gap kl-target is DPO; with a gap of 1 squared is IPO on sums, times beta^2."""
        sure, one = {"score_chosen": 1e4, "score_rejected": 0.0}, {"score_chosen": 4.0, "score_rejected": 3.0}
        tau = {"tau": self.beta / 2, "reduction": "sum"}
        return (
            Limit(
                options={"form": "kl-target", "eta": 1.0},
                equals="dpo",
                equals_options={"beta": self.beta},
                columns=sure,
            ),
            Limit(
                options={"form": "squared", "eta": 1.0},
                equals="ipo",
                equals_options=tau,
                columns=one,
                scale=self.beta**2,
            ),
        )

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,)."""
        chosen, rejected = pairs.log_ratios()
        margin = self.beta * (chosen - rejected).to(pairs.chosen.token.dtype)
        target = self.eta * (pairs.columns["score_chosen"] - pairs.columns["score_rejected"]).to(margin)
        if self.form == "squared":
            return Terms.of((margin - target).square())
        return Terms.of(_divergence(target, margin) if self.form == "kl-target" else _divergence(margin, target))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,): comparable between responses to one prompt only."""
        assert response.ref_sum is not None, "the reward of rpo-gap needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


def _divergence(first: Tensor, second: Tensor) -> Tensor:
    """Return KL(Bernoulli(sigmoid(first)) from Bernoulli(sigmoid(second))), (B,)."""
    from torch.nn.functional import logsigmoid

    won = first.sigmoid() * (logsigmoid(first) - logsigmoid(second))
    lost = (-first).sigmoid() * (logsigmoid(-first) - logsigmoid(-second))
    return won + lost


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [RPOGap]
