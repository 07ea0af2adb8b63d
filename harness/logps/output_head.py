"""Log-probs of labels from hidden states: the output head in blocks of the vocabulary, its backward pass by hand.

The logits, tokens x vocabulary, are the largest tensor of a training step. Here they exist one block at a time, and the
backward pass computes each block again; if all of them are small (`KEPT`) they are one block and are kept instead.

Why the blocks part the vocabulary and not the rows: the weight is the larger matrix. With blocks of the vocabulary each
part of it is read once per pass and its gradient is written once; blocks of rows would go through the whole weight, and
add to its whole gradient, once per block. Rows are parted too only if there are very many (`NARROWEST`).

A softmax over the whole vocabulary needs the log-sum-exp of all logits, and no block sees them all. It is built up as
log(exp(a) + exp(b)) over the blocks, which is the same and cannot overflow: cut cross-entropy (Wijmans et al. 2024,
arXiv:2411.09009, section 4). Once the forward pass knows it, the backward pass gets the probabilities of a block from
that block alone.

The gradient overwrites the logits: it is computed from them element by element, and automatic differentiation would
hold several tensors of that size.

Legend of shapes: R rows (response tokens), D hidden width, V vocabulary, C part of the vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from harness.logps import cpu_matmul

BLOCK = 2**22
"""Logits per block: 16 MiB in fp32."""
KEPT = 2**23
"""Up to this number of logits they are one block, which is kept for the backward pass."""
NARROWEST = 1024
"""Fewest columns of a block: if there are more rows than fit beside them, the rows are parted too."""


class LabelLogps(NamedTuple):
    """The results for each row."""

    token_R: Tensor
    """log p of the label, fp32."""
    square_R: Tensor
    """log sum_v p(v)^2, fp32, detached; zeros if it was not asked for."""


class Head(NamedTuple):
    """The output head, in the dtype of the matrix products."""

    weight_VD: Tensor
    bias_V: Tensor | None
    softcap: float | None

    def logits(self, hidden_RD: Tensor, columns: slice) -> Tensor:
        """Return the logits of a block, (R, C) in fp32, soft-capped if the model family does so."""
        bias = None if self.bias_V is None else self.bias_V[columns]
        logits_RC = cpu_matmul.linear(hidden_RD, self.weight_VD[columns], bias).float()
        return logits_RC if self.softcap is None else logits_RC.div_(self.softcap).tanh_().mul_(self.softcap)


def label_logps(
    hidden_RD: Tensor, label_R: Tensor, head: Any, softcap: float | None, *, log_sum_sq: bool = False
) -> LabelLogps:
    """Return log-softmax(head(hidden)) at the labels; logits are soft-capped if the model family does so.

    `head` has `weight` (V, D) and `bias` (V) or None. Under autocast the products are in its dtype, all else in fp32.
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
        with torch.autocast(hidden_RD.device.type, enabled=False):  # every dtype is explicit in here
            head = _typed(hidden_RD, weight_VD, bias_V, softcap)
            token_R = hidden_RD.new_zeros(len(hidden_RD), dtype=torch.float32)
            total_R = torch.full_like(token_R, float("-inf"))
            square_R = torch.full_like(token_R, float("-inf") if log_sum_sq else 0.0)
            kept = None
            for rows, columns in _blocks(len(weight_VD), hidden_RD):
                logits_RC = head.logits(hidden_RD[rows], columns)
                # the log-sum-exp so far and that of this block: after the last block, that of the whole vocabulary
                total_R[rows] = torch.logaddexp(total_R[rows], logits_RC.logsumexp(-1))
                if log_sum_sq:
                    square_R[rows] = torch.logaddexp(square_R[rows], (2 * logits_RC).logsumexp(-1))
                # each label lies in one block; the others add 0
                place_R1, inside_R1 = _places(label_R[rows], columns)
                token_R[rows] += torch.where(inside_R1, logits_RC.gather(1, place_R1), 0.0).squeeze(1)
                if any(ctx.needs_input_grad) and len(hidden_RD) * len(weight_VD) <= KEPT:
                    kept = logits_RC
            if log_sum_sq:
                square_R -= 2 * total_R
        ctx.save_for_backward(hidden_RD, weight_VD, bias_V, label_R, total_R)
        ctx.softcap, ctx.kept = softcap, kept
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(square_R)
        return token_R - total_R, square_R

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden_RD, weight_VD, bias_V, label_R, total_R = ctx.saved_tensors
        with torch.autocast(hidden_RD.device.type, enabled=False):
            head = _typed(hidden_RD, weight_VD, bias_V, ctx.softcap)
            to_hidden, to_weight, to_bias = ctx.needs_input_grad[:3]
            # every block of the vocabulary adds to the gradient of every row: in fp32, or bf16 would lose small terms
            hidden_grad = torch.zeros_like(hidden_RD, dtype=torch.float32) if to_hidden else None
            weight_grad = torch.zeros_like(weight_VD) if to_weight else None
            bias_grad = torch.zeros_like(bias_V) if to_bias and bias_V is not None else None
            kept, ctx.kept = ctx.kept, None  # overwritten below: a second backward pass computes the logits again
            for rows, columns in _blocks(len(weight_VD), hidden_RD):
                logits_RC = head.logits(hidden_RD[rows], columns) if kept is None else kept
                grad_RC = _logit_gradients(
                    logits_RC, total_R[rows], *_places(label_R[rows], columns), gradients[0][rows], ctx.softcap
                ).to(hidden_RD.dtype)
                if hidden_grad is not None:
                    cpu_matmul.add_mm(hidden_grad[rows], grad_RC, head.weight_VD[columns])
                if weight_grad is not None:
                    cpu_matmul.add_mm_over_rows(weight_grad[columns], grad_RC, hidden_RD[rows])
                if bias_grad is not None:
                    bias_grad[columns] += grad_RC.sum(0)
            if hidden_grad is not None:
                hidden_grad = hidden_grad.to(hidden_RD.dtype)
        return hidden_grad, weight_grad, bias_grad, None, None, None


