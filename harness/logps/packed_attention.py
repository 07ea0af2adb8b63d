"""Attention of a packed row: each response sees its prompt and itself, never another response.

Everything but attention runs on the packed row, which holds each prompt once and no padding. For attention on an
accelerator, and for long rows, queries, keys and values are laid out as one row per response, with those of its prompt
in front and padding on the right: ordinary causal attention, which needs no mask. On a CPU each response attends where
it lies in the packed row (`harness.logps.cpu_attention`); so it can on a GPU (`harness.logps.flex_attention`, see
`FLEX_ON`). transformers calls this through its registry of attention
functions: no model is patched, and a model with this attention builds no mask of its own.

Legend of shapes: L packed tokens, N responses, S tokens of the longest prompt + response, H heads, d head width.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import embedding, scaled_dot_product_attention

from harness.data.collate import Batch
from harness.logps import flex_attention
from harness.logps.cpu_attention import KEPT, LONGEST, Segment, Shape, attend

NAME = "preference_harness_packed"
FLEX_ON: frozenset[str] = frozenset()
"""Kinds of device, as `cuda`, on which FlexAttention runs on the packed row. None yet: it equals the oracle, but has
not been timed on a GPU; `tests/benchmarks/gpu.py` times both."""
FAMILIES = ("qwen2", "gemma2", "mistral", "llama", "qwen3")
"""Model types whose attention goes through the registry and needs nothing beyond this file; others run padded rows."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the packed tokens of a batch are in the rows, one per response, on which attention runs."""

    row_NS: Tensor
    """int64 index into L; the padding repeats token 0, which no real query sees: it comes after all of them."""
    home_L: Tensor
    """int64 place of each packed token in the flattened (N, S) rows."""
    segments: list[Segment] | None
    """The queries of each response with the keys they see, if attention can run in place; None: it runs on the rows."""
    visibility: flex_attention.Visibility | None = None
    """Who sees whom, where FlexAttention runs."""
    masks: dict[tuple[int | None, torch.dtype], Tensor] = field(default_factory=dict)
    """Additive masks made so far, by window and dtype; all layers and rows share them."""

    def mask(self, window: int | None, dtype: torch.dtype) -> Tensor:
        """Return the additive mask of causal attention with a window, (S, S): 0 where a query sees a key, else -inf."""
        if (window, dtype) not in self.masks:
            place = torch.arange(self.row_NS.shape[1], device=self.row_NS.device)
            distance = place[:, None] - place[None, :]
            allowed = (distance >= 0) & (distance < (window or len(place)))
            mask = torch.zeros(allowed.shape, dtype=dtype, device=allowed.device)
            self.masks[window, dtype] = mask.masked_fill_(~allowed, float("-inf"))
        return self.masks[window, dtype]


def layout_of(batch: Batch) -> Layout:
    """Return the layout of a batch, in place on a CPU unless its rows are too long."""
    width, device = batch.row_NS.shape[1], batch.row_NS.device.type
    flex = device in FLEX_ON
    in_place = device == "cpu" and width <= LONGEST and not flex
    return Layout(
        row_NS=batch.row_NS.clamp(min=0),
        home_L=batch.home_L,
        segments=_segments(batch) if in_place else None,
        visibility=flex_attention.Visibility.of(batch) if flex else None,
    )


def _segments(batch: Batch) -> list[Segment]:
    """Return one segment per response; the first response of a prompt has the prompt's own queries too."""
    segments, met = [], set()
    ends = (batch.row_NS >= 0).sum(1).tolist()
    for row, start, end in zip(batch.row_NS.numpy(), batch.start_N.tolist(), ends, strict=True):
        prompt, own = int(row[0]), slice(int(row[start]), int(row[end - 1]) + 1)
        if prompt in met:
            segments.append(Segment(slice(prompt, prompt + start), own))
        else:  # a prompt's first response lies directly behind it
            met.add(prompt)
            segments.append(Segment(slice(prompt, prompt), slice(prompt, own.stop)))
    return segments


