"""A benchmark harness in which the preference loss is the only thing that varies.

In Python: `run` trains, scores and ranks losses, `load_run` reads a finished run, and both give `Results`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.results import Results, load_run, run

__version__ = "0.1.0"
__all__ = ["Results", "load_run", "run"]


def __getattr__(name: str) -> Any:
    """Import what the names stand for when they are asked for: `import harness` itself loads nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'harness' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module("harness.results"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
