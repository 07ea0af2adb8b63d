"""Errors that are a plugin's own: raised in the code of a loss, and told with its name and the line."""

from __future__ import annotations

import traceback
from inspect import isfunction
from pathlib import Path

from harness.api import HarnessError, Loss
from harness.run_folder.shown import reason_of, without_secrets


def reason_in(error: Exception, loss: Loss) -> str:
    """Return what records and people are told of an error in the cell of a loss."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in _files(loss)]
    if isinstance(error, HarnessError) or not frames:
        return reason_of(error)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
    return without_secrets(f"loss '{loss.name}' raised {type(error).__name__}: {error} ({where})")


def _files(loss: Loss) -> set[str]:
    """Return the files that define a loss, and those in it: not ours, nor what dataclasses generate."""
    kinds = [kind for kind in type(loss).__mro__ if not kind.__module__.startswith(("harness.", "builtins"))]
    files = {
        function.__code__.co_filename for kind in kinds for function in vars(kind).values() if isfunction(function)
    }
    inner = [value for value in vars(loss).values() if isinstance(value, Loss)]
    return (files - {"<string>"}).union(*map(_files, inner))
