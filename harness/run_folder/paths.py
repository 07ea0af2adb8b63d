"""Names of the files and folders of a run, and a new folder that is complete or never was."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.api.errors import HarnessError

RECORD, ROWS, RESPONSES, MANIFEST, CELLS = "record.json", "rows.parquet", "responses.parquet", "manifest.json", "cells"
TUNING, TUNED = "tuning", "tuned-"
"""Folders inside a run, each a run folder of its own: the trials, and `tuned-<trials>`, what was chosen from them."""


def cache_folder() -> Path:
    """Return where nano models and reference log-probs are kept: HARNESS_CACHE, or the user's cache folder."""
    named = os.environ.get("HARNESS_CACHE")
    if named:
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "preference-harness"


def runs_inside(run: Path) -> list[Path]:
    """Return the folders of a run's trials and of what was chosen from them, fewest trials first."""
    found = [folder for folder in (run / TUNING, *run.glob(f"{TUNED}*")) if any(folder.glob(f"{CELLS}/*/{RECORD}"))]
    return sorted(found, key=lambda folder: (folder.name != TUNING, len(folder.name), folder.name))


def tuned_runs(run: Path) -> list[Path]:
    """Return the folders of what was chosen from a run's trials, fewest trials first."""
    return [folder for folder in runs_inside(run) if folder.name != TUNING]


def check_new(folder: Path) -> None:
    """Raise `HarnessError` where the folder is there already; an empty one may be."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise HarnessError(f"got {folder}, which is there already, expected a new folder; name another one")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to fill, which becomes `folder` at the end; after an error nothing is left of it."""
    check_new(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        filling = Path(temporary) / folder.name  # a folder in it, because its own can be read by its owner only
        filling.mkdir()
        yield filling
        if folder.exists():
            folder.rmdir()
        filling.rename(folder)
