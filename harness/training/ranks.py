"""The processes that train one cell together: what each must know of the others, and nothing else.

Each visits its part of the pairs of every step. Gradients are averaged by whatever accelerate wraps the model in (DDP,
FSDP2); what is added up here are the numbers of a step, and the log-probs that a batch-coupled loss reads. What a clock
or a signal decides, the first process decides for all.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.fsdp import FSDPModule
from torch.serialization import safe_globals

from harness.api import Logps, PairLogps

Parts = TypeVar("Parts", list[Any], np.ndarray)


@dataclass(frozen=True, kw_only=True)
class Ranks:
    """How many processes train a cell, and which of them this one is."""

    count: int = 1
    index: int = 0
    """0: the first, which is the run."""

    def each(self, values: Sequence[float]) -> list[list[float]]:
        """Return what every process gave, in their order."""
        if self.count == 1:
            return [list(values)]
        own = torch.tensor(values, dtype=torch.float64)
        found = [torch.empty_like(own) for _ in range(self.count)]
        dist.all_gather(found, own)
        return [row.tolist() for row in found]

    def total(self, *values: float) -> list[float]:
        """Return the sums over all processes."""
        return [sum(column) for column in zip(*self.each(values), strict=True)]

    def first(self, value: float) -> float:
        """Return what the first process gave."""
        return self.each([value])[0][0]

    def gathered(self, parts: Sequence[PairLogps]) -> list[PairLogps]:
        """Return the micro-batches of all processes, in the order of the step, on the device of this one's."""
        if self.count == 1:
            return list(parts)
        packed = io.BytesIO()
        torch.save(list(parts), packed)
        found: list[Any] = [None] * self.count
        dist.all_gather_object(found, packed.getvalue())
        device = parts[0].chosen.token.device
        whole: list[PairLogps] = []
        with safe_globals([PairLogps, Logps]):
            for other in found:
                whole += torch.load(io.BytesIO(other), map_location=device, weights_only=True)
        return whole

    def own(self, parts: Parts) -> Parts:
        """Return the part of a step that is this process's; it is divided into parts of one size, in its order."""
        size = len(parts) // self.count
        return parts[self.index * size : (self.index + 1) * size]

    def ask(self, model: Any, path: Callable[[Any], Logps]) -> Logps:
        """Return `path(model)`, computed inside the forward of what accelerate wrapped `model` in (see `open_to`)."""
        if self.count == 1:
            return path(model)
        asked: list[Logps] = []

        def inside(inner: Any) -> tuple[torch.Tensor | None, ...]:
            asked.append(path(inner))
            return asked[0].token, asked[0].log_sum_sq, asked[0].token_kl

        token, log_sum_sq, token_kl = model(inside=inside)  # tensors come out, on which the wrapper hangs its hooks
        return replace(asked[0], token=token, log_sum_sq=log_sum_sq, token_kl=token_kl)

    def whole(self, model: Any, fresh: Callable[[], Any]) -> Any:
        """Return the model with all its weights, on the first process; `fresh()` opens one where they are parted.

        Every process must ask at the same moment.
        """
        parted = model
        if not isinstance(model, FSDPModule):
            return model
        full = fresh() if self.index == 0 else None
        with torch.no_grad():
            for name, part in parted.named_parameters():
                weight = part.full_tensor()
                if full is not None:
                    full.get_parameter(name).copy_(weight)
        return full


ALONE = Ranks()


@contextmanager
def open_to(model: Any, ranks: Ranks) -> Iterator[None]:
    """Let the forward of a model that several processes train compute whatever it is asked for, with `inside`.

    The hot path calls the decoder and reads the weights of the output head, and never the model itself. But what
    accelerate wraps a model in acts when it is called: DDP then awaits gradients, FSDP2 gathers weights.
    """
    if ranks.count == 1:
        yield
        return
    own = model.forward

    def forward(*arguments: Any, inside: Callable[[Any], Any] | None = None, **named: Any) -> Any:
        return own(*arguments, **named) if inside is None else inside(model)

    model.forward = forward
    try:
        yield
    finally:
        del model.forward
