"""Attention on a packed row on a CPU: two matrix products per block of queries, and no work for padding.

torch's attention on CPUs takes rows padded to the longest one, and its backward pass costs more than its matrix
products. Here each response attends where it lies in the packed row, and the queries of a prompt are computed once, not
once per response. The first response of a prompt lies directly behind it, so the keys that it sees are one slice of the
row. The other responses lie further away, so the prompt's keys and values are copied in front of their own: a block of
queries then has one slice of keys as well, and one softmax, where two pieces would have to be joined. The copy is small
beside the products.

The attention weights are kept, so that the backward pass recomputes nothing. Their memory grows with the square of the
length, so this is for short rows: up to `LONGEST` tokens, and up to `KEPT` bytes per layer.

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
"""Most tokens of a prompt + response whose weights may be kept: 4 MiB per head in fp32."""
KEPT = 2**27
"""Most bytes of weights that a layer keeps if torch's own attention, which keeps none, can do the work instead."""
BLOCK = 256
"""Queries computed together. Keys after the last query of a block are hidden from the whole block and left out of its
products: of 1,024 tokens that saves three eighths of the work, which a causal mask alone would compute and discard."""


class Segment(NamedTuple):
    """Queries that are adjacent in the packed row, and the keys that they may see."""

    prompt: slice
    """Keys of a prompt that lies elsewhere in the packed row; empty if the prompt is part of `own`."""
    own: slice
    """The tokens themselves: each is a query, and a key for itself and for those after it."""


class Shape(NamedTuple):
    """The constants of a layer's attention."""

    scale: float
    window: int | None
    softcap: float | None


class Block(NamedTuple):
    """Some queries of a segment, as places in the packed row, and their keys, as positions in prompt + response."""

    queries: slice
    keys: slice
    first: int
    """Position of the first query in prompt + response."""


def attend(query_HLd: Tensor, key_KLd: Tensor, value_KLd: Tensor, segments: list[Segment], shape: Shape) -> Tensor:
    """Return the attention output, (L, H, d); equal to causal softmax attention on each prompt + response by itself."""
    dtype = value_KLd.dtype  # under autocast queries and keys come from the rotary embedding in fp32
    query_HLd, key_KLd = query_HLd.to(dtype), key_KLd.to(dtype)
    out: Tensor = _Attend.apply(query_HLd, key_KLd, value_KLd, segments, shape)  # type: ignore[no-untyped-call]
    return out


class _Attend(torch.autograd.Function):
    """Attention and its gradient by the standard algorithm, Dao et al. 2022 (arXiv:2205.14135), section 2.2."""

    @staticmethod
    def forward(
        ctx: Any, query_HLd: Tensor, key_KLd: Tensor, value_KLd: Tensor, segments: list[Segment], shape: Shape
    ) -> Tensor:
        heads, length, width = query_HLd.shape
        groups = heads // len(key_KLd)
        key_HLd, value_HLd = (heads_KLd.repeat_interleave(groups, dim=0) for heads_KLd in (key_KLd, value_KLd))
        # once on the queries, not on the scores of every block; the division belongs to softcap * tanh(score / softcap)
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
        # saved tensors, not attributes of ctx: only so does checkpointing drop them and the backward pass free them
        ctx.save_for_backward(scaled_HLd, key_KLd, out_HLd, *kept)
        return out_HLd.transpose(0, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scaled_HLd, key_KLd, out_HLd, *saved = ctx.saved_tensors
        grad_HLd = gradients[0].transpose(0, 1)
        # the gradient of the softmax needs, per query, the sum over keys of weight * its gradient: that is grad . out
        delta_HL1 = (grad_HLd * out_HLd).sum(-1, keepdim=True)
        query_grad = torch.empty_like(scaled_HLd)
        key_grad, value_grad = torch.zeros_like(out_HLd), torch.zeros_like(out_HLd)
        kept = iter(saved)
        # a key or value has a gradient from every query that saw it, in all blocks of a segment and, in a prompt, in
        # all of its responses: they are added up; a query lies in one block only, and its gradient is assigned
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
        softcap = ctx.shape.softcap or 1.0  # scaled_HLd carries scale / softcap, the keys' gradient needs the scale
        return (
            query_grad.mul_(ctx.shape.scale),
            key_grad.view(grouped).sum(1).mul_(softcap),
            value_grad.view(grouped).sum(1),
            None,
            None,
        )


class _Masks:
    """The keys that each query of a block must not see; most blocks of a layer have the same mask, which is kept."""

    def __init__(self, window: int | None) -> None:
        self.window = window
        self._later: dict[int, Tensor] = {}

    def apply(self, scores_HBS: Tensor, block: Block) -> None:
        """Set to -inf the scores of keys after a query, and of keys that its sliding window has left behind."""
        count, behind = scores_HBS.shape[1], block.first - block.keys.start  # number of keys before the first query
        if count not in self._later:
            self._later[count] = torch.ones(count, count, dtype=torch.bool, device=scores_HBS.device).triu_(1)
        scores_HBS[..., behind:].masked_fill_(self._later[count], float("-inf"))
        if self.window is not None and scores_HBS.shape[2] > self.window:
            query, key = (torch.arange(size, device=scores_HBS.device) for size in scores_HBS.shape[1:])
            outside = behind + query[:, None] - key[None, :] >= self.window
            scores_HBS.masked_fill_(outside, float("-inf"))


def _blocks(segment: Segment, window: int | None) -> Iterator[Block]:
    """Yield the blocks of a segment, in the same order in the forward and the backward pass, which share a list."""
    offset = segment.prompt.stop - segment.prompt.start
    for start in range(segment.own.start, segment.own.stop, BLOCK):
        stop = min(start + BLOCK, segment.own.stop)
        first = offset + start - segment.own.start
        low = max(0, first - window + 1) if window is not None else 0
        yield Block(slice(start, stop), slice(low, first + stop - start), first)


def _gather(packed: Tensor, segment: Segment) -> Tensor:
    """Return the keys or values of a segment, (H, S, d): a view if they are adjacent in the packed row, else a copy."""
    if segment.prompt.stop == segment.prompt.start:
        return packed[:, segment.own]
    return torch.cat([packed[:, segment.prompt], packed[:, segment.own]], dim=1)


def _zeros(packed: Tensor, segment: Segment) -> Tensor:
    """Return where a segment's gradients are added up, (H, S, d): a view of `packed` where `_gather` gives one."""
    offset = segment.prompt.stop - segment.prompt.start
    if not offset:
        return packed[:, segment.own]
    return packed.new_zeros(len(packed), offset + segment.own.stop - segment.own.start, packed.shape[2])


def _add(packed: Tensor, segment: Segment, values: Tensor) -> None:
    """Add a segment's gradients to `packed`, unless `_zeros` returned a view of it and they are there already."""
    offset = segment.prompt.stop - segment.prompt.start
    if offset:
        packed[:, segment.prompt] += values[:, :offset]
        packed[:, segment.own] += values[:, offset:]
