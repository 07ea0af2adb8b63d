"""Names of folders, for whoever needs no more than them. Imports nothing that takes time."""

from __future__ import annotations

import os
from pathlib import Path

TUNING, TUNED = "tuning", "tuned-"
"""Folders inside a run, each a run folder of its own: the trials, and `tuned-<trials>`, what was chosen from them."""


def cache_folder() -> Path:
    """Return where nano models and reference log-probs are kept: HARNESS_CACHE, or the user's cache folder."""
    named = os.environ.get("HARNESS_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "preference-harness"
