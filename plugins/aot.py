"""AOT: DPO with the policy's and the reference's differences sorted apart over the step, so that distributions compare.

Formula: -log sigmoid(beta * (d_(i) - f_(i))), d = S_w - S_l, f = R_w - R_l, each sorted over the pairs of the step.
Reward: beta * (S - R).
Source: Melnyk et al. (2024), "Distributional Preference Alignment of LLMs via Optimal Transport", arXiv:2406.05882,
the paired variant with the logistic loss.
Provenance: [V] TRL 1.16.0's code (`loss_type="aot"`), by golden values of whole batches.
Traps: only the mean over a step is defined; a value is given to the pair whose POLICY difference it holds, so it
follows that pair, and where two pairs swap ranks their values jump while the mean does not. A misranked pair may be
compared with a low reference difference of another pair and then has next to no gradient. A step of one pair is DPO.
TRL sorts each device's micro-batch, we sort the optimiser step. TRL's label smoothing and its `aot_unpaired` are not
here.
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
class AOT(Loss):
    """-log sigmoid(beta * (policy difference - the reference difference of the same rank))."""

    name: ClassVar[str] = "aot"
    search_space: ClassVar[Mapping[str, Range]] = {"beta": Range(low=0.01, high=0.5, log=True)}
    needs_reference = True
    batch_coupled = True
    saturates = True  # a misranked pair may meet the low reference difference of another pair

    beta: float = 0.1
    """Strength of the tie to the reference model, above 0. Default: TRL's."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair of the step, (B,), at the place of the pair that holds the policy difference."""
        import torch
        from torch.nn.functional import logsigmoid

        assert pairs.ref_chosen is not None, "aot needs the trait needs_reference"
        assert pairs.ref_rejected is not None
        policy, reference = pairs.chosen.sum() - pairs.rejected.sum(), pairs.ref_chosen - pairs.ref_rejected
        order = policy.argsort(stable=True)
        matched = torch.empty_like(reference).scatter(0, order, reference.sort().values)
        return Terms.of(-logsigmoid(self.beta * (policy - matched).to(policy.dtype)))

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,): comparable between responses to one prompt only."""
        assert response.ref_sum is not None, "the reward of aot needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [AOT]
