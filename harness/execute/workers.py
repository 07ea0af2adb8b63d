"""Worker processes: how many side by side, and what they start from.

Importing torch, transformers and vLLM takes longer than training a nano cell. On Linux without a GPU it is done once,
in a process that does nothing else and from which every worker is then forked. Elsewhere each worker is started afresh
and imports for itself: a GPU cannot be used after a fork, nor can the libraries of other systems.
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
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType

from harness.planning.launch import without_launch
from harness.planning.presets import trains_pretrained
from harness.planning.processors import processors, thread_variables
from harness.planning.run_file import Run

GPU_FILES = ("nvidia*", "nvhost*", "nvgpu*", "dxg", "kfd")
"""Files in /dev that tell of a GPU which torch may use: NVIDIA's, its Jetson boards', WSL's, AMD's."""
IMPORTED = "harness.execute.preload"
"""The module that the process to fork from imports, and does nothing else."""
WITH_VLLM = "harness.execute.preload_vllm"
"""A second such module, for runs that vLLM may score."""
_vllm_fails = False  # whether importing vLLM brought that process down
_one_at_a_time = threading.Lock()


def count(run: Run) -> int:
    """Return how many models are computed side by side on the CPU.

    A nano model on CPU is too small to use several cores, so each gets one thread; up to two per core, so that no core
    is idle while the last ones finish.
    """
    return min(len(run.models), 2 * processors()) if small(run) else 1


def small(run: Run) -> bool:
    """Return whether all models of a run are made here, and too small to use several cores."""
    return not trains_pretrained(run.models, run.preset, run.start)


def context(*, vllm: bool = False) -> ForkServerContext | SpawnContext:
    """Return what starts a worker on this machine. Where workers share their imports, these begin now at the latest.

    `vllm`: vLLM is among the imports.
    """
    if sys.platform != "linux" or may_have_gpu():
        return multiprocessing.get_context("spawn")
    forking = multiprocessing.get_context("forkserver")
    try:
        with _one_at_a_time, _same_imports():
            forking.set_forkserver_preload([IMPORTED, *([WITH_VLLM] if vllm and not _vllm_fails else [])])
            forkserver.ensure_running()
    except OSError:  # its socket cannot be made: the path is too long, or the folder cannot be written
        return multiprocessing.get_context("spawn")
    return forking


def ask(question: Callable[[], str | None]) -> str | None:
    """Return the answer to `question`, asked in a worker that has imported vLLM, or here where none can be had."""
    global _vllm_fails
    starting = context(vllm=True)
    if isinstance(starting, SpawnContext):
        return question()
    ours, theirs = starting.Pipe(duplex=False)
    worker = starting.Process(target=_answer, args=(question, without_launch(os.environ), theirs))
    try:
        start(worker)
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


def start(worker: BaseProcess) -> None:
    """Start a worker. It does not import the script that this process runs, which may have no main guard."""
    with _one_at_a_time:
        script = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            worker.start()
        finally:
            sys.modules["__main__"] = script


def _answer(question: Callable[[], str | None], environment: dict[str, str], connection: Connection) -> None:
    os.environ.clear()
    os.environ.update(environment)
    connection.send(question())


@contextmanager
def _same_imports() -> Iterator[None]:
    """Let a Python started inside import from where this one does, instead of from the current folder first.

    It loads OpenMP, which reads but once how its threads are to wait.

    The variables set here are for that process alone: workers get the environment of their run (see `local`).
    """
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    variables = {"PYTHONSAFEPATH": "1", "PYTHONPATH": path, **thread_variables()}
    kept = {name: os.environ.get(name) for name in variables}
    os.environ |= variables
    try:
        yield
    finally:
        for name, value in kept.items():
            del os.environ[name]
            if value is not None:
                os.environ[name] = value


def may_have_gpu() -> bool:
    """Return whether there may be a GPU, without asking torch, whose import takes longer than all of a plan."""
    return os.environ.get("CUDA_VISIBLE_DEVICES") != "" and any(any(Path("/dev").glob(name)) for name in GPU_FILES)
