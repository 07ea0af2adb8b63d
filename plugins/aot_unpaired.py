"""AOT without pairs: log-ratios of chosen and of rejected responses, sorted apart over the step, compared by rank.

Formula: -log sigmoid(beta * (h_w(i) - h_l(i))), h = S - R, the chosen and the rejected ones each sorted over the pairs
of the step.
Reward: beta * (S - R).
Source: Melnyk et al. (2024), "Distributional Preference Alignment of LLMs via Optimal Transport", arXiv:2406.05882, the
unpaired variant with the logistic loss.
Provenance: [V] values by TRL 0.9.6's own code (there `loss_type="aot_pair"`, later `aot_unpaired`), run in float64.
Traps: only the mean over a step is defined; a value is given to the pair whose CHOSEN response it holds, and its
gradient reaches the rejected response of the same rank, often of another prompt. A rejected response of its own may
hardly count: a misranked pair can have next to no gradient. A step of one pair is DPO. TRL names the unpaired variant
`aot_pair` in its older versions, and sorts each device's micro-batch; we sort the optimiser step.
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
class AOTUnpaired(Loss):
    """-log sigmoid(beta * (chosen log-ratio - the rejected log-ratio of the same rank))."""

    name: ClassVar[str] = "aot-unpaired"
    search_space: ClassVar[Mapping[str, Range]] = {"beta": Range(low=0.01, high=0.5, log=True)}
    needs_reference = True
    batch_coupled = True
    comparison = "unpaired"
    saturates = True  # a misranked pair may meet responses of other pairs

    beta: float = 0.1
    """Strength of the tie to the reference model, above 0. Default: TRL's."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair of the step, (B,), at the place of the pair that holds the chosen response."""
        import torch
        from torch.nn.functional import logsigmoid

        chosen, rejected = pairs.log_ratios()
        order = chosen.argsort(stable=True)
        matched = torch.empty_like(rejected).scatter(0, order, rejected.sort().values)
        return Terms.of(-logsigmoid(self.beta * (chosen - matched).to(pairs.chosen.token.dtype)))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,): comparable between responses to one prompt only."""
        assert response.ref_sum is not None, "the reward of aot-unpaired needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [AOTUnpaired]
