"""Matrix products in fp32 on a CPU: by the library that is faster on this chip.

torch sends fp32 products to its BLAS (MKL), which is slow on chips of another maker than its own: oneDNN, which comes
with torch too, is about twice as fast there and as exact. On accelerators, in bf16 and without oneDNN nothing changes.

Legend of shapes: R rows, D inputs, V outputs.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

FASTER = 1.4
"""oneDNN is taken where it is faster by this factor: so far from 1 that a busy machine does not change the choice."""
PROBE = (1024, 512, 1024)
REPEATS = 5


@functools.cache
def by_onednn() -> bool:
    """Return whether fp32 products go through oneDNN on this machine; measured once a process, some 50 ms."""
    if not hasattr(torch.ops.mkldnn, "_linear_pointwise"):  # a build without oneDNN
        return False
    rows, inputs, outputs = PROBE
    left, right = torch.ones(rows, inputs), torch.ones(outputs, inputs)
    with torch.no_grad():
        usual = _best(lambda: torch.mm(left, right.t()))
        return usual > FASTER * _best(lambda: _onednn(left, right))


def library() -> str:
    """Return the name of the library of fp32 products, as records have it."""
    return "onednn" if by_onednn() else "default"


def mm(left: Tensor, right: Tensor) -> Tensor:
    """Return left (R, D) @ right (D, V)."""
    if applies(left):
        return _onednn(left, right.t().contiguous())
    return torch.mm(left, right)


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return rows (..., D) @ weight.T + bias, (..., V); without a gradient."""
    if applies(rows):
        return _onednn(rows.contiguous(), weight.contiguous(), bias)
    return torch.nn.functional.linear(rows, weight, bias)


def applies(tensor: Tensor) -> bool:
    """Return whether products of `tensor` go through oneDNN."""
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32 and by_onednn()


class FastLinear(TorchFunctionMode):
    """While it is entered, the linear layers of a model go through oneDNN where that is faster."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Exchange `linear`, leave all else."""
        if (
            func is torch.nn.functional.linear
            and not kwargs
            and applies(args[0])
            and not torch.is_autocast_enabled("cpu")
        ):
            bias = args[2] if len(args) > 2 else None
            return _Linear.apply(args[0], args[1], bias)  # type: ignore[no-untyped-call]
        return func(*args, **(kwargs or {}))

    def __enter__(self) -> FastLinear:
        """Enter where there is something to exchange: the mode costs a little at every call."""
        if by_onednn():
            super().__enter__()  # type: ignore[no-untyped-call]  # torch's own
        return self

    def __exit__(self, *error: Any) -> None:
        """Leave."""
        if by_onednn():
            super().__exit__(*error)  # type: ignore[no-untyped-call]  # torch's own


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return _onednn(rows.contiguous(), weight.contiguous(), bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        grad = gradients[0].reshape(-1, gradients[0].shape[-1])
        to_rows, to_weight, to_bias = ctx.needs_input_grad
        return (
            mm(grad, weight).view(rows.shape) if to_rows else None,
            mm(grad.t().contiguous(), rows.reshape(-1, rows.shape[-1])) if to_weight else None,
            grad.sum(0) if to_bias else None,
        )


def _onednn(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(rows, weight, bias, "none", [], "")
    return product


def _best(work: Callable[[], Tensor]) -> float:
    times = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)
