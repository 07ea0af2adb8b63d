"""AlphaDPO: SimPO whose target gap follows how far each pair has come from the reference, compared with the others.

Formula: -log sigmoid(beta * (A_w - A_l) - m), m = gamma + alpha * z(g) held constant, g = (A_w - A_l) - (R_w / n_w -
R_l / n_l) the gap of the log-ratios per token; z(g) = (g - mean) / sd, unbiased sd, over the pairs of the step
("step"), or with running averages of mean and sd over steps ("running").
Reward: beta * A.
Source: Wu et al. (2024), "AlphaDPO: Adaptive Reward Margin is What Direct Preference Optimization Needs",
arXiv:2410.10148.
Provenance: [S] the authors' code (junkangwu/alpha-DPO, `dpo_trainer.py`) was read, and "running" follows it; values by
hand; the paper was not read.
Traps: the loss reads the reference, the reward does not. The authors state gamma and alpha per beta, m = beta * (ratio
+ alpha' z): their 0.6 and 0.2 at beta 2.5 are our 1.5 and 0.5. Their averages start at 0 and keep 0.9 of the past, so
that z is ten times too large in the first step; hence our default "step". Before the first update the gaps are
rounding, and so are their scores: z is 0 only where they agree to the last digits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from harness.api import Limit, Loss, PairLogps, Range, ResponseLogps, State, Terms, hookimpl, require, stop_gradient

if TYPE_CHECKING:
    from torch import Tensor

MOMENTUM = 0.9
"""Weight of the past in the running averages."""


@dataclass(frozen=True, kw_only=True)
class AlphaDPO(Loss):
    """-log sigmoid(beta * (mean logp chosen - mean logp rejected) - (gamma + alpha * z(gap to the reference)))."""

    name: ClassVar[str] = "alpha-dpo"
    search_space: ClassVar[Mapping[str, Range]] = {
        "beta": Range(low=1.0, high=10.0, log=True),
        "gamma": Range(low=0.0, high=5.0),
        "alpha": Range(low=0.01, high=2.0, log=True),
    }
    needs_reference = True
    reward_needs_reference = False
    length_normalised = True
    batch_coupled = True

    beta: float = 2.5
    """Scale of the averaged log-probs, above 0. Default: the authors' for Llama 3."""
    gamma: float = 1.5
    """Mean target gap in reward units. Default: the authors' 0.6 * beta for Llama 3."""
    alpha: float = 0.5
    """Added to the target gap per standard deviation, in reward units, at least 0. Default: the authors' 0.2 * beta."""
    statistics: Literal["step", "running"] = "step"
    """What z runs over: the step's pairs, or running averages (the authors' code). Default: ours, see Traps."""

    def __post_init__(self) -> None:
        known = ("step", "running")
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")
        require(math.isfinite(self.gamma), f"gamma got {self.gamma}, expected a finite number")
        require(0 <= self.alpha < math.inf, f"alpha got {self.alpha}, expected a finite number of at least 0")
        require(self.statistics in known, f"statistics got '{self.statistics}', expected one of {', '.join(known)}")

    @property
    def stateful(self) -> bool:
        """With running averages."""
        return self.statistics == "running"

    @property
    def saturates(self) -> bool:
        """With running averages, whose first steps give margins that are far too low or too high."""
        return self.stateful

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Without the moving part it is SimPO."""
        plain = {"beta": self.beta, "gamma": self.gamma}
        return (Limit(options={"alpha": 0.0}, equals="simpo", equals_options=plain),)

    def initial_state(self) -> State:
        """Return the running "mean" and "sd" of the gap, () float64 each; nothing without them."""
        import torch

        zero = torch.zeros((), dtype=torch.float64)
        return {"mean": zero, "sd": zero.clone()} if self.stateful else {}

    def step(self, pairs: PairLogps, state: State, rng: np.random.Generator) -> tuple[Tensor, State]:
        """Return the loss of each pair of the step, (B,), and the new averages."""
        import torch
        from torch.nn.functional import logsigmoid

        assert pairs.ref_chosen is not None, "alpha-dpo needs the trait needs_reference"
        assert pairs.ref_rejected is not None
        chosen, rejected = pairs.chosen.mean(), pairs.rejected.mean()
        reference = pairs.ref_chosen / pairs.chosen.length() - pairs.ref_rejected / pairs.rejected.length()
        gap = (chosen - rejected - reference).double()
        rounding = 8 * torch.finfo(chosen.dtype).eps * torch.maximum(chosen.abs().max(), rejected.abs().max())
        mean, sd = gap.mean(), ((gap - gap.mean()).square().sum() / max(len(gap) - 1, 1)).sqrt()
        if self.stateful:
            sd = sd if len(gap) > 1 else state["sd"]
            mean = MOMENTUM * state["mean"] + (1 - MOMENTUM) * mean
            sd = MOMENTUM * state["sd"] + (1 - MOMENTUM) * sd
            state = {"mean": mean.detach(), "sd": sd.detach()}
        z = torch.where(sd > rounding, (gap - mean) / sd.clamp(min=torch.finfo(torch.float64).tiny), 0.0)
        margin = stop_gradient((self.gamma + self.alpha * z).to(chosen.dtype))
        return -logsigmoid(self.beta * (chosen - rejected) - margin), state

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair of the step, (B,); with running averages, in a first step."""
        return Terms.of(self.step(pairs, self.initial_state(), np.random.default_rng(0))[0])

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * A, (B,); the margin is part of the loss, never of the reward."""
        return self.beta * response.sum / response.length


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [AlphaDPO]
