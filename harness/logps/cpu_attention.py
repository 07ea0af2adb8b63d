"""Attention of a packed row on a CPU: one pair of matrix products a response, nothing for padding.

torch's attention on CPUs takes rows padded to the longest and spends more on its backward pass than the products cost.
Here each response of a packed row is attended to where it lies: the first with its prompt in front, the others with
the prompt's keys and values copied beside their own; a prompt's own queries are computed once. The weights are kept for
the backward pass, which makes this the form for short rows: up to `LONGEST` tokens, and `KEPT` bytes a layer.

Legend of shapes: L packed tokens, H query heads, K key heads, d head width, S tokens of a prompt and a response, B
queries of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LONGEST = 1024
"""Tokens of a row up to which its attention weights may be kept: 4 MiB a head in fp32."""
KEPT = 2**27
"""Bytes of attention weights that a layer may keep where torch's own attention, which keeps none, can stand in."""
BLOCK = 256
"""Queries computed together; keys behind a block's last query are left out."""


class Segment(NamedTuple):
    """Queries that lie side by side in the packed row, and the keys that they may see."""

    prompt: slice
    """Keys in front that lie elsewhere in the packed row; empty where they stand directly in front."""
    own: slice
    """The tokens themselves: queries, and keys up to each query."""


class Shape(NamedTuple):
    """What the attention of a layer has beside its inputs."""

    scale: float
    window: int | None
    softcap: float | None


class Block(NamedTuple):
    """Some queries of a segment: places in the packed row, and the keys, counted from the start of the sequence."""

    queries: slice
    keys: slice
    first: int
    """Position of the first query in its sequence."""


def attend(query_HLd: Tensor, key_KLd: Tensor, value_KLd: Tensor, segments: list[Segment], shape: Shape) -> Tensor:
    """Return the attention output, (L, H, d); equal to causal softmax attention of every response behind its prompt."""
    dtype = value_KLd.dtype  # under autocast the rotation of queries and keys gives fp32: all are of one dtype here
    query_HLd, key_KLd = query_HLd.to(dtype), key_KLd.to(dtype)
    out: Tensor = _Attend.apply(query_HLd, key_KLd, value_KLd, segments, shape)  # type: ignore[no-untyped-call]
    return out


class _Attend(torch.autograd.Function):
    """Dao et al. 2022 (arXiv:2205.14135), section 2.2: the plain algorithm and its gradient, with weights kept."""

    @staticmethod
    def forward(
        ctx: Any, query_HLd: Tensor, key_KLd: Tensor, value_KLd: Tensor, segments: list[Segment], shape: Shape
    ) -> Tensor:
        heads, length, width = query_HLd.shape
        groups = heads // len(key_KLd)
        key_HLd, value_HLd = (each.repeat_interleave(groups, dim=0) for each in (key_KLd, value_KLd))
        scaled_HLd = query_HLd * (shape.scale / (shape.softcap or 1.0))
        out_HLd = query_HLd.new_empty(length, heads, width).transpose(0, 1)
        kept: list[Tensor | None] = []
        masks = _Masks(shape.window)
        for segment in segments:
            keys, values = _gather(key_HLd, segment), _gather(value_HLd, segment)
            for block in _blocks(segment, shape.window):
                scores = torch.bmm(scaled_HLd[:, block.queries], keys[:, block.keys].transpose(1, 2))
                tanh = None
                if shape.softcap is not None:
                    tanh = scores.tanh_()
                    scores = tanh * shape.softcap
                masks.apply(scores, block)
                weights = scores.softmax(-1, dtype=torch.float32).to(query_HLd.dtype)
                out_HLd[:, block.queries] = torch.bmm(weights, values[:, block.keys])
                if any(ctx.needs_input_grad):
                    kept += weights, tanh, keys, values
        ctx.segments, ctx.shape = segments, shape
        # saved, not put on ctx: so checkpointing drops them and the backward pass frees them
        ctx.save_for_backward(scaled_HLd, key_KLd, out_HLd, *kept)
        return out_HLd.transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scaled_HLd, key_KLd, out_HLd, *saved = ctx.saved_tensors
        grad_HLd = gradients[0].transpose(0, 1)
        delta_HL1 = (grad_HLd * out_HLd).sum(-1, keepdim=True)
        query_grad = torch.empty_like(scaled_HLd)
        key_grad, value_grad = torch.zeros_like(out_HLd), torch.zeros_like(out_HLd)
        kept = iter(saved)
        for segment in ctx.segments:
            key_sum, value_sum = _zeros(key_grad, segment), _zeros(value_grad, segment)
            for block in _blocks(segment, ctx.shape.window):
                weights, tanh, keys, values = (next(kept) for _ in range(4))
                grad = grad_HLd[:, block.queries]
                value_sum[:, block.keys].baddbmm_(weights.transpose(1, 2), grad)
                scores = torch.bmm(grad, values[:, block.keys].transpose(1, 2))
                scores.sub_(delta_HL1[:, block.queries]).mul_(weights)
                if tanh is not None:  # d (c tanh(x / c)) / dx = 1 - tanh^2
                    scores.mul_(1 - tanh * tanh)
                query_grad[:, block.queries] = torch.bmm(scores, keys[:, block.keys])
                key_sum[:, block.keys].baddbmm_(scores.transpose(1, 2), scaled_HLd[:, block.queries])
            _add(key_grad, segment, key_sum)
            _add(value_grad, segment, value_sum)
        grouped = (len(key_KLd), -1, *out_HLd.shape[1:])
        softcap = ctx.shape.softcap or 1.0  # the queries kept are those times scale / softcap
        return (
            query_grad.mul_(ctx.shape.scale),
            key_grad.view(grouped).sum(1).mul_(softcap),
            value_grad.view(grouped).sum(1),
            None,
            None,
        )


