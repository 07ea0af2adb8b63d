"""Attention inside the groups of a packed row: each response sees its prompt and itself, never another response.

Everything but attention runs on the packed row without padding; here queries, keys and values are laid out as one
padded block a group. transformers calls this through its registry of attention functions: no model is patched, and a
model with this attention builds no mask of its own.

Legend of shapes: L packed tokens, G groups, S tokens of the longest group, H heads, d head width.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from harness.data.collate import Batch

NAME = "preference_harness_packed"
FAMILIES = ("qwen2", "gemma2", "mistral", "llama", "qwen3")
"""Model types whose attention goes through the registry and needs no more than is here; others run padded rows."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where each packed token stands, and who may look at whom."""

    slot_L: Tensor
    segment_GS: Tensor
    position_GS: Tensor
    masks: dict[tuple[int | None, torch.dtype], Tensor] = field(default_factory=dict)
    """Additive masks made so far, by window and dtype: the same for every layer."""

    def mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """Return the additive mask, (G, 1, S, S): 0 where a query may look, -inf elsewhere."""
        if (window, dtype) not in self.masks:
            segment_q, segment_k = self.segment_GS[:, :, None], self.segment_GS[:, None, :]
            distance = self.position_GS[:, :, None] - self.position_GS[:, None, :]
            allowed = ((segment_k == 0) | (segment_k == segment_q)) & (distance >= 0) & (segment_k >= 0)
            if window is not None:
                allowed &= distance < window  # in positions: a response's place in the row says nothing
            allowed[:, :, 0] |= segment_q[:, :, 0] < 0  # padding looks at something, or softmax has nothing to share
            mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
            self.masks[window, dtype] = mask.masked_fill_(~allowed, float("-inf"))[:, None]
        return self.masks[window, dtype]


def layout_of(batch: Batch) -> Layout:
    """Return the layout of a batch."""
    return Layout(slot_L=batch.slot_L, segment_GS=batch.segment_GS, position_GS=batch.position_GS)


def use_packed_attention(model: Any) -> None:
    """Let `model` take packed rows, where its type is one of those this was tested with."""
    if model.config.model_type in FAMILIES:
        torch_registry().register(NAME, packed_attention)
        model.set_attn_implementation(NAME)


def is_packed(model: Any) -> bool:
    """Return whether `model` takes packed rows."""
    return bool(model.config._attn_implementation == NAME)


def torch_registry() -> Any:
    """Return transformers' registry of attention functions."""
    from transformers import AttentionInterface

    return AttentionInterface


def packed_attention(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Layout,
    scaling: float,
    dropout: float = 0.0,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **ignored: Any,
) -> tuple[Tensor, None]:
    """Return the attention output of a packed row, (1, L, H, d); called by transformers with (1, H, L, d) tensors."""
    assert dropout == 0.0, "the protocol trains without dropout"
    size = layout.segment_GS.shape
    groups = query.shape[1] // key.shape[1]
    query_GHSd = _laid_out(query, layout, size)
    key_GHSd = _laid_out(key, layout, size).repeat_interleave(groups, dim=1)
    value_GHSd = _laid_out(value, layout, size).repeat_interleave(groups, dim=1)
    mask = layout.mask(sliding_window, query.dtype)
    if softcap is None:
        out = torch.nn.functional.scaled_dot_product_attention(query_GHSd, key_GHSd, value_GHSd, mask, scale=scaling)
    else:  # Gemma-2; scaled_dot_product_attention has no soft-capping
        weights = torch.matmul(query_GHSd, key_GHSd.transpose(2, 3)) * scaling
        weights = softcap * torch.tanh(weights / softcap) + mask
        out = torch.matmul(weights.softmax(-1, dtype=torch.float32).to(query.dtype), value_GHSd)
    taken: Tensor = _Take.apply(out.transpose(1, 2).flatten(0, 1), layout.slot_L)  # type: ignore[no-untyped-call]  # torch's
    return taken[None], None


def _laid_out(packed: Tensor, layout: Layout, size: torch.Size) -> Tensor:
    rows: Tensor = _Place.apply(packed[0].transpose(0, 1), layout.slot_L, size.numel())  # type: ignore[no-untyped-call]  # torch's
    return rows.view(*size, *rows.shape[1:]).transpose(1, 2)


class _Place(torch.autograd.Function):
    """Rows into their slots of a table of zeros. Every slot is met once, so the gradient is a plain selection."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, slot: Tensor, size: int) -> Tensor:
        ctx.save_for_backward(slot)
        return rows.new_zeros((size, *rows.shape[1:])).index_copy_(0, slot, rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (slot,) = ctx.saved_tensors
        return gradients[0].index_select(0, slot), None, None


class _Take(torch.autograd.Function):
    """Rows out of their slots; the inverse of `_Place`."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, slot: Tensor) -> Tensor:
        ctx.save_for_backward(slot)
        ctx.shape = table.shape
        return table.index_select(0, slot)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (slot,) = ctx.saved_tensors
        return gradients[0].new_zeros(ctx.shape).index_copy_(0, slot, gradients[0]), None
