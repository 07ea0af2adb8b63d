"""Synthetic run folders, written through the store as the harness writes them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_cells import add_cell


@pytest.fixture(name="add_cell")
def add_cell_fixture() -> Callable[..., None]:
    """`add_cell(run, label, margins, model=, seed=, prompts=, **changed)`."""
    return add_cell


@pytest.fixture
def small_run(tmp_path: Path) -> Path:
    """One model, one seed, 120 pairs of 40 prompts; `good` has 108 right, `fair` 90, `bad` 30, and one diverged."""
    run = tmp_path / "run"
    for label, right in (("good", 108), ("fair", 90), ("bad", 30), ("base", 60), ("longer-wins", 72)):
        add_cell(run, label, np.where(np.arange(120) < right, 1.0, -1.0) * (1 + np.arange(120) / 1000))
    add_cell(run, "wild|loss", status="diverged", reason="loss became NaN at step 7")
    return run
