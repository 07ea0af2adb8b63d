"""The loss of an optimiser step: called, checked and, for batch-coupled losses, differentiated over the whole step.

Legend of shapes: B pairs, T response tokens (padded).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from harness.api import HarnessError, Loss, PairLogps
from harness.api.evaluation import tensors
from harness.training.loss_inputs import join
from harness.training.out_of_memory import is_out_of_memory

DETACHED = "look for a detach, no_grad or item"


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
        self._passes_back = False  # tried once

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
        if not self._passes_back:
            self._gradients(values, [side for side in _trained(pairs) if side.requires_grad])
            self._passes_back = True
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
        values, new = outcome
        if not (isinstance(new, Mapping) and all(isinstance(value, Tensor) for value in new.values())):
            raise HarnessError(
                f"loss '{self.loss.name}': step gave a state of {_kinds(new)}, expected tensors by name, as "
                "initial_state gives them"
            )
        # attached, the state would keep the graph of this step alive
        self.state = {name: value.detach() for name, value in new.items()}
        return values

    def _gradients(self, values: Tensor, sides: Sequence[Tensor]) -> list[Tensor]:
        """Return the gradient of the mean loss in each of these log-probs; the graph stays."""
        try:
            found = torch.autograd.grad(values.mean(), sides, retain_graph=True, allow_unused=True)
        except Exception as error:
            if is_out_of_memory(error):
                raise
            raise HarnessError(
                f"loss '{self.loss.name}': its gradient cannot be computed ({type(error).__name__}: {error}); see what "
                "it does behind the log-probs"
            ) from error
        if all(gradient is None for gradient in found):
            raise HarnessError(f"loss '{self.loss.name}' gave values without a gradient in any log-prob; {DETACHED}")
        both = zip(found, sides, strict=True)
        return [torch.zeros_like(side) if gradient is None else gradient for gradient, side in both]

    def shares(self, parts: Sequence[PairLogps]) -> list[Share]:
        """Return the share of each micro-batch in a batch-coupled loss; `parts` are the whole step."""
        whole = join(parts)
        sides = [side.requires_grad_(True) for side in _trained(whole)]
        values = self.values(whole)
        gradients = self._gradients(values, sides)
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
        if values.is_complex():
            raise HarnessError(f"loss '{name}' gave {values.dtype}, expected real numbers; take abs or real of it")
        if not values.requires_grad:
            raise HarnessError(
                f"loss '{name}' gave values without a gradient, expected values that depend on the policy's log-probs; "
                f"{DETACHED}"
            )
        return values


def _trained(pairs: PairLogps) -> list[Tensor]:
    """Return what the policy gives of the responses: token log-probs, then the token KL where the loss reads it."""
    both = (pairs.chosen, pairs.rejected)
    return [side.token for side in both] + [side.token_kl for side in both if side.token_kl is not None]


def _kinds(state: object) -> str:
    """Return of which types a state is."""
    if isinstance(state, Mapping):
        return ", ".join(sorted({type(value).__name__ for value in state.values()}))
    return type(state).__name__


def _versions(pairs: PairLogps) -> dict[str, int]:
    """Return how often each tensor of the batch has been written to, by its path."""
    return {name: tensor._version for name, tensor in tensors(pairs).items()}
