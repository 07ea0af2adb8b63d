"""beta-DPO: DPO that picks typical pairs of each step and sets beta by their mean gap.

Formula: -log sigmoid(beta_s * h) on the pairs picked; beta_s = max(1e-3, beta * (1 + a * (mean of the picked h - M))),
one constant per step. M and s are running averages over steps of the mean and the standard deviation of h, from 0,
brought up to date before the loss. Picked are int(N * (1 - mode_weight)) of the step's N pairs, at least 1, without
replacement, with weights exp(-((h - M) / s)^2 / 2).
Reward: beta * (S - R), with the option beta.
Source: Wu et al. (2024), "beta-DPO: Direct Preference Optimization with Dynamic beta", arXiv:2407.08639.
Provenance: [V] the authors' `trainers.py:preference_loss` (junkangwu/beta-DPO, 1629047), by a golden value in which all
pairs are picked; the filter was read there, it is random.
Traps: h is the raw log-ratio difference, without beta, as in the authors' code, so `a` is per nat. Dropped pairs give 0
and the others are scaled by N / kept: the step's mean is the mean over the picked. Averages from 0 lag: in the first
steps M and s are a tenth of the step's, and the picked are those of small h. Where s is 0 every pair weighs the same; a
step of one pair leaves s as it is. Picking is by Gumbel noise on the log-weights, which is that very sampling and goes
on where the weights underflow (torch's multinomial fails there). The authors update the averages once per micro-batch,
in evaluation too; we once per step. Called without a state, the loss is that of a first step with seed 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from harness.api import Limit, Loss, PairLogps, Range, ResponseLogps, State, Terms, hookimpl, require, stop_gradient

if TYPE_CHECKING:
    from torch import Tensor

LEAST_BETA = 1e-3


@dataclass(frozen=True, kw_only=True)
class BetaDPO(Loss):
    """-log sigmoid(beta of the step * h) on the pairs picked near the running mean of h, 0 on the others."""

    name: ClassVar[str] = "beta-dpo"
    search_space: ClassVar[Mapping[str, Range]] = {
        "beta": Range(low=0.01, high=0.5, log=True),
        "a": Range(low=0.01, high=1.0, log=True),
    }
    needs_reference = True
    batch_coupled = True
    stateful = True

    beta: float = 0.1
    """Strength of the tie to the reference model before it is adapted, above 0. Default: the authors' code."""
    a: float = 0.6
    """How much beta follows the mean gap, per nat, at least 0. Default: the authors' README (their config: 0.01)."""
    mode_weight: float = 0.2
    """Share of the pairs left out of each step, at least 0 and below 1. Default: the authors' code."""
    momentum: float = 0.9
    """Weight of the past in the running averages, at least 0 and below 1. Default: the authors' code."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")
        require(0 <= self.a < math.inf, f"a got {self.a}, expected a finite number of at least 0")
        for option in ("mode_weight", "momentum"):
            value = getattr(self, option)
            require(0 <= value < 1, f"{option} got {value}, expected a number of at least 0 and below 1")

    @property
    def monotone(self) -> bool:
        """Not where a larger gap raises beta, nor where it may get its pair picked."""
        return self.a == 0 and self.mode_weight == 0

    @property
    def saturates(self) -> bool:
        """A pair left out has no gradient."""
        return self.mode_weight > 0

    @property
    def limits(self) -> tuple[Limit, ...]:
        """With beta fixed and every pair picked it is DPO."""
        plain = {"beta": max(self.beta, LEAST_BETA)}
        return (Limit(options={"a": 0.0, "mode_weight": 0.0}, equals="dpo", equals_options=plain),)

    def initial_state(self) -> State:
        """Return the running "mean" and "std" of h in nats, () float64 each."""
        import torch

        return {"mean": torch.zeros((), dtype=torch.float64), "std": torch.zeros((), dtype=torch.float64)}

    def step(self, pairs: PairLogps, state: State, rng: np.random.Generator) -> tuple[Tensor, State]:
        """Return the loss of each pair of the step, (B,), 0 where it is left out, and the new averages."""
        import torch
        from torch.nn.functional import logsigmoid

        chosen, rejected = pairs.log_ratios()
        h = (chosen - rejected).to(pairs.chosen.token.dtype)
        gaps = stop_gradient(h).double().cpu()
        mean = self.momentum * state["mean"] + (1 - self.momentum) * gaps.mean()
        spread = gaps.std() if len(gaps) > 1 else state["std"]
        std = self.momentum * state["std"] + (1 - self.momentum) * spread
        picked = self._picked((gaps - mean).numpy(), float(std), rng)
        beta = max(LEAST_BETA, self.beta * (1 + self.a * float(gaps[picked].mean() - mean)))
        weight = torch.zeros_like(h)
        weight[picked] = len(gaps) / len(picked)
        return weight * -logsigmoid(beta * h), {"mean": mean, "std": std}

    def _picked(self, offset: np.ndarray, std: float, rng: np.random.Generator) -> Tensor:
        import torch

        kept = max(1, int(len(offset) * (1 - self.mode_weight)))
        noise = rng.gumbel(size=len(offset))
        keys = noise - 0.5 * (offset / std) ** 2 if std > 0 else noise
        return torch.from_numpy(np.sort(np.argsort(-keys, kind="stable")[:kept]))

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,), in a first step with seed 0."""
        return Terms.of(self.step(pairs, self.initial_state(), np.random.default_rng(0))[0])

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,): comparable between responses to one prompt only."""
        assert response.ref_sum is not None, "the reward of beta-dpo needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [BetaDPO]
