"""NCA: noise contrastive alignment; the likelihood of each response is raised or lowered for itself, in its pair form.

Formula: -log sigmoid(beta * h_w) - 0.5 log sigmoid(-beta * h_w) - 0.5 log sigmoid(-beta * h_l), h_w = S_w - R_w, h_l =
S_l - R_l.
Reward: beta * (S - R)
Source: Chen et al. (2024), "Noise Contrastive Alignment of Language Models with Explicit Rewards", arXiv:2402.05369.
Provenance: [V] TRL 1.16.0's code (`loss_type="nca_pair"`), by golden values; the paper was not checked against it.
Traps: the form for two responses with hard labels; the paper's takes scalar rewards of several responses to a prompt,
and the 0.5 is the share of each of the two, so a label without its pair would not do. The chosen response has a turning
point, beta * h_w = log 2: a reward above it raises the loss.
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
class NCA(Loss):
    """-log sigmoid(chosen reward) - half the sum of log sigmoid(-reward) over both responses."""

    name: ClassVar[str] = "nca"
    search_space: ClassVar[Mapping[str, Range]] = {"beta": Range(low=0.01, high=0.5, log=True)}
    needs_reference = True
    comparison = "pointwise"
    monotone = False  # the chosen response's own noise term: it turns at beta * h_w = log 2

    beta: float = 0.1
    """Strength of the tie to the reference model, above 0. Default: TRL's."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,)."""
        from torch.nn.functional import logsigmoid

        chosen, rejected = (self.beta * ratio.to(pairs.chosen.token.dtype) for ratio in pairs.log_ratios())
        noise = logsigmoid(-chosen) + logsigmoid(-rejected)
        return Terms.of(-logsigmoid(chosen) - 0.5 * noise)

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,): comparable between responses to one prompt only."""
        assert response.ref_sum is not None, "the reward of nca needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [NCA]
