"""Where else the steps and metrics of cells are logged: `--report-to`, checked before anything is computed."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence

from harness.api import HarnessError

PACKAGES: Mapping[str, tuple[str, ...]] = {
    "tensorboard": ("tensorboard", "tensorboardX"),
    "wandb": ("wandb",),
    "trackio": ("trackio",),
}
"""Tracker -> the packages of which it needs one; transformers has an integration of each."""


def require_trackers(names: Sequence[str]) -> None:
    """Raise `HarnessError` for a tracker that is not known or whose package is not installed."""
    for name in names:
        if name not in PACKAGES:
            raise HarnessError(f"--report-to got '{name}', expected some of {', '.join(PACKAGES)}")
        if not any(importlib.util.find_spec(package) for package in PACKAGES[name]):
            raise HarnessError(f"--report-to got '{name}', whose package is not installed; run: pip install {name}")
