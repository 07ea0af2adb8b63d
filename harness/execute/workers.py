"""Worker processes: how many side by side, and what they start from.

Importing torch and transformers takes a worker longer than training a nano cell. On Linux without a GPU it is done
once, in a process that has nothing else and that every worker is then forked from; elsewhere each worker is a process
of its own: a GPU does not survive a fork, and other systems' libraries do not either.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path

from harness.config import Run

GPU_FILES = ("nvidia*", "nvhost*", "nvgpu*", "dxg", "kfd")
"""What a machine with a GPU that torch can use has in /dev: NVIDIA's, its boards', Windows' own, AMD's."""
IMPORTED = "harness.execute.imported"
"""The module whose import is all that the process to fork from does."""


def count(run: Run) -> int:
    """Return how many models are computed side by side.

    Nano models on CPU are too small to use several cores alone: one thread each, and more of them than cores while the
    last ones run would leave cores idle.
    """
    return min(len(run.models), 2 * (os.cpu_count() or 1)) if run.preset == "nano" and not has_gpu() else 1


def context() -> ForkServerContext | SpawnContext:
    """Return how a worker is started on this machine."""
    if sys.platform != "linux" or has_gpu():
        return multiprocessing.get_context("spawn")
    forking = multiprocessing.get_context("forkserver")
    forking.set_forkserver_preload([IMPORTED])
    return forking


def warm_up() -> None:
    """Begin with what every worker imports, where they share it; returns at once."""
    if isinstance(context(), ForkServerContext):
        from multiprocessing import forkserver

        forkserver.ensure_running()


def has_gpu() -> bool:
    """Return whether torch would find a GPU. Known without torch where there is none: importing it takes seconds."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" or not any(any(Path("/dev").glob(name)) for name in GPU_FILES):
        return False
    import torch

    return torch.cuda.is_available()
