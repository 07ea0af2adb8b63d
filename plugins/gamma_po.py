"""gamma-PO: a target margin of its own for each pair, larger where the gap is larger, at a fixed mean.

Formula: -log sigmoid(q - g), q = r(y_w) - r(y_l) by the base's reward; with a reference-based base
-log sigmoid(q - (g - gamma0)). g = gamma0 * n * p, held constant; p on the simplex minimises
mean of softplus(g_i - q_i) + tau * KL(p || uniform) over the step and some past gaps, n in all.
Reward: the base's.
Source: Sun et al. (2025), "Robust Preference Optimization via Dynamic Target Margins", arXiv:2506.03690.
Provenance: [V] the authors' `scripts/simpo_trainer.py:get_gamma_dq` (sunjie279/gammaPO, 4f2e09c), by golden values of
solver and losses with an empty queue.
Traps: the base is used for its reward alone: beta * (A_w - A_l) of simpo, beta * h of dpo. SimPO's own gamma is
replaced by the adaptive one; DPO's label smoothing and CPO's NLL are left out. In the authors' code DPO's log-ratios
are averaged over tokens unless `length_norm=False`; ours are the base's. Their solver runs 20 rounds and gives the
margins that the last one started from, so 19 updates count; kept. With gamma0 above 2 sqrt(tau) the rounds may
overshoot: a larger gap can then raise the loss. Their queue of the last 2048 gaps starts with 8 normal draws and is
sampled without a seed; ours starts empty and is sampled with the seed of the run: as many as fill the step up to 256.
Confident pairs are trusted more. Called without a state, the loss is that of a first step: the queue is empty.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from harness.api import (
    Limit,
    Logps,
    Loss,
    PairLogps,
    Range,
    ResponseLogps,
    State,
    Terms,
    Wrapper,
    hookimpl,
    require,
    stop_gradient,
    wraps,
)

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

QUEUE = 2048
"""Past gaps that are remembered."""
SOLVED = 256
"""Gaps the margins are solved over, where the queue has enough."""
ROUNDS = 20


@dataclass(frozen=True, kw_only=True)
class GammaPO(Wrapper):
    """-log sigmoid(reward gap of the base - margin solved for over the step and a queue of past gaps)."""

    name: ClassVar[str] = "gamma-po"
    search_space: ClassVar[Mapping[str, Range]] = {
        "gamma0": Range(low=0.1, high=5.0, log=True),
        "tau": Range(low=3.0, high=20.0, log=True),
    }
    needs_reference_tokens = needs_kl = needs_log_sum_sq = False  # a reward reads sums and lengths alone
    needs_token_kl = needs_reference_entropy = False
    needs_columns = ()
    batch_coupled = True
    stateful = True
    comparison = "pairwise"
    saturates = False

    base: Loss = wraps("simpo")  # noqa: RUF009  # it is a field specifier, evaluated once
    """The loss whose reward is used; its options follow as `base.<option>`. Default: the paper's first form."""
    gamma0: float = 0.375
    """Mean margin in reward units, absolute, at least 0. Default: the Mistral-Instruct recipe, 0.15 * beta 2.5."""
    tau: float = 10.0
    """Pull of the margins towards their mean, above 0. Default: the Mistral-Instruct recipe."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.gamma0 < math.inf, f"gamma0 got {self.gamma0}, expected a finite number of at least 0")
        require(0 < self.tau < math.inf, f"tau got {self.tau}, expected a finite number above 0")

    @property
    def needs_reference(self) -> bool:
        """If the base's reward does."""
        return self.base.reward_needs_reference

    @property
    def monotone(self) -> bool:
        """Not where the solver may overshoot, see above."""
        return self.gamma0 <= 2 * math.sqrt(self.tau)

    @property
    def limits(self) -> tuple[Limit, ...]:
        """With margins held at their mean it is SimPO with gamma = gamma0, or DPO."""
        replaced: Mapping[str, Mapping[str, Any]] = {"simpo": {"gamma": self.gamma0}, "dpo": {"label_smoothing": 0.0}}
        if self.base.name not in replaced:
            return ()
        inner = {**self.base.options(), **replaced[self.base.name]}
        return (Limit(options={"tau": 1e6}, equals=self.base.name, equals_options=inner, tolerance=1e-4),)

    def tuning_space(self) -> dict[str, Range]:
        """Return what tuning may vary, without the base's own margin, which the margin solved for replaces."""
        return {option: spread for option, spread in super().tuning_space().items() if option != "base.gamma"}

    def prepare(self, pairs: pd.DataFrame) -> Mapping[str, np.ndarray]:
        """Return nothing: a reward reads no columns."""
        return {}

    def initial_state(self) -> State:
        """Return an empty "queue" of past gaps in reward units, (0,) float64."""
        import torch

        return {"queue": torch.zeros(0, dtype=torch.float64)}

    def step(self, pairs: PairLogps, state: State, rng: np.random.Generator) -> tuple[Tensor, State]:
        """Return the loss of each pair of the step, (B,), and the queue with the step's gaps at its end."""
        import torch
        from torch.nn.functional import logsigmoid

        chosen = self._reward(pairs.chosen, pairs.ref_chosen)
        q = (chosen - self._reward(pairs.rejected, pairs.ref_rejected)).to(pairs.chosen.token.dtype)
        gaps, queue = stop_gradient(q).double().cpu(), state["queue"]
        past = rng.choice(len(queue), size=min(len(queue), max(0, SOLVED - len(gaps))), replace=False)
        margin = margins(torch.cat([gaps, queue[torch.from_numpy(past)]]), self.gamma0, self.tau)[: len(gaps)]
        margin = margin - self.gamma0 if self.reward_needs_reference else margin
        return -logsigmoid(q - margin.to(q)), {"queue": torch.cat([queue, gaps])[-QUEUE:]}

    def _reward(self, response: Logps, ref_sum: Tensor | None) -> Tensor:
        return self.base.reward(ResponseLogps(sum=response.sum(), length=response.length(), ref_sum=ref_sum))

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,), in a first step: over its own pairs alone."""
        return Terms.of(self.step(pairs, self.initial_state(), np.random.default_rng(0))[0])


def margins(gaps: Tensor, gamma0: float, tau: float) -> Tensor:
    """Return gamma0 * n * p of each gap, (n,), by exponentiated-gradient steps on p from the uniform distribution."""
    import torch

    count, rate = len(gaps), min(0.5 / tau, 1.0)
    share = torch.full_like(gaps, 1 / count)
    for _ in range(ROUNDS - 1):  # the authors' 20th update is never read
        pull = tau * (1 + (count * (share + 1e-10)).log())
        push = gamma0 * (gamma0 * count * share - gaps).sigmoid()
        share = (share.log() - rate * (pull + push)).softmax(0)  # share * exp(-rate * gradient), normalised
    return gamma0 * count * share


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [GammaPO]
