"""Cells on several devices: who has which, what waits for what, and that the results are those of one device.

No GPU is needed: `HARNESS_DEVICES` declares some, and their workers compute on the CPU.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.api import HarnessError
from harness.execute import cell_queue, devices, local
from harness.execute.cell_queue import CellQueue, Turn
from harness.execute.devices import Device, chosen
from harness.execute.placing import Placing
from harness.execute.stop import Stop
from harness.execute.worker import Died
from harness.planning.events import CellFailed, StepTaken, TrainingBegins
from harness.planning.run_file import make_run
from harness.run_folder.one_at_a_time import one_at_a_time

TWO = {"HARNESS_DEVICES": "0:80GB,1:80GB"}


# -- which devices -----------------------------------------------------------------------------------------------------
@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return lambda text: monkeypatch.setenv("HARNESS_DEVICES", text)


def test_all_visible_gpus_compute_or_those_that_are_named_or_the_cpu(declared: Callable[[str], None]) -> None:
    declared("0:80GB,1:24GB")
    assert [(device.name, device.memory) for device in chosen(None)] == [("0", 80e9), ("1", 24e9)]
    assert [device.name for device in chosen("1")] == ["1"]
    assert [device.is_gpu for device in chosen("cpu")] == [False]
    declared("")
    assert [device.name for device in chosen(None)] == ["cpu"]


@pytest.mark.parametrize("asked", ["2", "0,2", "0,0", "", "cpu,0", "all", "0;1", "-1"])
def test_what_is_not_there_is_refused_with_what_is(asked: str, declared: Callable[[str], None]) -> None:
    declared("0:80GB,1:24GB")
    with pytest.raises(HarnessError, match=r"--devices got '.*'.*; expected numbers out of 0, 1, each once, or cpu"):
        chosen(asked)
    declared("")
    with pytest.raises(HarnessError, match="expected cpu: no GPU is visible here"):
        chosen("0")


def test_numbers_count_the_gpus_that_are_left_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_DEVICES", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,GPU-7f")
    monkeypatch.setattr(devices, "may_have_gpu", lambda: True)
    monkeypatch.setattr(devices, "ASKED", 'print(\'[["H200", 150000000000], ["H200", 150000000000]]\')')
    devices._asked.cache_clear()
    assert [(device.name, device.visible) for device in chosen(None)] == [("0", "5"), ("1", "GPU-7f")]
    assert str(chosen("1")[0].facts) == "H200, 150.0 GB"
    assert chosen("cpu")[0].visible == ""  # the GPUs are hidden from its workers
    devices._asked.cache_clear()


# -- who has which cell ------------------------------------------------------------------------------------------------
GB = 1e9


def queue_of(
    cells: Mapping[str, int], needs: Mapping[str, float], monkeypatch: pytest.MonkeyPatch, *memory: float
) -> tuple[CellQueue, list[Device]]:
    """Return the queue of so many cells by model, each model with what it needs in GB, and GPUs of so many GB."""
    monkeypatch.setattr(cell_queue, "read_unfinished", lambda folder, cells: cells)
    monkeypatch.setattr(cell_queue, "replace", lambda job, **changes: SimpleNamespace(**(vars(job) | changes)))
    there = [Device(name=str(number), memory=size * GB) for number, size in enumerate(memory)]
    placing = Placing(devices=tuple(there), needs={model: size * GB for model, size in needs.items()})
    jobs: list[Any] = [
        SimpleNamespace(
            model=model, folder=None, probe=None, brought=(), cells=[f"{model}{number}" for number in range(count)]
        )
        for model, count in cells.items()
    ]
    return CellQueue(jobs, placing), there


def begun(queue: CellQueue, device: Device) -> Turn | None:
    """Return what a worker begins with now; None also where it has to wait."""
    stop = Stop()
    threading.Timer(0.05, stop.asked.set).start()
    return queue.begin(device, stop)


@pytest.fixture(autouse=True)
def _looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell_queue, "AGAIN", 0.01)


def test_each_device_has_a_model_and_a_free_one_helps_where_most_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    queue, (first, second) = queue_of({"a": 4, "b": 2}, {"a": 50, "b": 50}, monkeypatch, 80, 80)
    one, two = begun(queue, first), begun(queue, second)
    assert one is not None
    assert two is not None
    assert [(turn.job.model, turn.mine) for turn in (one, two)] == [("a", ["a0"]), ("b", ["b0"])]
    given = [turn.more() for turn in (two, two)]
    assert [each and each.cell for each in given] == ["b1", None]
    queue.end(second, "b")
    helps = begun(queue, second)
    assert helps is not None
    assert (helps.job.model, helps.mine) == ("a", ["a1"])
    assert [one.more().cell, helps.more().cell, one.more().cell, helps.more().cell] == ["a2", "a3", None, None]  # type: ignore[union-attr]
    queue.end(first, "a")
    queue.end(second, "a")
    assert begun(queue, first) is None


def test_models_are_beside_each_other_where_both_fit_and_wait_where_they_do_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for needs, expected in ((30, "b"), (50, None)):
        queue, (device,) = queue_of({"a": 2, "b": 1}, {"a": 40, "b": needs}, monkeypatch, 80)
        assert begun(queue, device)
        beside = begun(queue, device)
        assert (beside and beside.job.model) == expected


def test_a_model_waits_for_a_device_that_holds_it_and_has_any_where_none_does(monkeypatch: pytest.MonkeyPatch) -> None:
    queue, (small, large) = queue_of({"a": 9}, {"a": 60}, monkeypatch, 24, 80)
    assert begun(queue, small) is None
    assert begun(queue, large)
    queue, (small,) = queue_of({"a": 9}, {"a": 60}, monkeypatch, 24)
    assert begun(queue, small)  # an estimate is no measurement


def test_an_engine_has_its_device_to_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    queue, (device,) = queue_of({"a": 2, "b": 1, "c": 1}, {"a": 20, "b": 20, "c": 20}, monkeypatch, 80)
    a, b = begun(queue, device), begun(queue, device)
    assert a is not None
    assert b is not None
    assert b.more() is None  # a trains
    assert begun(queue, device) is None  # c would keep b waiting
    assert [a.more().cell, a.more().cell] == ["a1", None]  # type: ignore[union-attr]
    assert b.more() is None  # a scores
    queue.end(device, "a")
    assert b.more().cell is None  # type: ignore[union-attr]
    queue.end(device, "b")
    last = begun(queue, device)
    assert last is not None
    assert last.job.model == "c"


def test_a_device_that_fails_is_not_tried_again_and_the_last_one_leaves_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue, (first, second) = queue_of({"a": 4}, {"a": 20}, monkeypatch, 80, 80)
    assert begun(queue, first)
    other = begun(queue, second)
    assert other is not None
    assert queue.end(first, "a", failed=True) == []
    assert begun(queue, first) is None
    assert other.more().cell == "a2"  # type: ignore[union-attr]
    assert queue.end(second, "a", failed=True) == ["a3"]


# -- a worker that is lost --------------------------------------------------------------------------------------------
class Lost:
    """A worker that is lost with its node in the middle of a training."""

    def __init__(self, key: str) -> None:
        self._events = iter([TrainingBegins(key=key), StepTaken(key=key, step=1, steps=9, loss=0.5), Died(lost=True)])

    def receive(self) -> Any:
        return next(self._events)

    def end(self, *, done: bool) -> None:
        assert not done


def test_the_cells_of_a_lost_worker_are_tried_again_and_one_that_loses_three_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    failed: list[str] = []
    told: list[Any] = []
    monkeypatch.setattr(
        "harness.execute.local.replace", lambda job, **changes: SimpleNamespace(**(vars(job) | changes))
    )
    monkeypatch.setattr("harness.execute.local.read_cell_status", lambda folder, key: None)
    monkeypatch.setattr("harness.execute.local.record_failure", lambda job, cell, reason, **_: failed.append(cell.key))
    queue, (first, second) = queue_of({"a": 2}, {"a": 1.0}, monkeypatch, 80, 80)
    for cells in queue._left.values():
        one, other = SimpleNamespace(key="one"), SimpleNamespace(key="other")
        cells.clear()
        cells.extend([one, other])  # type: ignore[list-item]
    queue._jobs["a"].folder = tmp_path  # type: ignore[misc]
    queue._jobs["a"].run = make_run({})  # type: ignore[misc]
    for tries in (1, 2, 3):
        turn = begun(queue, first)
        assert turn is not None
        assert [cell.key for cell in turn.mine] == ["one"]
        local.execute(turn, lambda job: Lost("one"), lambda name, event: told.append(event), Stop())  # type: ignore[arg-type]
        assert failed == (["one"] if tries == 3 else [])
        queue.end(first, "a")
    assert [event.key for event in told if isinstance(event, CellFailed)] == ["one"]
    turn = begun(queue, second)
    assert turn is not None
    assert [cell.key for cell in turn.mine] == ["other"]


# -- a whole run -------------------------------------------------------------------------------------------------------
DYING = """
import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar
from harness.api import Loss, Terms, hookimpl

