"""What is printed of each event, and which cells count as unfinished."""

from __future__ import annotations

import io
import pickle
import re
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from made_records import made_record
from rich.console import Console
from terminal import on_a_terminal, without_control_sequences
from waiting import until

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
    (events.StepTaken(key=FIRST, step=1, steps=2, loss=0.5), ""),
    (events.StepTaken(key=FIRST, step=1, steps=None, loss=0.5), ""),
    (
        events.MemoryOut(key=FIRST, step=2, pairs=1),
        "[qwen] simpo: out of memory; goes on from step 2 with 1 pair at a time",
    ),
    (
        events.CellTrained(key=FIRST, status="ok", reason="", seconds=1.5, loss=0.25),
        "[qwen] trained 1/2 simpo: 1.5 s, last loss 0.25",
    ),
    (
        events.CellTrained(key=SECOND, status="diverged", reason="the loss is nan", seconds=2.0, loss=float("nan")),
        "[qwen] trained 2/2 dpo: 2.0 s, last loss nan -- DIVERGED: the loss is nan",
    ),
    (
        events.ScorerRestarts(reason="the worker process was ended by SIGSEGV"),
        "[qwen] the scorer died, and is started anew: the worker process was ended by SIGSEGV",
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
    run = SimpleNamespace(seeds=(0,), models=("qwen",), called=str)
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


def test_a_cell_that_takes_long_says_now_and_then_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.execute.time_left.EVERY", 0.05)
    text = io.StringIO()
    campaign: Any = SimpleNamespace(cells=CELLS, run=SimpleNamespace(seeds=(0,), models=("qwen",), called=str))
    with RunProgress(campaign, Unfinished(run=tuple(CELLS)), Console(file=text, width=200), False) as progress:
        progress("qwen", events.TrainingBegins(key=FIRST))
        until(lambda: "[qwen] training simpo, for 0 s so far" in text.getvalue(), "a word before the first step")
        progress("qwen", events.StepTaken(key=FIRST, step=1, steps=1001, loss=0.7))
        time.sleep(0.2)
        progress("qwen", events.StepTaken(key=FIRST, step=2, steps=1001, loss=0.625))
        until(lambda: "step 2 of 1001, loss 0.625; ETA of this cell" in text.getvalue(), "step, loss and time left")
        progress("qwen", events.ScoringBegins(key=SECOND))
        until(lambda: "[qwen] scoring dpo, for 0 s so far" in text.getvalue(), "a word while it is scored")
        progress("qwen", events.CellScored(key=SECOND))
        before = text.getvalue()
        time.sleep(0.2)
        assert text.getvalue() == before  # it is at nothing
    left = re.search(r"ETA of this cell (\d+) min", before)
    assert left is not None
    assert int(left[1]) >= 3  # 999 steps of at least 0.2 s


def test_a_loss_that_fails_in_every_cell_is_told_once_with_the_number_of_its_cells() -> None:
    text, models = io.StringIO(), ("qwen", "gemma", "mistral")
    grid = cells(models, select("simpo,dpo", list(losses(MANAGER)), resolver(MANAGER)), range(6))
    campaign: Any = SimpleNamespace(cells=grid, run=SimpleNamespace(seeds=tuple(range(6)), models=models, called=str))
    with RunProgress(campaign, Unfinished(run=tuple(grid)), Console(file=text, width=200), True) as progress:
        for cell in grid:
            if cell.system.label == "dpo":
                progress(cell.model, events.CellFailed(key=cell.key, reason="RuntimeError: on purpose"))
        odd = next(cell for cell in grid if cell.system.label == "simpo")
        progress(odd.model, events.CellFailed(key=odd.key, reason="another"))
    assert text.getvalue().splitlines() == [
        "[qwen] FAILED dpo seed 0: RuntimeError: on purpose",
        "[qwen] FAILED simpo seed 0: another",
        "FAILED dpo: 18 cells for the same reason (RuntimeError: on purpose)",
    ]


def test_a_cell_without_a_record_or_with_a_failed_one_is_unfinished(tmp_path: Path) -> None:
    assert read_unfinished(tmp_path, CELLS) == CELLS
    for key, status in ((FIRST, "diverged"), (SECOND, "failed")):
        write_record(tmp_path / "cells" / key, made_record({"key": key, "status": status}))
    assert read_unfinished(tmp_path, CELLS) == CELLS[1:]
    before = read_status(tmp_path, CELLS)
    (tmp_path / "cells" / SECOND / "record.json").unlink()
    assert before.by_key == {FIRST: "diverged", SECOND: "failed"}  # a snapshot stays what it was


NAMES = (
    "/tmp/models/[bold]my model[/bold]",
    "/tmp/models/" + "a-long-name-" * 12,
    "meta-llama/Llama-3.2-1B",
    "qwen",
    "./[/]:warning:]",
    "/srv/Modelle/größer-模型",
)
"""Names of models that hold what rich would read as markup, that are longer than a line, or not in ASCII."""
SHOWN = """
import sys
from types import SimpleNamespace
from rich.console import Console
from harness.execute.progress import RunProgress
from harness.execute.tuning import Unfinished
from harness.planning import events

names = sys.argv[1:]
loss = SimpleNamespace(name="dpo")
systems = [SimpleNamespace(label=f"dpo(path={name})", loss=loss) for name in names]
cells = [SimpleNamespace(key=name, model=name, seed=0, system=system) for name, system in zip(names, systems)]
campaign = SimpleNamespace(cells=cells, run=SimpleNamespace(seeds=(0,), models=names, called=str))
with RunProgress(campaign, Unfinished(run=tuple(cells)), Console(), False) as progress:
    for name in names:
        for event in (
            events.TrainingBegins(key=name),
            events.CellTrained(key=name, status="ok", reason="", seconds=1.0, loss=0.5),
            events.CellFailed(key=name, reason=f"no room in {name}"),
        ):
            progress(name, event)
            progress.bar.refresh()
"""
"""A run's progress of one cell for each model, all named by the arguments."""


@pytest.mark.parametrize(
    ("columns", "variables"), [(120, {}), (24, {}), (80, {"NO_COLOR": "1"}), (24, {"NO_COLOR": "1"})]
)
def test_names_come_out_whole_on_a_terminal_whatever_they_hold(columns: int, variables: dict[str, str]) -> None:
    code, written = on_a_terminal("-c", SHOWN, *NAMES, columns=columns, **variables)
    assert code == 0, written
    shown = without_control_sequences(written)
    for name in NAMES:
        for line in (
            f"[{name}] training dpo(path={name})",
            f"trained 1/1 dpo(path={name}): 1.0 s",
            f"[{name}] FAILED dpo(path={name}): no room in {name}",
        ):
            assert "".join(line.split()) in shown
