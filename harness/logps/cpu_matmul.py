"""Matrix products in fp32 on a CPU, by the library that is faster on this chip.

torch sends fp32 products to its BLAS, which on x86 is MKL: slow on chips that are not Intel's. oneDNN, which also comes
with torch, is about twice as fast there (AMD Zen 5) and as exact. On accelerators, in bf16 and without oneDNN nothing
changes. The maker of the chip decides, not a measurement: the last digits depend on the library, and a machine that
happens to be busy must not give another board. `tests/benchmarks/floor.py` measures both.

Legend of shapes: R rows, D inputs, V outputs.
"""

from __future__ import annotations

import functools
import platform
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.overrides import TorchFunctionMode

STEP = 64
"""Rows are padded to a multiple of this. oneDNN compiles a kernel for each shape and keeps a thousand of them, each of
more than half a megabyte: if every micro-batch had a number of rows of its own, compiling would take as long as the
small products themselves, and the kernels would take more memory than the model."""


@functools.cache
def by_onednn() -> bool:
    """Return whether fp32 products go through oneDNN here: they do if torch's BLAS is MKL and the chip is AMD's."""
    mkl = bool(torch.backends.mkl.is_available())  # type: ignore[no-untyped-call]  # torch's own
    return mkl and hasattr(torch.ops.mkldnn, "_linear_pointwise") and _maker() == "AuthenticAMD"


def _maker() -> str:
    """Return the maker of the CPU as x86 chips name it, or what the platform module says."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            return next((line.split(":")[1].strip() for line in lines if line.startswith("vendor_id")), "")
    except OSError:  # not Linux
        processor = platform.processor()
        return "AuthenticAMD" if "AuthenticAMD" in processor else processor


def library() -> str:
    """Return the name of the library of fp32 products, as it is written into records."""
    return "onednn" if by_onednn() else "default"


def mm(left: Tensor, right: Tensor) -> Tensor:
    """Return left (R, D) @ right (D, V)."""
    if applies(left):
        return _onednn(left, right.t().contiguous())
    return torch.mm(left, right)


def mm_over_rows(left: Tensor, right: Tensor) -> Tensor:
    """Return left.T (V, R) @ right (R, D): the gradient of a weight."""
    if applies(left):
        return _onednn(_whole_steps(left).t().contiguous(), _whole_steps(right).t().contiguous())
    return torch.mm(left.t(), right)


def add_mm(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left (R, D) @ right (D, V) to `total` (R, V), which may have a wider dtype than the product."""
    if applies(left) or total.dtype != left.dtype:
        total += mm(left, right)
    else:
        total.addmm_(left, right)


def add_mm_over_rows(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left.T (V, R) @ right (R, D) to `total` (V, D), which may have a wider dtype than the product."""
    if applies(left) or total.dtype != left.dtype:
        total += mm_over_rows(left, right)
    else:
        total.addmm_(left.t(), right)


def linear(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return rows (..., D) @ weight.T + bias, (..., V); without a gradient."""
    if applies(rows):
        return _onednn(rows, weight.contiguous(), bias)
    return torch.nn.functional.linear(rows, weight, bias)


def applies(tensor: Tensor) -> bool:
    """Return whether products of `tensor` go through oneDNN."""
    return tensor.device.type == "cpu" and tensor.dtype == torch.float32 and by_onednn()


class FastLinear(TorchFunctionMode):
    """A context in which the linear layers of a model go through oneDNN if that is faster."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace `linear` and call everything else as it is."""
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
        """Enter the mode only if there is something to replace: it costs a little at every call of a torch function."""
        if by_onednn():
            super().__enter__()  # type: ignore[no-untyped-call]  # torch's own
        return self

    def __exit__(self, *error: Any) -> None:
        """Leave the mode if it was entered."""
        if by_onednn():
            super().__exit__(*error)  # type: ignore[no-untyped-call]  # torch's own


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(rows, weight)
        return _onednn(rows, weight.contiguous(), bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight = ctx.saved_tensors
        grad = gradients[0].reshape(-1, gradients[0].shape[-1])
        to_rows, to_weight, to_bias = ctx.needs_input_grad
        return (
            mm(grad, weight).view(rows.shape) if to_rows else None,
            mm_over_rows(grad, rows.reshape(-1, rows.shape[-1])) if to_weight else None,
            grad.sum(0) if to_bias else None,
        )


def _onednn(rows: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return rows (..., D) @ weight.T + bias, (..., V)."""
    rows_RD = rows.reshape(-1, rows.shape[-1])
    product: Tensor = torch.ops.mkldnn._linear_pointwise(_whole_steps(rows_RD), weight, bias, "none", [], "")
    return product[: len(rows_RD)].view(*rows.shape[:-1], len(weight))


def _whole_steps(rows_RD: Tensor) -> Tensor:
    """Return the rows, with rows of zeros appended up to a multiple of `STEP`."""
    missing = -len(rows_RD) % STEP
    return torch.nn.functional.pad(rows_RD, (0, 0, 0, missing)) if missing else rows_RD.contiguous()
