"""BCO: a binary classifier whose logit is the implicit reward; chosen responses are one class, rejected the other.

Formula: -log sigmoid(beta * h_w - d) - log sigmoid(-(beta * h_l - d)), h_w = S_w - R_w, h_l = S_l - R_l; d = 0 with
`shift="none"`, with "running" the mean of beta * h over all responses of this step and those before, held constant.
Reward: beta * (S - R)
Source: Jung et al. (2024), "Binary Classifier Optimization for Large Language Model Alignment", arXiv:2404.04656.
Provenance: [V] TRL 1.16.0's code (`loss_type="bco_pair"`), by golden values; for the running shift TRL 0.9.6's, whose
pair form had it, run in float64. The paper was not checked against them.
Traps: by default without the paper's reward shift, as TRL's pair form today: the threshold stays at the reference, and
both responses may drift to one side of it. The running mean counts every response of the past alike and starts with the
first step's own. The shift is one number for all responses and no part of the reward. Without it the value is an upper
bound of DPO's at the same beta, so the two losses do not compare by value.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from harness.api import Loss, PairLogps, Range, ResponseLogps, State, Terms, hookimpl, require, stop_gradient

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class BCO(Loss):
    """-log sigmoid(chosen reward - shift) - log sigmoid(shift - rejected reward)."""

    name: ClassVar[str] = "bco"
    search_space: ClassVar[Mapping[str, Range]] = {"beta": Range(low=0.01, high=0.5, log=True)}
    needs_reference = True
    comparison = "unpaired"

    beta: float = 0.1
    """Strength of the tie to the reference model, above 0. Default: TRL's."""
    shift: Literal["none", "running"] = "none"
    """What is taken off the rewards: nothing, or their running mean, as in the paper. Default: TRL's."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")
        require(self.shift in ("none", "running"), f"shift got '{self.shift}', expected 'none' or 'running'")

    @property
    def batch_coupled(self) -> bool:
        """With a running shift."""
        return self.shift == "running"

    @property
    def stateful(self) -> bool:
        """With a running shift."""
        return self.shift == "running"

    def initial_state(self) -> State:
        """Return the "mean" of the rewards so far and their "count", () float64 each; nothing without a shift."""
        import torch

        zero = torch.zeros((), dtype=torch.float64)
        return {"mean": zero, "count": zero.clone()} if self.stateful else {}

    def step(self, pairs: PairLogps, state: State, rng: np.random.Generator) -> tuple[Tensor, State]:
        """Return the loss of each pair of the step, (B,), and the mean and count with its responses."""
        import torch
        from torch.nn.functional import logsigmoid

        chosen, rejected = (self.beta * ratio.to(pairs.chosen.token.dtype) for ratio in pairs.log_ratios())
        if not self.stateful:
            return -logsigmoid(chosen) - logsigmoid(-rejected), state
        rewards = torch.cat([chosen, rejected]).double()
        count = state["count"] + len(rewards)
        mean = stop_gradient(state["mean"] + (rewards - state["mean"]).sum() / count)
        shift = mean.to(chosen.dtype)
        return -logsigmoid(chosen - shift) - logsigmoid(shift - rejected), {"mean": mean, "count": count}

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,); with a running shift, in a first step."""
        return Terms.of(self.step(pairs, self.initial_state(), np.random.default_rng(0))[0])

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,): comparable between responses to one prompt only."""
        assert response.ref_sum is not None, "the reward of bco needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [BCO]
