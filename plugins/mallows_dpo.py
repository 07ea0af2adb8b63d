"""Mallows-DPO: DPO whose beta is larger for a pair that left the reference model in less doubt.

Formula: -log sigmoid(phi * beta * h), phi = -scale * log((e_w + e_l) / 2), h = (S_w - R_w) - (S_l - R_l); e = entropy
of the reference's next-token distribution, averaged over the tokens of the response, over log of the vocabulary's size;
e is taken as at least 1e-6.
Reward: beta * (S - R); phi is the same for both responses of a pair and part of the loss.
Source: Chen et al. (2024), "Mallows-DPO: Fine-Tune Your LLM with Preference Dispersions", arXiv:2405.14953, the
dispersion estimated by entropy.
Provenance: [S] the authors' code (haoxian-chen/MallowsPO, `loss_type="mallows_dpo"`) was read; values by hand; the
paper was not read.
Traps: h is DPO's; the authors' trainer averages log-probs over tokens and by default leaves the reference out of h.
Their `dispersion_mean` is our scale; a phi far from 1 is another beta. A reference that gives every token alike has e =
1 and phi = 0: the pair has no gradient. The entropies cost one more forward pass of the reference over the pairs, once,
kept and charged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from harness.api import Loss, PairLogps, Range, ResponseLogps, Terms, hookimpl, require

if TYPE_CHECKING:
    from torch import Tensor

LEAST = 1e-6
"""Least entropy, over log of the vocabulary's size."""


@dataclass(frozen=True, kw_only=True)
class MallowsDPO(Loss):
    """-log sigmoid(phi * beta * difference of log-ratios), phi from the reference's entropy over both responses."""

    name: ClassVar[str] = "mallows-dpo"
    search_space: ClassVar[Mapping[str, Range]] = {"beta": Range(low=0.01, high=0.5, log=True)}
    needs_reference = True
    needs_reference_entropy = True
    saturates = True  # phi may be 0

    beta: float = 0.1
    """Strength of the tie to the reference model at phi 1, above 0. Default: DPO's."""
    scale: float = 1.0
    """Factor on the negative log of the entropy, above 0. Default: none."""

    def __post_init__(self) -> None:
        for option in ("beta", "scale"):
            value = getattr(self, option)
            require(0 < value < math.inf, f"{option} got {value}, expected a finite number above 0")

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,)."""
        from torch.nn.functional import logsigmoid

        assert pairs.ref_entropy is not None, "mallows-dpo needs the reference's entropies"
        chosen, rejected = pairs.log_ratios()
        entropy = (pairs.ref_entropy[0] + pairs.ref_entropy[1]) / 2
        phi = -self.scale * entropy.clamp(min=LEAST).log()
        return Terms.of(-logsigmoid((phi * self.beta * (chosen - rejected)).to(pairs.chosen.token.dtype)))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,): comparable between responses to one prompt only."""
        assert response.ref_sum is not None, "the reward of mallows-dpo needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [MallowsDPO]
