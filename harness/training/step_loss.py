"""The loss of an optimiser step: called, checked and, for batch-coupled losses, differentiated over the whole step.

Legend of shapes: B pairs, T response tokens (padded).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.api import HarnessError, Loss, PairLogps
from harness.api.evaluation import tensors
from harness.training.loss_inputs import join


class Share(NamedTuple):
    """The part of one micro-batch in a batch-coupled loss, which is computed over the whole step."""

    values: Tensor
    """(B,) losses of its pairs, detached."""
    grad_chosen: Tensor
    """(B, T) gradient of the step's loss with respect to the chosen token log-probs."""
    grad_rejected: Tensor
    """(B, T) as above, rejected."""
    grad_kl: tuple[Tensor, Tensor] | None = None
    """(B, T) each, in the token KL of the chosen and of the rejected responses, for a loss that reads it."""

    def surrogate(self, pairs: PairLogps) -> Tensor:
        """Return a scalar whose gradient is this micro-batch's part of the step's gradient; its value is meaningless.

        The whole step's graph does not fit into memory, so each micro-batch is run again with a graph of its own.
        """
        total = (pairs.chosen.token * self.grad_chosen).sum() + (pairs.rejected.token * self.grad_rejected).sum()
        if self.grad_kl is None:
            return total
        assert pairs.chosen.token_kl is not None
        assert pairs.rejected.token_kl is not None
        chosen, rejected = self.grad_kl
        return total + (pairs.chosen.token_kl * chosen).sum() + (pairs.rejected.token_kl * rejected).sum()


class StepLoss:
    """A loss as the trainer calls it: per micro-batch or, if it is batch-coupled, once per step, with its state."""

    def __init__(self, loss: Loss, seed: int) -> None:
        if loss.stateful and not loss.batch_coupled:
            raise HarnessError(
                f"loss '{loss.name}' is stateful and not batch_coupled, expected both: a state is updated once per "
                "optimiser step; declare batch_coupled"
            )
        self.loss = loss
        self.state = loss.initial_state()
        self.rng = np.random.default_rng([seed, 29])

    def values(self, pairs: PairLogps) -> Tensor:
        """Return the loss of each pair, (B,). If the loss is batch-coupled, `pairs` is the whole step.

        Raises `HarnessError` if the loss returns no tensor, the wrong shape or values without a gradient, and if it
        writes into the batch.
        """
        before = _versions(pairs)
        values = self._checked(self._called(pairs), pairs)
        if _versions(pairs) != before:
            raise HarnessError(
                f"loss '{self.loss.name}' changed a tensor of the batch in place, expected it as it was: the step log "
                "reads it too; write to a copy"
            )
        return values

    def _called(self, pairs: PairLogps) -> Tensor:
        if not self.loss.batch_coupled:
            return self.loss(pairs)
        device = pairs.chosen.token.device
        state = {name: value.to(device) for name, value in self.state.items()}
        outcome = self.loss.step(pairs, state, self.rng)
        if not (isinstance(outcome, tuple) and len(outcome) == 2):
            raise HarnessError(
                f"loss '{self.loss.name}': step gave a {type(outcome).__name__}, expected (values, state); return both"
            )
        # attached, the state would keep the graph of this step alive
        self.state = {name: value.detach() for name, value in outcome[1].items()}
        return outcome[0]

    def shares(self, parts: Sequence[PairLogps]) -> list[Share]:
        """Return the share of each micro-batch in a batch-coupled loss; `parts` are the whole step."""
        whole = join(parts)
        sides = [whole.chosen.token.requires_grad_(True), whole.rejected.token.requires_grad_(True)]
        sides += [
            side.token_kl.requires_grad_(True) for side in (whole.chosen, whole.rejected) if side.token_kl is not None
        ]
        values = self.values(whole)
        gradients = torch.autograd.grad(values.mean(), sides, allow_unused=True, materialize_grads=True)
        shares, start = [], 0
        for part in parts:
            rows = slice(start, start + len(part.chosen.token))
            start = rows.stop
            widths = 2 * [part.chosen.token.shape[1], part.rejected.token.shape[1]]
            own = [gradient[rows, :width] for gradient, width in zip(gradients, widths, strict=False)]
            shares.append(Share(values[rows].detach(), own[0], own[1], (own[2], own[3]) if own[2:] else None))
        return shares

    def _checked(self, values: Tensor, pairs: PairLogps) -> Tensor:
        name, expected = self.loss.name, tuple(pairs.chosen.token.shape[:1])
        if not isinstance(values, Tensor):
            raise HarnessError(f"loss '{name}' gave a {type(values).__name__}, expected a tensor of shape {expected}")
        if values.shape != expected:
            raise HarnessError(
                f"loss '{name}' gave shape {tuple(values.shape)}, expected one value per pair {expected}; do not reduce"
            )
        if not values.requires_grad:
            raise HarnessError(
                f"loss '{name}' gave values without a gradient, expected values that depend on the policy's log-probs; "
                "look for a detach, no_grad or item"
            )
        return values


def _versions(pairs: PairLogps) -> dict[str, int]:
    """Return how often each tensor of the batch has been written to, by its path."""
    return {name: tensor._version for name, tensor in tensors(pairs).items()}
