"""Log-probs of labels from hidden states: the output head in chunks, with a backward pass written by hand.

No tensor of tokens x vocabulary outlives its chunk, unless all of them fit into half of one: then their log-softmax is
kept and the backward pass need not make the logits again. The gradient is taken in place on that one tensor, where
automatic differentiation would hold several of its size.

Legend of shapes: R rows (response tokens), D hidden width, V vocabulary.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from harness import gemm

CHUNK_ELEMENTS = 2**24
"""Logits held at a time: 64 MiB in fp32."""


class LabelLogps(NamedTuple):
    """What the head gives for each row."""

    token_R: Tensor
    """log p of the label, fp32."""
    square_R: Tensor
    """log sum_v p(v)^2, fp32, detached; zeros where it was not asked for."""


def label_logps(
    hidden_RD: Tensor, label_R: Tensor, head: Any, softcap: float | None, *, log_sum_sq: bool = False
) -> LabelLogps:
    """Return log-softmax(head(hidden)) at the labels; logits are soft-capped where the family does so.

    `head` has `weight` (V, D) and `bias` (V) or None. Under autocast the products run in its dtype, all else in fp32.
    """
    device = hidden_RD.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden_RD.dtype
    token, square = _Head.apply(  # type: ignore[no-untyped-call]
        hidden_RD.to(dtype), head.weight, head.bias, label_R, softcap, log_sum_sq
    )
    return LabelLogps(token, square)


class _Head(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden_RD: Tensor,
        weight_VD: Tensor,
        bias_V: Tensor | None,
        label_R: Tensor,
        softcap: float | None,
        log_sum_sq: bool,
    ) -> tuple[Tensor, Tensor]:
        device = hidden_RD.device.type
        with torch.autocast(device, enabled=False):  # the dtypes are settled here
            weight = weight_VD.to(hidden_RD.dtype)
            bias = None if bias_V is None else bias_V.to(hidden_RD.dtype)
            rows = max(1, CHUNK_ELEMENTS // len(weight))
            token_R = hidden_RD.new_empty(len(hidden_RD), dtype=torch.float32)
            square_R = torch.zeros_like(token_R)
            kept = None
            for start in range(0, len(hidden_RD), rows):
                part = slice(start, start + rows)
                logp_RV, total_R = _log_softmax(hidden_RD[part], weight, bias, softcap)
                token_R[part] = logp_RV.gather(1, label_R[part, None]).squeeze(1)
                if log_sum_sq:
                    square_R[part] = (2 * logp_RV).logsumexp(-1)
                if any(ctx.needs_input_grad) and len(hidden_RD) <= rows // 2:
                    kept = logp_RV, total_R
        ctx.save_for_backward(hidden_RD, weight_VD, bias_V, label_R)
        ctx.softcap, ctx.rows, ctx.kept = softcap, rows, kept
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(square_R)
        return token_R, square_R

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden_RD, weight_VD, bias_V, label_R = ctx.saved_tensors
        with torch.autocast(hidden_RD.device.type, enabled=False):
            weight = weight_VD.to(hidden_RD.dtype)
            bias = None if bias_V is None else bias_V.to(hidden_RD.dtype)
            to_hidden, to_weight, to_bias = ctx.needs_input_grad[:3]
            hidden_grad = torch.empty_like(hidden_RD) if to_hidden else None
            weight_grad = torch.zeros_like(weight_VD) if to_weight else None
            bias_grad = torch.zeros_like(bias_V) if to_bias and bias_V is not None else None
            kept, ctx.kept = ctx.kept, None  # overwritten below: a second backward pass makes the logits again
            for start in range(0, len(hidden_RD), ctx.rows):
                part = slice(start, start + ctx.rows)
                logp_RV, total_R = kept or _log_softmax(hidden_RD[part], weight, bias, ctx.softcap)
                grad_RV = _logit_gradients(logp_RV, total_R, label_R[part], gradients[0][part], ctx.softcap)
                grad_RV = grad_RV.to(hidden_RD.dtype)
                if hidden_grad is not None:
                    hidden_grad[part] = gemm.mm(grad_RV, weight)
                if weight_grad is not None:
                    weight_grad += gemm.mm(grad_RV.t().contiguous(), hidden_RD[part])
                if bias_grad is not None:
                    bias_grad += grad_RV.sum(0)
        return hidden_grad, weight_grad, bias_grad, None, None, None


def _log_softmax(
    hidden_RD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, softcap: float | None
) -> tuple[Tensor, Tensor | None]:
    """Return log p of every token, (R, V) in fp32, and the log of the normaliser, (R, 1), where it is soft-capped."""
    logits_RV = gemm.linear(hidden_RD, weight_VD, bias_V).float()
    if softcap is None:
        return logits_RV.log_softmax(-1), None
    logits_RV = logits_RV.div_(softcap).tanh_().mul_(softcap)
    total_R = logits_RV.logsumexp(-1, keepdim=True)
    return logits_RV.sub_(total_R), total_R


def _logit_gradients(
    logp_RV: Tensor, total_R: Tensor | None, label_R: Tensor, grad_R: Tensor, softcap: float | None
) -> Tensor:
    """Return the gradient with respect to the raw logits, in place of `logp_RV`: g (onehot - p), times the cap's own.

    With z = c tanh(x / c), dz / dx = 1 - (z / c)^2.
    """
    slope_RV = None
    if softcap is not None:
        assert total_R is not None
        slope_RV = 1 - ((logp_RV + total_R) / softcap) ** 2
    grad_RV = logp_RV.exp_().mul_(-grad_R[:, None])
    grad_RV.scatter_add_(1, label_R[:, None], grad_R[:, None])
    return grad_RV if slope_RV is None else grad_RV.mul_(slope_RV)