class _Masks:
    """Which keys the queries of a block may not see; most blocks of a layer share theirs."""

    def __init__(self, window: int | None) -> None:
        self.window = window
        self._later: dict[int, Tensor] = {}

    def apply(self, scores_HBS: Tensor, block: Block) -> None:
        """Set to -inf what lies behind a query, and what its window has left."""
        count, behind = scores_HBS.shape[1], block.first - block.keys.start  # keys in front of the first query
        if count not in self._later:
            self._later[count] = torch.ones(count, count, dtype=torch.bool, device=scores_HBS.device).triu_(1)
        scores_HBS[..., behind:].masked_fill_(self._later[count], float("-inf"))
        if self.window is not None and scores_HBS.shape[2] > self.window:
            query, key = (torch.arange(size, device=scores_HBS.device) for size in scores_HBS.shape[1:])
            left = behind + query[:, None] - key[None, :] >= self.window
            scores_HBS.masked_fill_(left, float("-inf"))


def _blocks(segment: Segment, window: int | None) -> Iterator[Block]:
    offset = segment.prompt.stop - segment.prompt.start
    for start in range(segment.own.start, segment.own.stop, BLOCK):
        stop = min(start + BLOCK, segment.own.stop)
        first = offset + start - segment.own.start
        low = max(0, first - window + 1) if window is not None else 0
        yield Block(slice(start, stop), slice(low, first + stop - start), first)


def _gather(packed: Tensor, segment: Segment) -> Tensor:
    """Return the keys or values of a segment, (H, S, d): a view where they lie side by side, else a copy."""
    if segment.prompt.stop == segment.prompt.start:
        return packed[:, segment.own]
    return torch.cat([packed[:, segment.prompt], packed[:, segment.own]], dim=1)


def _zeros(packed: Tensor, segment: Segment) -> Tensor:
    """Return where a segment's gradients add up, (H, S, d): in place where they lie side by side, else in zeros."""
    offset = segment.prompt.stop - segment.prompt.start
    if not offset:
        return packed[:, segment.own]
    return packed.new_zeros(len(packed), offset + segment.own.stop - segment.own.start, packed.shape[2])


def _add(packed: Tensor, segment: Segment, values: Tensor) -> None:
    """Add what `_zeros` did not leave in its place."""
    offset = segment.prompt.stop - segment.prompt.start
    if offset:
        packed[:, segment.prompt] += values[:, :offset]
        packed[:, segment.own] += values[:, offset:]
