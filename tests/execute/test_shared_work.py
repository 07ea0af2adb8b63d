"""What the cells of a model had once for all of them: counted, printed and on disk."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.execute.progress import shared_text
from harness.run_folder.trained import TrainedCell, write_trained
from harness.training.cell_record import shared_work


def test_what_is_saved_is_the_common_part_of_every_cell_but_one_and_the_cached_reference_passes(tmp_path: Path) -> None:
    spends = [(5.0, False), (5.0, True), (0.0, False)]  # the second loss found the first one's reference log-probs
    for n, (seconds, cached) in enumerate(spends):
        folder = tmp_path / "cells" / f"c{n}"
        spend = {"reference_seconds": seconds, "reference_cached": cached}
        cell = TrainedCell(status="ok", reason="", start_fingerprint="start", spend=spend, prepared={})
        write_trained(folder, cell)
    cells = [SimpleNamespace(key=f"c{n}") for n in range(4)]  # the fourth failed in training
    prepared: Any = SimpleNamespace(
        job=SimpleNamespace(cells=cells, folder=tmp_path), start_seconds=10.0, token_seconds=2.0
    )
    shared = shared_work(prepared, engine_seconds=4.0)
    assert shared.saved_seconds == pytest.approx((10 + 2 + 4) * 2 + 5)
    assert (shared.cells, shared.reference_cells, shared.reference_seconds) == (3, 2, 5.0)
    assert shared_text(shared) == (
        "once for 3 cells: start checkpoint 10 s, ids 2 s, scoring engine 4 s, reference log-probs 5 s for 2 of them; "
        "saved 37 s"
    )