@dataclass(frozen=True, kw_only=True)
class Dying(Loss):
    name: ClassVar[str] = "dying"

    def terms(self, pairs):
        Path(os.environ["HARNESS_DYING"]).write_text(os.environ["CUDA_VISIBLE_DEVICES"])
        os._exit(7)

    def reward(self, response):
        return response.sum

@hookimpl
def harness_losses():
    return [Dying]
"""
LITTLE = ("--models", "qwen", "--limit", "48", "--budget", "pairs=32", "--scorer", "transformers")


def without_spend(value: Any) -> Any:
    """Return JSON without what a machine spent."""
    if isinstance(value, dict):
        return {key: without_spend(inner) for key, inner in value.items() if "spend" not in key}
    return [without_spend(inner) for inner in value] if isinstance(value, list) else value


@pytest.fixture
def dying(tmp_path: Path) -> dict[str, str]:
    """The variables of a run with the loss `dying`, whose worker ends once it has noted its CUDA_VISIBLE_DEVICES."""
    (tmp_path / "dying.py").write_text(DYING, encoding="utf-8")
    about = tmp_path / "dying-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: dying\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text("[harness]\ndying = dying\n", encoding="utf-8")
    return {"PYTHONPATH": str(tmp_path), "HARNESS_DYING": str(tmp_path / "seen"), "OMP_NUM_THREADS": "1"}


def test_two_devices_give_the_tables_and_the_board_of_one_and_a_worker_that_dies_costs_its_cell(
    harness: Any, dying: dict[str, str], tmp_path: Path
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    words = ("run", "--plugins", "dying,simpo,dpo,ipo", *LITTLE)
    alone = harness(*words, "--output-dir", str(one), **dying, HARNESS_DEVICES="0:80GB")
    both = harness(*words, "--output-dir", str(two), **dying, **TWO)
    assert (alone.returncode, both.returncode) == (6, 6), both.stdout + both.stderr
    assert "[qwen on GPU 0] trained" in both.stdout
    assert "[qwen on GPU 1] trained" in both.stdout
    tables = {path.relative_to(one).as_posix(): path.read_bytes() for path in one.rglob("*.parquet")}
    assert {path.relative_to(two).as_posix(): path.read_bytes() for path in two.rglob("*.parquet")} == tables
    boards = [json.loads((folder / "leaderboard.json").read_text()) for folder in (one, two)]
    rows = [{row["loss"]: without_spend(row) for row in board["boards"][0]["rows"]} for board in boards]
    reasons = [row.pop("dying")["reason"] for row in rows]
    assert rows[0] == rows[1]
    device = (tmp_path / "seen").read_text()
    assert reasons[1] == f"the worker process ended with exit code 7; its output is in {two}/logs/qwen-GPU-{device}.log"
    assert json.loads((two / "manifest.json").read_text())["devices"] == dict.fromkeys(("0", "1"), "declared, 80.0 GB")
    keys = [{path.parent.name for path in folder.glob("cells/*/record.json")} for folder in (one, two)]
    assert keys[0] == keys[1]


def test_the_plan_says_what_each_device_is_expected_to_take(harness: Any) -> None:
    words = ("run", "--plugins", "simpo,dpo,ipo", "--models", "qwen,gemma", "--scorer", "transformers", "--dry-run")
    said = harness(*words, HARNESS_DEVICES="0:80GB,1:1MB").stdout
    line = next(line for line in said.splitlines() if line.startswith("Devices "))
    assert "GPU 0 (declared, 80.0 GB): about 6 cells (3 of qwen, 3 of gemma), " in line
    assert line.endswith("; up to 2 models beside each other")
    assert "          GPU 1 (declared, 0.0 GB): no cell" in said
    said = harness(*words, "--devices", "1", **TWO).stdout
    assert "GPU 0" not in said
    assert "Devices " not in harness(*words, "--devices", "cpu", **TWO).stdout


# -- work that is done once --------------------------------------------------------------------------------------------
def test_whoever_comes_to_work_that_another_does_waits_for_it(tmp_path: Path) -> None:
    made: list[str] = []
    inside = threading.Event()

    def make(name: str) -> None:
        with one_at_a_time(tmp_path, "start"):
            inside.set()
            if not (tmp_path / "start").exists():
                threading.Event().wait(0.1)
                made.append(name)
                (tmp_path / "start").write_text("made")

    threads = [threading.Thread(target=make, args=(name,)) for name in ("first", "second")]
    threads[0].start()
    inside.wait()
    threads[1].start()
    for thread in threads:
        thread.join()
    assert made == ["first"]


def test_without_locks_of_the_file_system_nobody_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuses(file: object, how: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("harness.run_folder.one_at_a_time.fcntl.flock", refuses)
    with one_at_a_time(tmp_path, "start"), one_at_a_time(tmp_path, "start"):
        pass
