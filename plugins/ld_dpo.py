"""LD-DPO: DPO in which the tokens that only the longer response has count less.

Formula: -log sigmoid(beta * (h'_w - h'_l)), h' = sum over tokens of weight * (log p - log p_ref), weight = 1 up to
position min(n_w, n_l) and alpha beyond it.
Reward: beta * (S - R), unweighted: the weights need both responses, and the reward is of one.
Source: Liu et al. (2024), "Length Desensitization in Direct Preference Optimization", arXiv:2409.06411.
Provenance: [V] TRL 1.16.0's code, by golden values; the paper's own text was not read.
Traps: the weight is applied to the policy AND the reference, as in TRL; LLaMA-Factory applies it to the policy only,
which is another loss: there the logit is not 0 where the two models agree. TRL logs the weighted log-ratio as the
reward. With responses of equal length it is DPO whatever alpha. It reads reference log-probs per token.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.api import Limit, Logps, Loss, PairLogps, Range, ResponseLogps, Terms, hookimpl, require

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class LDDPO(Loss):
    """-log sigmoid(beta * difference of log-ratios whose tail beyond the shorter length weighs alpha)."""

    name: ClassVar[str] = "ld-dpo"
    search_space: ClassVar[Mapping[str, Range]] = {
        "beta": Range(low=0.01, high=0.5, log=True),
        "alpha": Range(low=0.0, high=1.0),
    }
    needs_reference = True
    needs_reference_tokens = True

    beta: float = 0.1
    """Strength of the tie to the reference model, above 0. Default: DPO's."""
    alpha: float = 0.5
    """Weight of the tokens beyond the shorter length, 0 (ignored) to 1 (DPO). Default: ours, halfway."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")
        require(0 <= self.alpha <= 1, f"alpha got {self.alpha}, expected a number from 0 to 1")

    @property
    def limits(self) -> tuple[Limit, ...]:
        """With every token at weight 1 it is DPO."""
        return (Limit(options={"alpha": 1.0}, equals="dpo", equals_options={"beta": self.beta}),)

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,)."""
        from torch.nn.functional import logsigmoid

        assert pairs.ref_tokens is not None, "ld-dpo needs the reference's log-probs per token"
        shared = pairs.chosen.mask.sum(-1).minimum(pairs.rejected.mask.sum(-1))
        chosen = self._weighted(pairs.chosen, shared) - self._weighted(pairs.ref_tokens[0], shared)
        rejected = self._weighted(pairs.rejected, shared) - self._weighted(pairs.ref_tokens[1], shared)
        logits = self.beta * (chosen - rejected).to(pairs.chosen.token.dtype)
        return Terms.of(-logsigmoid(logits))

    def _weighted(self, response: Logps, shared: Tensor) -> Tensor:
        token = response.token.double()  # as Logps.sum: thousands of float32 terms lose digits
        beyond = response.mask.cumsum(-1) > shared[:, None]
        return token.where(~beyond, self.alpha * token).sum(-1)

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,): comparable between responses to one prompt only."""
        assert response.ref_sum is not None, "the reward of ld-dpo needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [LDDPO]