def _typed(hidden_RD: Tensor, weight_VD: Tensor, bias_V: Tensor | None, softcap: float | None) -> Head:
    """Return the head in the dtype of the hidden states."""
    dtype = hidden_RD.dtype
    return Head(weight_VD.to(dtype), None if bias_V is None else bias_V.to(dtype), softcap)


def _blocks(vocabulary: int, hidden_RD: Tensor) -> Iterator[tuple[slice, slice]]:
    """Yield the blocks of the logits as (rows, columns), the columns of the same rows one after another."""
    rows = len(hidden_RD)
    if rows * vocabulary <= KEPT:
        yield slice(0, rows), slice(0, vocabulary)
        return
    height = min(rows, BLOCK // NARROWEST)
    few = -height % cpu_matmul.STEP if cpu_matmul.applies(hidden_RD) else 0  # few widths for many heights: see `STEP`
    width = BLOCK // (height + few)
    for row in range(0, rows, height):
        for column in range(0, vocabulary, width):
            yield slice(row, row + height), slice(column, column + width)


def _places(label_R: Tensor, columns: slice) -> tuple[Tensor, Tensor]:
    """Return the column of each row's label in a block, (R, 1), and whether it is in this block (else column 0)."""
    place_R1 = label_R[:, None] - columns.start
    inside_R1 = (place_R1 >= 0) & (place_R1 < columns.stop - columns.start)
    return place_R1 * inside_R1, inside_R1


def _logit_gradients(
    logits_RC: Tensor, total_R: Tensor, place_R1: Tensor, inside_R1: Tensor, grad_R: Tensor, softcap: float | None
) -> Tensor:
    """Return the gradient in the raw logits, g (onehot - p) times the slope of the cap; it overwrites the logits.

    p = exp(logit - log-sum-exp). The cap z = c tanh(x / c) has the slope dz / dx = 1 - (z / c)^2.
    """
    slope_RC = None if softcap is None else 1 - (logits_RC / softcap) ** 2
    grad_RC = logits_RC.sub_(total_R[:, None]).exp_().mul_(-grad_R[:, None])
    grad_RC.scatter_add_(1, place_R1, grad_R[:, None] * inside_R1)
    return grad_RC if slope_RC is None else grad_RC.mul_(slope_RC)
