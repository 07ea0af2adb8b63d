"""What is printed of each event, and which cells count as unfinished."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from made_records import made_record
from rich.console import Console

from harness.execute.progress import RunProgress
from harness.execute.status import read_status, read_unfinished
from harness.execute.tuning import Unfinished
from harness.manager import losses, plugin_manager, resolver
from harness.planning import events
from harness.planning.grid import cells, select
from harness.run_folder.store import write_record

MANAGER = plugin_manager()
CELLS = cells(["qwen"], select("simpo,dpo", list(losses(MANAGER)), resolver(MANAGER)), [0])
FIRST, SECOND = (cell.key for cell in CELLS)
TOLD: list[tuple[events.RunEvent, str]] = [
    (events.NothingToCompute(), "[qwen] every cell has its record: nothing to compute"),
    (events.ModelBegins(cells=2), "[qwen] 2 cells to compute"),
    (events.Phase(text="start checkpoint"), "[qwen] start checkpoint"),
    (events.TrainingBegins(key=FIRST), ""),
    (events.StepTaken(key=FIRST, step=1, steps=2), ""),
    (events.StepTaken(key=FIRST, step=1, steps=None), ""),
    (
        events.CellTrained(key=FIRST, status="ok", reason="", seconds=1.5, loss=0.25),
        "[qwen] trained 1/2 simpo: 1.5 s, last loss 0.25",
    ),
    (
        events.CellTrained(key=SECOND, status="diverged", reason="the loss is nan", seconds=2.0, loss=float("nan")),
        "[qwen] trained 2/2 dpo: 2.0 s, last loss nan -- DIVERGED: the loss is nan",
    ),
    (events.ScoringBegins(key=None), ""),
    (events.ScoringBegins(key=FIRST), ""),
    (events.CellScored(key=FIRST), "[qwen] scored 1/2 simpo"),
    (events.CellFailed(key=SECOND, reason="on purpose"), "[qwen] FAILED dpo: on purpose"),
    (events.ModelFailed(reason="no such model"), "[qwen] FAILED: no such model"),
]


def printed(quiet: bool) -> list[str]:
    """Return what is printed of each event, without the time left."""
    text = io.StringIO()
    run = SimpleNamespace(seeds=(0,), models=("qwen",))
    campaign: Any = SimpleNamespace(cells=CELLS, run=run)
    progress = RunProgress(campaign, Unfinished(run=tuple(CELLS)), Console(file=text, width=200), quiet)
    lines = []
    for event, _ in TOLD:
        progress("qwen", pickle.loads(pickle.dumps(event)))  # a worker's events come through a pipe
        lines.append(text.getvalue().partition("; ETA")[0].strip())
        text.seek(0)
        text.truncate()
    return lines


def test_every_event_has_its_line_or_none() -> None:
    assert printed(quiet=False) == [line for _, line in TOLD]


def test_a_quiet_run_prints_failures_alone() -> None:
    assert [line for line in printed(quiet=True) if line] == [line for _, line in TOLD if "FAILED" in line]


def test_a_cell_without_a_record_or_with_a_failed_one_is_unfinished(tmp_path: Path) -> None:
    assert read_unfinished(tmp_path, CELLS) == CELLS
    for key, status in ((FIRST, "diverged"), (SECOND, "failed")):
        write_record(tmp_path / "cells" / key, made_record({"key": key, "status": status}))
    assert read_unfinished(tmp_path, CELLS) == CELLS[1:]
    before = read_status(tmp_path, CELLS)
    (tmp_path / "cells" / SECOND / "record.json").unlink()
    assert before.by_key == {FIRST: "diverged", SECOND: "failed"}  # a snapshot stays what it was
