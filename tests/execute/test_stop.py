"""A run that is stopped or killed: what is kept of it, what is said, and that the same command goes on from there."""

from __future__ import annotations

import multiprocessing
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from waiting import HANGS, until

from harness.execute import local, stop
from harness.execute.stop import Stop, TerminatedError, Training
from harness.execute.worker import Died
from harness.execute.worker_process import WorkerProcess
from harness.planning.events import CellTrained, CheckpointWritten, Phase, StepTaken, Stopping, TrainingBegins
from harness.planning.job import record_failure
from harness.planning.run_file import make_run
from harness.run_folder.paths import CELLS

CELL = SimpleNamespace(key="one", model="qwen", seed=2, system=SimpleNamespace(label="simpo"))
JOB: Any = SimpleNamespace(run=make_run({}), model="qwen", folder=Path("run"), device="", cells=(CELL,))
KEPT, GOES_ON = "Stopped. What was finished is kept", "; the same command goes on from there."
STEP = StepTaken(key="one", step=3, steps=9, loss=0.5)


# -- the whole command -------------------------------------------------------------------------------------------------
LONG = ("--plugins", "gamma-po", "--models", "qwen", "--limit", "48", "--budget", "pairs=128", "--batch-pairs", "8")
"""16 steps, on a clock of its own: each run is begun, stopped and gone on with."""
TABLES = ("train.parquet", "rows.parquet", "responses.parquet")


def begun(folder: Path, environment: dict[str, str]) -> subprocess.Popen[str]:
    command = (sys.executable, "-m", "harness", "run", *LONG, "--scorer", "transformers", "--no-pictures")
    kept = ("--checkpoint-every", "0.001", "--output-dir", str(folder))
    pipe = subprocess.PIPE
    return subprocess.Popen([*command, *kept], stdout=pipe, stderr=pipe, text=True, env=environment)


def test_a_run_that_is_killed_and_then_terminated_goes_on_to_the_tables_of_one_that_was_not(
    harness: Any, environment: dict[str, str], tmp_path: Path
) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "stopped"
    done = harness("run", *LONG, "--scorer", "transformers", "--output-dir", str(whole))
    assert done.returncode == 0, done.stderr
    (cell,) = whole.glob(f"{CELLS}/*gamma-po*")

    of_cell = folder / CELLS / cell.name

    def kept() -> int:
        """Return the step of the checkpoint that is there, 0 without one."""
        vouched = of_cell.glob("checkpoint-*/checkpoint.json")
        return max((int(path.parent.name.removeprefix("checkpoint-")) for path in vouched), default=0)

    with begun(folder, environment) as killed:
        until(kept, "a checkpoint")
        killed.kill()
    with begun(folder, environment) as terminated:
        step = kept()
        until(lambda: kept() > step, "a later checkpoint")
        terminated.terminate()
        terminated.terminate()  # as `timeout` does
        out, errors = terminated.communicate(timeout=HANGS)
    assert (terminated.returncode, f"gamma-po goes on from step {step}" in out) == (143, True)
    step = kept()
    said = f"{KEPT}, and gamma-po on qwen (seed 0) at step {step}{GOES_ON}"
    assert errors.strip().splitlines()[-1] == said
    with begun(folder, environment) as last:
        out, errors = last.communicate(timeout=HANGS)
    assert (last.returncode, f"gamma-po goes on from step {step}" in out) == (0, True), errors
    for name in TABLES:
        assert (of_cell / name).read_bytes() == (cell / name).read_bytes()
    assert not kept()


# -- what the command says ---------------------------------------------------------------------------------------------
class Worker:
    """A worker that tells these events and is then gone, or, after None, silent."""

    def __init__(self, *events: object) -> None:
        self.asked, self._events = 0, iter(events)

    def terminate(self) -> None:
        self.asked += 1

    def receive(self) -> Any:
        return next(self._events, Died())


BEGUN = Training(key="one", step=0)


def said(stopped: Stop, worker: Any, training: Training | None = BEGUN) -> str:
    stopped.end(JOB, worker, training)
    return str(stopped.error(KeyboardInterrupt()))


def test_what_is_kept_of_a_training_is_said_from_the_last_that_it_wrote() -> None:
    worker = Worker(CheckpointWritten(key="one", step=2), STEP, CheckpointWritten(key="one", step=3))
    assert said(Stop(), worker) == f"{KEPT}, and simpo on qwen (seed 2) at step 3{GOES_ON}"
    assert worker.asked


def test_a_training_that_came_to_its_end_meanwhile_is_said_to_be_trained() -> None:
    ended = CellTrained(key="one", status="ok", reason="", seconds=1.0, loss=0.5)
    assert "and simpo on qwen (seed 2), trained; the same" in said(Stop(), Worker(STEP, ended))


