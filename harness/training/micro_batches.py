"""How many pairs go through the model at once: as many as asked, and fewer from the step on at which memory is out.

That step is done anew from the weights before it. Its pairs, and what each weighs, stay the same, so the training is
that with the smaller micro-batch up to rounding, and in every bit where its first step was the one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from accelerate.utils.memory import clear_device_cache
from torch import Tensor

from harness.api import HarnessError
from harness.training.out_of_memory import in_short, is_out_of_memory, less

if TYPE_CHECKING:
    from harness.training.trainer import PreferenceTrainer

T = TypeVar("T")
MicroBatch = dict[str, Tensor]
Smaller = Callable[[int, int], None]
"""Called with a step and the pairs that go through the model at once from it on."""


def say_nothing(_step: int, _pairs: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True, kw_only=True)
class _Before:
    """What a trainer counts and its loss keeps, as it was before a step."""

    pairs: int
    tokens: int
    mismatched_tokens: int
    sums: Mapping[str, float]
    state: Mapping[str, Tensor]
    rng: Mapping[str, Any]

    @classmethod
    def of(cls, trainer: PreferenceTrainer) -> _Before:
        """Note it."""
        return cls(
            pairs=trainer.visited_pairs,
            tokens=trainer.visited_tokens,
            mismatched_tokens=trainer.inputs.mismatched_tokens,
            sums=dict(trainer.sums),
            state={name: value.clone() for name, value in trainer.loss_of_step.state.items()},
            rng=trainer.loss_of_step.rng.bit_generator.state,
        )

    def restore(self, trainer: PreferenceTrainer) -> None:
        """Have it again, without a gradient of the step."""
        assert trainer.model is not None
        trainer.model.zero_grad()
        trainer.shares.clear()
        trainer.visited_pairs, trainer.visited_tokens = self.pairs, self.tokens
        trainer.inputs.mismatched_tokens = self.mismatched_tokens
        trainer.sums = dict(self.sums)
        trainer.loss_of_step.state = {name: value.clone() for name, value in self.state.items()}
        trainer.loss_of_step.rng.bit_generator.state = dict(self.rng)


class MicroBatches:
    """The micro-batches of a step on their way through the model, cut smaller where memory is out."""

    def __init__(self, trainer: PreferenceTrainer, pairs: int, smaller: Smaller) -> None:
        self.trainer, self.asked, self.pairs, self._smaller = trainer, pairs, pairs, smaller
        self._step: list[MicroBatch] = []  # as they were asked for
        self._at = 0

    def begin(self, step: list[MicroBatch]) -> None:
        """Take the micro-batches of a step; those of a batch-coupled loss are coupled."""
        self._step, self._at, self._before = step, 0, _Before.of(self.trainer)
        self._as_it_fits(lambda anew: self._couple())

    def run(self, forward_backward: Callable[[MicroBatch], Tensor]) -> Tensor:
        """Have the next micro-batch of the step passed forward and backward; return its share of the step's loss."""
        at, self._at = self._at, self._at + 1

        def work(anew: bool) -> Tensor:
            if anew:
                self._couple()
                for batch in self._step[:at]:
                    self._pass(batch, forward_backward)
            return self._pass(self._step[at], forward_backward)

        return self._as_it_fits(work)

    @property
    def fewer(self) -> int | None:
        """The pairs at once, where memory did not hold as many as asked."""
        return self.pairs if self.pairs < self.asked else None

    def go_on(self, fewer: int | None) -> None:
        """Take no more pairs at once than memory held in an earlier process."""
        self.pairs = min(self.pairs, fewer or self.pairs)

    def _couple(self) -> None:
        pieces = [piece for batch in self._step for piece in self._pieces(batch)]
        if self.trainer.loss.batch_coupled and len(pieces) * self.trainer.ranks.count > 1:
            self.trainer.couple(pieces)

    def _pass(self, batch: MicroBatch, forward_backward: Callable[[MicroBatch], Tensor]) -> Tensor:
        return torch.stack([forward_backward(piece) for piece in self._pieces(batch)]).sum()

    def _pieces(self, batch: MicroBatch) -> list[MicroBatch]:
        indices = batch["pair"].cpu().numpy()
        if len(indices) <= self.pairs:
            return [batch]
        cuts = range(self.pairs, len(indices), self.pairs)
        return [self.trainer.inputs.collated(part) for part in np.split(indices, cuts)]

    def _as_it_fits(self, work: Callable[[bool], T]) -> T:
        """Return what `work(anew)` gives; where memory is out, it is called again with half the pairs, the step undone.

        Raises `HarnessError` where one pair does not fit.
        """
        before, anew = self.pairs, False
        while True:
            try:
                done = work(anew)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                self._halve(error)
            else:
                if self.pairs < before:
                    self._smaller(self.trainer.state.global_step + 1, self.pairs)
                return done
            self._before.restore(self.trainer)
            clear_device_cache(garbage_collection=True)  # only here: the error held the tensors of the pass that failed
            anew = True

    def _halve(self, error: Exception) -> None:
        several = self.trainer.args.world_size > 1  # the others wait for this one's gradients, and know of nothing
        if self.pairs > 1 and not several:
            self.pairs //= 2
            return
        at_once = "1 pair" if self.pairs == 1 else f"{self.pairs} pairs"
        lower = f"--micro-pairs {self.pairs // 2}, or " if several and self.pairs > 1 else ""
        longest = max(int((batch["row_NS"] >= 0).sum()) // len(batch["pair"]) for batch in self._step)
        raise HarnessError(
            f"out of memory ({in_short(error)}) at step {self.trainer.state.global_step + 1} with {at_once} at a time, "
            f"each of some {longest:,} prompt and response tokens; {lower}{less(self.trainer.recipe.dtype)}"
        ) from error
