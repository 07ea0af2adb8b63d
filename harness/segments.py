"""Attention of a packed row on a CPU: one pair of matrix products a response, nothing for padding.

torch's attention on CPUs takes rows padded to the longest and spends more on its backward pass than the products cost.
Here each response of a packed row is attended to where it lies: the first with its prompt in front, the others with
the prompt's keys and values copied beside their own; a prompt's own queries are computed once. The weights are kept for
the backward pass, which makes this the right form for rows of up to `LONGEST` tokens.

Legend of shapes: L packed tokens, H query heads, K key heads, G = H / K query heads a key head, d head width, S tokens
of a prompt and a response, B queries of a block.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

LONGEST = 1024
"""Tokens of a row up to which all its attention weights are kept: 4 MiB a head in fp32."""
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
    out: Tensor = _Attend.apply(query_HLd, key_KLd, value_KLd, segments, shape)  # type: ignore[no-untyped-call]
    return out


class _Attend(torch.autograd.Function):
    """Dao et al. 2022 (arXiv:2205.14135), section 2.2: the plain algorithm and its gradient, with weights kept."""

    @staticmethod
    def forward(
        ctx: Any, query_HLd: Tensor, key_KLd: Tensor, value_KLd: Tensor, segments: list[Segment], shape: Shape
    ) -> Tensor:
        heads, length, width = query_HLd.shape
        out_LKGd = query_HLd.new_empty(length, len(key_KLd), heads // len(key_KLd), width)
        kept = []
        for segment in segments:
            keys_KSd, values_KSd = _gather(key_KLd, segment), _gather(value_KLd, segment)
            for block in _blocks(segment, shape.window):
                scores, tanh = _scores(_grouped(query_HLd, block, len(key_KLd)), keys_KSd[:, block.keys], block, shape)
                weights = scores.softmax(-1, dtype=torch.float32).to(query_HLd.dtype)
                _put(out_LKGd, block, torch.bmm(weights, values_KSd[:, block.keys]))
                if any(ctx.needs_input_grad):
                    kept.append((weights, tanh))
        out_LHd = out_LKGd.view(length, heads, width)
        ctx.kept, ctx.segments, ctx.shape = kept, segments, shape
        ctx.save_for_backward(query_HLd, key_KLd, value_KLd, out_LHd)
        return out_LHd

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        query_HLd, key_KLd, value_KLd, out_LHd = ctx.saved_tensors
        grad_HLd = gradients[0].transpose(0, 1)
        n_keys, groups = len(key_KLd), len(query_HLd) // len(key_KLd)
        delta_HL1 = (gradients[0] * out_LHd).sum(-1, keepdim=True).transpose(0, 1)
        query_LKGd = out_LHd.new_empty(out_LHd.shape[0], n_keys, groups, out_LHd.shape[2])
        sums_KLd = (
            torch.zeros_like(key_KLd, memory_format=torch.contiguous_format),
            torch.zeros(key_KLd.shape, dtype=value_KLd.dtype, device=value_KLd.device),
        )
        kept = iter(ctx.kept)
        for segment in ctx.segments:
            keys_KSd, values_KSd = _gather(key_KLd, segment), _gather(value_KLd, segment)
            key_sum, value_sum = (_gather(total, segment, zero=True) for total in sums_KLd)
            for block in _blocks(segment, ctx.shape.window):
                weights, tanh = next(kept)
                grad = _grouped(grad_HLd, block, n_keys)
                value_sum[:, block.keys].baddbmm_(weights.transpose(1, 2), grad)
                scores = torch.bmm(grad, values_KSd[:, block.keys].transpose(1, 2))
                scores.sub_(_grouped(delta_HL1, block, n_keys)).mul_(weights)
                if tanh is not None:
                    scores.mul_(1 - tanh * tanh)
                scores.mul_(ctx.shape.scale)
                _put(query_LKGd, block, torch.bmm(scores, keys_KSd[:, block.keys]))
                key_sum[:, block.keys].baddbmm_(scores.transpose(1, 2), _grouped(query_HLd, block, n_keys))
            if segment.prompt.stop > segment.prompt.start:
                _scatter(sums_KLd[0], segment, key_sum)
                _scatter(sums_KLd[1], segment, value_sum)
        return query_LKGd.view(out_LHd.shape).transpose(0, 1), *sums_KLd, None, None


def _blocks(segment: Segment, window: int | None) -> Iterator[Block]:
    offset = segment.prompt.stop - segment.prompt.start
    for start in range(segment.own.start, segment.own.stop, BLOCK):
        stop = min(start + BLOCK, segment.own.stop)
        first = offset + start - segment.own.start
        low = max(0, first - window + 1) if window is not None else 0
        yield Block(slice(start, stop), slice(low, first + stop - start), first)


def _scores(query: Tensor, key: Tensor, block: Block, shape: Shape) -> tuple[Tensor, Tensor | None]:
    """Return the masked scores of a block, (K, G B, keys), and tanh of the capped ones where they are capped."""
    scores = torch.bmm(query, key.transpose(1, 2))
    tanh = None
    if shape.softcap is None:
        scores.mul_(shape.scale)
    else:
        tanh = scores.mul_(shape.scale / shape.softcap).tanh_()
        scores = tanh * shape.softcap
    count = block.queries.stop - block.queries.start
    view = scores.view(len(scores), -1, count, scores.shape[-1])
    behind = block.first - block.keys.start  # keys in front of the first query
    later = torch.ones(count, count, dtype=torch.bool, device=scores.device).triu_(1)
    view[..., behind:].masked_fill_(later, float("-inf"))
    if shape.window is not None and block.keys.stop - block.keys.start > shape.window:
        places = torch.arange(scores.shape[-1], device=scores.device)
        distance = behind + torch.arange(count, device=scores.device)[:, None] - places[None, :]
        view.masked_fill_(distance >= shape.window, float("-inf"))
    return scores, tanh


def _grouped(packed: Tensor, block: Block, n_keys: int) -> Tensor:
    """Return a block of (H, L, d) with the query heads of a key head side by side, (K, G B, d)."""
    return packed[:, block.queries].reshape(n_keys, -1, packed.shape[2])


def _put(packed_LKGd: Tensor, block: Block, values: Tensor) -> None:
    rows = packed_LKGd[block.queries]
    rows.copy_(values.view(rows.shape[1], rows.shape[2], rows.shape[0], rows.shape[3]).permute(2, 0, 1, 3))


def _gather(packed: Tensor, segment: Segment, *, zero: bool = False) -> Tensor:
    """Return the keys or values of a segment, (K, S, d): a view where they lie side by side, else a copy or zeros."""
    if segment.prompt.stop == segment.prompt.start:
        return packed[:, segment.own]
    if zero:
        length = segment.prompt.stop - segment.prompt.start + segment.own.stop - segment.own.start
        return packed.new_zeros(packed.shape[0], length, packed.shape[2])
    return torch.cat([packed[:, segment.prompt], packed[:, segment.own]], dim=1)


def _scatter(packed: Tensor, segment: Segment, values: Tensor) -> None:
    offset = segment.prompt.stop - segment.prompt.start
    packed[:, segment.prompt] += values[:, :offset]
    packed[:, segment.own] += values[:, offset:]