def test_where_nothing_was_trained_nothing_is_said_of_it() -> None:
    assert said(Stop(), Worker(Phase(text="start checkpoint")), None) == KEPT + GOES_ON
    assert said(Stop(), Worker()) == KEPT + GOES_ON  # it had begun, and taken no step


def test_a_training_that_went_on_and_took_no_step_is_where_it_was() -> None:
    training = Training(key="one", step=7)
    assert said(Stop(), Worker(), training) == f"{KEPT}, and simpo on qwen (seed 2) at step 7{GOES_ON}"


def test_a_checkpoint_that_could_not_be_written_is_said_not_to_be_kept() -> None:
    worker = Worker(CheckpointWritten(key="one", step=3, trouble="the disk is full"))
    lost = "Not kept: the last steps of simpo on qwen (seed 2) (the disk is full)."
    assert said(Stop(), worker) == f"{KEPT}{GOES_ON} {lost}"


def test_a_step_that_does_not_end_is_waited_for_as_long_as_was_said(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter(range(0, 10_000, 100))
    monkeypatch.setattr(stop, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))
    worker = Worker(*[None] * 50)
    assert "(its step did not end within 300 s)" in said(Stop(), worker)
    assert worker.asked == 2  # after 100 and 200 s


def test_a_second_interrupt_ends_a_worker_at_once() -> None:
    stopped = Stop()
    stopped.at_once.set()
    assert "(interrupted twice)" in said(stopped, Worker(*[None] * 50))


@pytest.fixture
def heeded() -> Iterator[None]:
    """SIGINT ends this process, as that of a person's shell; a job in the background of a script ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("heeded")
def test_two_signals_within_a_second_are_one_and_a_later_one_hurries(monkeypatch: pytest.MonkeyPatch) -> None:
    before, stopped = signal.getsignal(signal.SIGTERM), Stop()
    with pytest.raises(TerminatedError), stopped.interruptible():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
    with stopped.interruptible():
        signal.raise_signal(signal.SIGTERM)
        assert not stopped.at_once.is_set()
        monkeypatch.setattr(stop, "SAME", 0.0)
        signal.raise_signal(signal.SIGINT)
        assert stopped.at_once.is_set()


def test_the_exit_code_is_that_of_the_signal() -> None:
    assert Stop().error(KeyboardInterrupt()).exit_code == 128 + signal.SIGINT
    assert Stop().error(TerminatedError()).exit_code == 128 + signal.SIGTERM


def test_a_run_in_another_thread_leaves_signals_alone() -> None:
    seen: list[object] = []

    def work() -> None:
        with Stop().interruptible():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [signal.getsignal(signal.SIGTERM)]


# -- which trainings may go on -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(("exit_code", "resumable"), [(-9, True), (-15, True), (-11, False), (1, False)])
def test_a_worker_that_was_ended_from_outside_may_be_gone_on_with(exit_code: int, resumable: bool) -> None:
    process: Any = SimpleNamespace(exitcode=exit_code, join=lambda timeout: None)
    ours, theirs = multiprocessing.Pipe()
    theirs.close()
    gone = WorkerProcess(process, ours).receive()
    worker: Any = Worker(TrainingBegins(key="one"), STEP, gone)
    found = local._follow(JOB, worker, lambda model, event: None, Stop())
    assert found is not None
    assert (found.key, found.resumable) == ("one", resumable)


def test_a_stop_is_told_where_a_training_takes_steps() -> None:
    stopped, told = Stop(), list[object]()
    worker: Any = Worker(TrainingBegins(key="one"), STEP, None)

    def report(_model: str, event: object) -> None:
        told.append(event)
        if event is STEP:
            stopped.asked.set()

    assert local._follow(JOB, worker, report, stopped) is None
    assert told[-1] == Stopping(key="one", seconds=300.0)


@pytest.mark.parametrize("resumable", [True, False])
def test_a_cell_that_failed_keeps_its_checkpoint_only_where_it_may_be_gone_on_with(
    resumable: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.planning.job.failed_record", lambda job, cell, reason: reason)
    monkeypatch.setattr("harness.planning.job.write_record", lambda folder, record: None)
    cell = tmp_path / CELLS / "one"
    for name in ("checkpoint-3", "points/0.5"):
        (cell / name).mkdir(parents=True)
    job: Any = SimpleNamespace(folder=tmp_path)
    record_failure(job, CELL, "no result within 100 s", resumable=resumable)  # type: ignore[arg-type]
    assert ((cell / "checkpoint-3").exists(), (cell / "points").exists()) == (resumable, resumable)
