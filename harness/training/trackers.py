"""Steps and metrics of a cell in TensorBoard, W&B or Trackio, through transformers' own integrations."""

from __future__ import annotations

import hashlib
import importlib
import os
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.import_guard import guard_imports
from harness.planning.grid import Cell
from harness.planning.job import Job
from harness.run_folder.json_types import Number
from harness.run_folder.paths import TENSORBOARD

EVENTS = "TENSORBOARD_LOGGING_DIR"
"""The environment variable that the integration of TensorBoard reads."""


@dataclass(frozen=True, kw_only=True)
class Tracked:
    """Where a cell is logged besides its own step log."""

    trackers: tuple[str, ...] = ()
    """As `--report-to` has them; none: nowhere."""
    name: str = ""
    """What the cell is called there: run and cell."""
    place: str = ""
    """The folder of the cell's TensorBoard events."""
    identity: str = ""
    """The id of its W&B run, the same for training and scoring."""

    @classmethod
    def of(cls, job: Job, cell: Cell) -> Tracked:
        """Return where a cell of a job is logged."""
        root = Path(os.environ.get(EVENTS) or job.folder / TENSORBOARD)
        whole = f"{job.folder.resolve()}/{cell.key}"
        return cls(
            trackers=job.report_to,
            name=f"{job.folder.resolve().name}/{cell.key}",
            place=str(root / cell.key),
            identity=hashlib.sha256(whole.encode()).hexdigest()[:16],
        )


NOWHERE = Tracked()


@contextmanager
def tracking(tracked: Tracked) -> Iterator[None]:
    """Have the integrations that are made inside log to the places of a cell, and close what they leave open."""
    before = os.environ.get(EVENTS)
    if tracked.trackers:
        os.environ[EVENTS] = tracked.place
    if "wandb" in tracked.trackers:  # its integration logs to the run that is open: else to one for all trainings
        wandb = importlib.import_module("wandb")
        project = os.environ.get("WANDB_PROJECT", "huggingface")
        wandb.init(project=project, name=tracked.name, id=tracked.identity, resume="allow")
    try:
        yield
    finally:
        os.environ.pop(EVENTS, None)
        if before is not None:
            os.environ[EVENTS] = before
        if "wandb" in tracked.trackers:
            wandb.finish()


def report_metrics(tracked: Tracked, metrics: Mapping[str, Number], steps: int) -> None:
    """Log the metrics of a scored cell, as `test/<metric>`, behind its last step.

    What goes wrong stands in the log of the worker: the cell has its record already.
    """
    if not tracked.trackers:
        return
    guard_imports()
    from transformers import TrainerControl, TrainerState, TrainingArguments
    from transformers.integrations import get_reporting_integration_callbacks

    logs = {f"test_{name}": value for name, value in metrics.items() if value is not None}
    try:
        with tracking(tracked):
            arguments = TrainingArguments(
                output_dir=tracked.place, run_name=tracked.name, report_to=list(tracked.trackers), use_cpu=True
            )
            state, control = TrainerState(global_step=steps), TrainerControl()
            for integration in get_reporting_integration_callbacks(list(tracked.trackers)):
                callback = integration()
                callback.on_train_begin(arguments, state, control, model=None)
                callback.on_log(arguments, state, control, logs=dict(logs), model=None)
                callback.on_train_end(arguments, state, control, model=None)
    except Exception:
        traceback.print_exc()
