"""Worker processes: how many side by side, and what they start from.

Importing torch, transformers and vLLM takes a worker longer than training a nano cell. On Linux without a GPU it is
done once, in a process that has nothing else and that every worker is then forked from; elsewhere each worker is a
process of its own: a GPU does not survive a fork, and other systems' libraries do not either.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, SpawnContext
from pathlib import Path

from harness.planning.run_file import Run

GPU_FILES = ("nvidia*", "nvhost*", "nvgpu*", "dxg", "kfd")
"""What a machine with a GPU that torch can use has in /dev: NVIDIA's, its boards', Windows' own, AMD's."""
IMPORTED = "harness.execute.preload"
"""The module whose import is all that the process to fork from does."""
WITH_VLLM = "harness.execute.preload_vllm"
"""A second one, for runs that vLLM may score."""
_vllm_fails = False  # it brought that process down
_one_at_a_time = threading.Lock()


def count(run: Run) -> int:
    """Return how many models are computed side by side.

    Nano models on CPU are too small to use several cores alone: one thread each, and more of them than cores while the
    last ones run would leave cores idle.
    """
    return min(len(run.models), 2 * (os.cpu_count() or 1)) if run.preset == "nano" and not _has_gpu() else 1


def context(*, vllm: bool = False) -> ForkServerContext | SpawnContext:
    """Return what starts a worker on this machine; where workers share their imports, those begin now, or have begun.

    `vllm`: with vLLM among them.
    """
    if sys.platform != "linux" or _may_have_gpu():
        return multiprocessing.get_context("spawn")
    forking = multiprocessing.get_context("forkserver")
    try:
        with _one_at_a_time, _same_imports():
            forking.set_forkserver_preload([IMPORTED, *([WITH_VLLM] if vllm and not _vllm_fails else [])])
            forkserver.ensure_running()
    except OSError:  # no place for its socket: a path too long, a folder that cannot be written
        return multiprocessing.get_context("spawn")
    return forking


def ask(question: Callable[[], str | None]) -> str | None:
    """Return what `question` answers in a worker, where vLLM is imported; asked here where there is no such worker."""
    global _vllm_fails
    starting = context(vllm=True)
    if isinstance(starting, SpawnContext):
        return question()
    ours, theirs = starting.Pipe(duplex=False)
    worker = starting.Process(target=_answer, args=(question, dict(os.environ), theirs))
    try:
        worker.start()
        theirs.close()
        answer: str | None = ours.recv()
        worker.join()
    except (EOFError, OSError):
        _vllm_fails = True
        answer = question()
    finally:
        ours.close()
        theirs.close()
    return answer


def _answer(question: Callable[[], str | None], environment: dict[str, str], connection: Connection) -> None:
    os.environ.clear()
    os.environ.update(environment)
    connection.send(question())


@contextmanager
def _same_imports() -> Iterator[None]:
    """A Python started inside imports from where this one does; by itself it would look into the current folder first.

    A worker gets its run's environment back (see `local`).
    """
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    kept = {name: os.environ.get(name) for name in ("PYTHONSAFEPATH", "PYTHONPATH")}
    os.environ |= {"PYTHONSAFEPATH": "1", "PYTHONPATH": path}
    try:
        yield
    finally:
        for name, value in kept.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


def _may_have_gpu() -> bool:
    """Return whether there may be a GPU; known without torch, whose import takes longer than all the rest of a plan."""
    return os.environ.get("CUDA_VISIBLE_DEVICES") != "" and any(any(Path("/dev").glob(name)) for name in GPU_FILES)


def _has_gpu() -> bool:
    if not _may_have_gpu():
        return False
    import torch

    return torch.cuda.is_available()
