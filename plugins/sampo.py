"""SamPO: DPO on as many tokens of the longer response as the shorter one has, drawn at random in every step.

Formula: -log sigmoid(beta * (h'_w - h'_l)), h' = sum of log p - log p_ref over the tokens kept: all of the shorter
response, and min(n_w, n_l) of the longer one, drawn uniformly without replacement whenever a pair is visited.
Reward: beta * (S - R), of all tokens: what is kept depends on the other response, and the reward is of one.
Source: Lu et al. (2024), "Eliminating Biased Length Reliance of Direct Preference Optimization via Down-Sampled KL
Divergence", arXiv:2406.10957.
Provenance: [S] the authors' code (LuJunru/SamPO, `dpo_trainer.py`) was read; values by hand; the paper was not read.
Traps: the same positions are kept under policy and reference; the authors' code draws anew for the reference, so that
its ratio is of different tokens. The draw comes from the generator of the step, so the loss needs whole steps, and with
micro-batches an extra forward pass. No loss can be put around it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from harness.api import Logps, Loss, PairLogps, Range, ResponseLogps, State, Terms, hookimpl, require

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class SamPO(Loss):
    """-log sigmoid(beta * difference of log-ratios over equally many tokens of both responses)."""

    name: ClassVar[str] = "sampo"
    search_space: ClassVar[Mapping[str, Range]] = {"beta": Range(low=0.01, high=0.5, log=True)}
    needs_reference = True
    needs_reference_tokens = True
    batch_coupled = True
    stateful = True  # its state is the generator's alone

    beta: float = 0.1
    """Strength of the tie to the reference model, above 0. Default: DPO's."""

    def __post_init__(self) -> None:
        require(0 < self.beta < math.inf, f"beta got {self.beta}, expected a finite number above 0")

    def step(self, pairs: PairLogps, state: State, rng: np.random.Generator) -> tuple[Tensor, State]:
        """Return the loss of each pair of the step, (B,), and the state as it was."""
        from torch.nn.functional import logsigmoid

        assert pairs.ref_tokens is not None, "sampo needs the reference's log-probs per token"
        chosen_mask, rejected_mask = (side.mask.cpu().numpy() for side in (pairs.chosen, pairs.rejected))
        shared = np.minimum(chosen_mask.sum(-1), rejected_mask.sum(-1))
        chosen = _ratio(pairs.chosen, pairs.ref_tokens[0], _kept(chosen_mask, shared, rng))
        rejected = _ratio(pairs.rejected, pairs.ref_tokens[1], _kept(rejected_mask, shared, rng))
        return -logsigmoid(self.beta * (chosen - rejected).to(pairs.chosen.token.dtype)), state

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the loss of each pair, (B,), in a step with seed 0."""
        return Terms.of(self.step(pairs, self.initial_state(), np.random.default_rng(0))[0])

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return beta * (S - R), (B,): comparable between responses to one prompt only."""
        assert response.ref_sum is not None, "the reward of sampo needs the reference's log-probs"
        return self.beta * (response.sum - response.ref_sum)


def _kept(mask: np.ndarray, shared: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return which tokens are kept, (B, T) bool: `shared`, (B,), of each response."""
    kept = np.zeros_like(mask)
    for row, count in enumerate(shared):
        places = np.flatnonzero(mask[row])
        kept[row, places if count == len(places) else rng.choice(places, size=count, replace=False)] = True
    return kept


def _ratio(policy: Logps, reference: Logps, kept: np.ndarray) -> Tensor:
    """Return the log-ratio summed over the tokens kept, (B,) float64."""
    import torch

    ratio = policy.token.double() - reference.token.double()
    return torch.where(torch.from_numpy(kept).to(ratio.device), ratio, 0.0).sum(-1)


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [SamPO]
