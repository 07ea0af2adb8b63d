"""Attention of a packed row by torch's FlexAttention: no row per response, no padding, no blocks that nobody sees.

A query sees the keys of its own prompt and of its own response that do not come after it, and of a sliding window the
nearest ones; that is a mask over the packed row, of which FlexAttention (Dong et al. 2024, arXiv:2412.05496) computes
only the blocks that are not all hidden. Soft-capping is a function of the scores.

Legend of shapes: L packed tokens, N responses, H query heads, K key heads, d head width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from harness.data.collate import Batch


@dataclass(frozen=True, kw_only=True)
class Visibility:
    """Which keys each token of a packed row sees."""

    prompt_L: Tensor
    """int64: the prompt that a token belongs to, as the place where it begins."""
    response_L: Tensor
    """int64: the response that a token belongs to; -1 for those of a prompt, which all of its responses see."""
    position_L: Tensor
    """int64: the position of each token in prompt + response."""
    blocks: dict[int | None, BlockMask] = field(default_factory=dict)
    """Made so far, by window; all layers share them."""

    @classmethod
    def of(cls, batch: Batch) -> Visibility:
        """Return who sees what in a batch."""
        real_NS = batch.row_NS >= 0
        row_NS = torch.arange(len(real_NS), device=real_NS.device)[:, None].expand_as(real_NS)
        column_NS = torch.arange(real_NS.shape[1], device=real_NS.device).expand_as(real_NS)
        own_NS = real_NS & (column_NS >= batch.start_N[:, None])
        prompt_L, response_L = torch.empty_like(batch.ids_L), torch.full_like(batch.ids_L, -1)
        prompt_L[batch.row_NS[real_NS]] = batch.row_NS[:, :1].expand_as(real_NS)[real_NS]
        response_L[batch.row_NS[own_NS]] = row_NS[own_NS]
        return cls(prompt_L=prompt_L, response_L=response_L, position_L=batch.position_L)

    def sees(self, window: int | None) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
        """Return the function of (batch, head, query, key) that says whether a query sees a key."""
        prompt_L, response_L, position_L = self.prompt_L, self.response_L, self.position_L

        def seen(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            distance = position_L[query] - position_L[key]
            shared = (response_L[key] == -1) | (response_L[key] == response_L[query])
            near = distance >= 0 if window is None else (distance >= 0) & (distance < window)
            return (prompt_L[query] == prompt_L[key]) & shared & near

        return seen

    def block_mask(self, window: int | None) -> BlockMask:
        """Return the mask of attention with a window, in blocks."""
        if window not in self.blocks:
            length, device = len(self.position_L), self.position_L.device
            self.blocks[window] = create_block_mask(self.sees(window), None, None, length, length, device=device.type)
        return self.blocks[window]


def attend(
    query_HLd: Tensor,
    key_KLd: Tensor,
    value_KLd: Tensor,
    visibility: Visibility,
    *,
    scale: float,
    window: int | None,
    softcap: float | None,
) -> Tensor:
    """Return the attention output, (L, H, d); equal to causal softmax attention on each prompt + response by itself."""
    dtype = value_KLd.dtype  # under autocast queries and keys come from the rotary embedding in fp32

    def capped(score: Tensor, batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        assert softcap is not None
        return softcap * torch.tanh(score / softcap)

    out = _kernel(query_HLd.device.type)(
        query_HLd[None].to(dtype),
        key_KLd[None].to(dtype),
        value_KLd[None],
        score_mod=None if softcap is None else capped,
        block_mask=visibility.block_mask(window),
        scale=scale,
        enable_gqa=len(query_HLd) != len(key_KLd),
    )
    return out[0].transpose(0, 1)  # type: ignore[no-any-return]


@cache
def _kernel(device: str) -> Any:
    """Return FlexAttention, compiled where it has kernels to compile to; elsewhere torch computes all scores."""
    # the length of the packed row differs between micro-batches
    return torch.compile(flex_attention, dynamic=True) if device == "cuda" else flex_attention
