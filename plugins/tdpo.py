"""TDPO: DPO whose margin is corrected by the KL of the policy from the reference, token by token over the vocabulary.

Formula: version 1: -log sigmoid(beta * (h - (K_l - K_w))); version 2: -log sigmoid(beta * (h - alpha * (K_l -
sg[K_w]))), h = (S_w - R_w) - (S_l - R_l), K = sum over the response's tokens of KL(reference || policy) over the whole
vocabulary, sg: held constant.
Reward: beta * (S - R); the authors add beta * K, which reads the whole vocabulary and is not known where responses are
scored.
Source: Zeng et al. (2024), "Token-level Direct Preference Optimization", arXiv:2404.11999.
Provenance: [S] the authors' code (Vance0124/Token-level-Direct-Preference-Optimization, `tdpo_loss`) was read; values
by hand; the paper was not read.
Traps: the KL is forward, the reference first, and a sum over tokens: it grows with length. Version 1 lets the gradient
flow into both KLs, version 2 into the rejected one alone, which it holds down. A copy of the reference model stays in
memory and runs beside every micro-batch: 2 N FLOPs per token, charged to the budget. Where policy and reference are the
same the KLs are 0 and the loss is DPO's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.api import Limit, Logps, Loss, PairLogps, Range, ResponseLogps, Terms, hookimpl, require, stop_gradient

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class TDPO(Loss):
    """-log sigmoid(beta * (difference of log-ratios - alpha * (KL of the rejected - KL of the chosen response)))."""

    name: ClassVar[str] = "tdpo"
    search_space: ClassVar[Mapping[str, Range]] = {
        "beta": Range(low=0.01, high=0.5, log=True),
        "alpha": Range(low=0.05, high=2.0, log=True),
    }
    needs_reference = True
    needs_token_kl = True

    beta: float = 0.1
    """Strength of the tie to the reference model, above 0. Default: the authors'."""
    alpha: float = 0.5
    """Weight of the KLs in version 2, at least 0; version 1 has none. Default: the authors'."""
    version: int = 2
    """1 or 2, see Formula. Default: the authors'."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")
        require(0 <= self.alpha < math.inf, f"alpha got {self.alpha}, expected a finite number of at least 0")
        require(self.version in (1, 2), f"version got {self.version}, expected 1 or 2")

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Without the KLs it is DPO."""
        return (Limit(options={"alpha": 0.0, "version": 2}, equals="dpo", equals_options={"beta": self.beta}),)

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,)."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = pairs.log_ratios()
        over_chosen, over_rejected = _divergence(pairs.chosen), _divergence(pairs.rejected)
        if self.version == 1:
            correction = over_rejected - over_chosen
        else:
            correction = self.alpha * (over_rejected - stop_gradient(over_chosen))
        return Terms.of(-logsigmoid(self.beta * (chosen - rejected - correction).to(pairs.chosen.token.dtype)))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,): comparable between responses to one prompt only."""
        assert response.ref_sum is not None, "the reward of tdpo needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


def _divergence(response: Logps) -> Tensor:
    """Return K, the KL summed over the tokens of each response, (B,)."""
    assert response.token_kl is not None, "tdpo needs the token KL"
    return response.token_kl.double().sum(-1).to(response.token.dtype)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [TDPO]
