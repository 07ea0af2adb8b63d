"""What is said where memory is out, of this machine or of its accelerator."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate.utils.memory import should_reduce_batch_size

from harness.api import HarnessError


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error says that memory is out."""
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or (isinstance(error, Exception) and should_reduce_batch_size(error))


@contextmanager
def out_of_memory_told() -> Iterator[None]:
    """Raise what is raised inside where memory is out as one `HarnessError` that says what would need less."""
    try:
        yield
    except HarnessError:
        raise
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise HarnessError(
            f"out of memory ({in_short(error)}) beside the passes of its pairs: weights, gradients, the optimiser's "
            f"moments and the reference need as much whatever --micro-pairs is; {less('float32')}"
        ) from error


def less(dtype: str) -> str:
    """Return what would need less memory than a training in this type."""
    smaller = ", --dtype bfloat16" if dtype == "float32" else ""
    return f"pass a smaller --max-length{smaller} or --adapter lora, or take a smaller model"


def in_short(error: Exception) -> str:
    """Return an error on one line of bounded length."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:160]}".rstrip(": ")