def use_packed_attention(model: Any) -> None:
    """Let `model` take packed rows if its type is one of `FAMILIES`."""
    from transformers import AttentionInterface

    if model.config.model_type in FAMILIES:
        AttentionInterface.register(NAME, packed_attention)
        model.set_attn_implementation(NAME)


def padded_attention(config: Any) -> str:
    """Return the name of transformers' attention for padded rows of a model of this configuration."""
    # sdpa leaves Gemma-2's attention soft-capping out
    return "eager" if config.get_text_config().to_dict().get("attn_logit_softcapping") is not None else "sdpa"


@contextmanager
def padded_rows(model: Any) -> Iterator[None]:
    """Let `model` take padded rows, as transformers samples from, and packed ones again afterwards."""
    packed = is_packed(model)
    if packed:
        model.set_attn_implementation(padded_attention(model.config))
    try:
        yield
    finally:
        if packed:
            model.set_attn_implementation(NAME)


def is_packed(model: Any) -> bool:
    """Return whether `model` takes packed rows."""
    return bool(model.config._attn_implementation == NAME)


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
    if layout.visibility is not None:
        return flex_attention.attend(
            query[0], key[0], value[0], layout.visibility, scale=scaling, window=sliding_window, softcap=softcap
        )[None], None
    kept = query.shape[1] * layout.row_NS.numel() * layout.row_NS.shape[1] * query.element_size()
    if layout.segments is not None and (softcap is not None or kept <= KEPT):
        shape = Shape(scaling, sliding_window, softcap)
        return attend(query[0], key[0], value[0], layout.segments, shape)[None], None
    heads = query.shape[1] // key.shape[1]
    query_NHSd = _rows(query, layout)
    key_NHSd = _rows(key, layout).repeat_interleave(heads, dim=1)
    value_NHSd = _rows(value, layout).repeat_interleave(heads, dim=1)
    window = sliding_window if sliding_window is not None and sliding_window < layout.row_NS.shape[1] else None
    if softcap is not None:  # Gemma-2; scaled_dot_product_attention has no soft-capping
        weights = torch.matmul(query_NHSd, key_NHSd.transpose(2, 3)) * scaling
        weights = softcap * torch.tanh(weights / softcap) + layout.mask(window, query.dtype)
        out = torch.matmul(weights.softmax(-1, dtype=torch.float32).to(query.dtype), value_NHSd)
    elif window is not None:
        mask = layout.mask(window, query.dtype)
        out = scaled_dot_product_attention(query_NHSd, key_NHSd, value_NHSd, mask, scale=scaling)
    else:
        out = scaled_dot_product_attention(query_NHSd, key_NHSd, value_NHSd, is_causal=True, scale=scaling)
    taken: Tensor = _Take.apply(out.transpose(1, 2).flatten(0, 1), layout.home_L)  # type: ignore[no-untyped-call]
    return taken[None], None


def _rows(packed: Tensor, layout: Layout) -> Tensor:
    """Return (1, H, L, d) as rows, (N, H, S, d); as in an embedding, a prompt's gradients add up over its rows."""
    _, heads, length, width = packed.shape
    table = packed[0].transpose(0, 1).reshape(length, heads * width)
    rows = embedding(layout.row_NS, table)
    return rows.view(*rows.shape[:2], heads, width).transpose(1, 2)


class _Take(torch.autograd.Function):
    """Rows of a table at distinct places: the gradient can be copied back, where `index_select` would have to add."""

    @staticmethod
    def forward(ctx: Any, table: Tensor, place: Tensor) -> Tensor:
        ctx.save_for_backward(place)
        ctx.shape = table.shape
        return table.index_select(0, place)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (place,) = ctx.saved_tensors
        return gradients[0].new_zeros(ctx.shape).index_copy_(0, place, gradients[0]), None
