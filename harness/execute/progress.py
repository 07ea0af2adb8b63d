"""What a run prints while it works: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TaskID, TextColumn
from rich.text import Text

from harness.execute.status import read_unfinished
from harness.execute.time_left import Heartbeat, clock
from harness.planning.events import (
    AnsweringBegins,
    CellFailed,
    CellScored,
    CellTrained,
    CheckpointWritten,
    MemoryOut,
    ModelBegins,
    ModelFailed,
    NothingToCompute,
    Phase,
    RunEvent,
    ScorerRestarts,
    ScoringBegins,
    SharedWork,
    StepTaken,
    Stopping,
    TrainingBegins,
    TrainingGoesOn,
)
from harness.run_folder.shown import for_the_terminal

if TYPE_CHECKING:
    from harness.execute.campaign import Campaign
    from harness.execute.tuning import Unfinished
    from harness.planning.grid import Cell

START, TRAIN, ENGINE, SCORE = 3.0, 4.0, 2.0, 1.0
"""Rough weights of making a start checkpoint, training a cell, starting an engine, scoring a cell; for the ETA only."""
SHORT = 80
"""Characters of a reason that is told a second time."""


class RunProgress:
    """Told of every event; prints it. Use as a context manager around the run."""

    def __init__(self, campaign: Campaign, unfinished: Unfinished, console: Console, quiet: bool) -> None:
        self.console, self.quiet = console, quiet
        self.total = _units(unfinished.run) + _units(unfinished.trials) + _units(unfinished.tuned)
        self.ahead = 0.0
        """Units of work up to the end of this stage."""
        self.done = 0.0
        self.began = time.monotonic()
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        self.failures: dict[tuple[str, str], int] = {}
        """By loss and reason: the cells that failed so in this stage."""
        self.heartbeat = Heartbeat(self._line)
        self._begin(campaign, unfinished.run)

    def _begin(self, campaign: Campaign, unfinished: Sequence[Cell]) -> None:
        self.labels = {cell.key: cell.system.label for cell in campaign.cells}
        self.seeds = {cell.key: cell.seed for cell in campaign.cells} if len(campaign.run.seeds) > 1 else {}
        self.losses = {cell.key: cell.system.loss.name for cell in campaign.cells}
        self._count_failures()
        models = [campaign.run.called(model) for model in campaign.run.models]
        self.counts = {model: sum(cell.model == model for cell in unfinished) for model in models}
        self.done, self.ahead = self.ahead, self.ahead + _units(unfinished)
        self.total = max(self.total, self.ahead)
        self.partial = dict.fromkeys(models, 0.0)
        self.trained = dict.fromkeys(models, 0)
        self.scored = dict.fromkeys(models, 0)

    def stage(self, campaign: Campaign, text: str) -> None:
        """Go on to the next run of a tuned one."""
        self._begin(campaign, read_unfinished(campaign.folder, campaign.cells))
        self._line(text)

    def __enter__(self) -> RunProgress:
        if self.console.is_terminal and not self.quiet and self.total:
            columns = BarColumn(), TextColumn("{task.percentage:>3.0f}% {task.fields[eta]}")
            self.bar = _Bar(*columns, console=self.console, transient=True)
            self.task = self.bar.add_task("starting", total=self.total, eta="")
            self.bar.start()
        elif not self.quiet:
            self.heartbeat.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.heartbeat.stop()
        self._count_failures()
        if self.bar:
            self.bar.stop()

    def eta(self) -> str:
        """Return the time left, judged by the time the finished part took; empty while that is too little."""
        fraction = (self.done + sum(self.partial.values())) / self.total if self.total else 1.0
        if fraction < 0.02:
            return ""
        left = (time.monotonic() - self.began) * (1 - fraction) / fraction
        return f"ETA {clock(left)}"

    def __call__(self, model: str, event: RunEvent) -> None:
        """Print one event and move the bar."""
        match event:
            case NothingToCompute():
                self._line(f"[{model}] every cell has its record: nothing to compute")
            case ModelBegins(cells=cells):
                self._line(f"[{model}] {cells} cells to compute")
            case Phase(text=text):
                self._line(f"[{model}] {text}")
                self.heartbeat.begins(model, text)
            case TrainingBegins(key=key):
                if not self.trained[model]:
                    self._advance(model, START)
                self._describe(model, f"training {self._name(key)}")
            case TrainingGoesOn() | CheckpointWritten() | Stopping() | MemoryOut() | ScorerRestarts():
                self._tell_trouble(model, event)
            case StepTaken(step=step, steps=steps):
                self.heartbeat.steps(model, event)
                if steps:
                    self.partial[model] = TRAIN * step / steps
            case CellTrained():
                self._advance(model, TRAIN)
                self.trained[model] += 1
                self._line(f"[{model}] trained {self.trained[model]}/{self.counts[model]} {self._outcome(event)}")
            case SharedWork(cells=cells):
                if cells > 1:
                    self._line(f"[{model}] {shared_text(event)}")
            case ScoringBegins(key=None):
                self._advance(model, ENGINE)
                self._describe(model, "scoring base")
            case ScoringBegins(key=str(key)):
                self._describe(model, f"scoring {self._name(key)}")
            case AnsweringBegins(key=key):
                self._describe(model, f"answers of {'base' if key is None else self._name(key)}")
            case CellScored(key=key):
                self._advance(model, SCORE)
                self.scored[model] += 1
                done = f"{self.scored[model]}/{self.counts[model]}"
                self._line(f"[{model}] scored {done} {self._name(key)}; {self.eta()}")
            case CellFailed(key=key, reason=reason):
                self._advance(model, SCORE)
                failure = self.losses.get(key, key), reason
                self.failures[failure] = self.failures.get(failure, 0) + 1
                if self.failures[failure] == 1:  # the others are counted: each has the reason in its record
                    self._line(f"[{model}] FAILED {self._name(key)}: {reason}", always=True)
            case ModelFailed(reason=reason):
                self.heartbeat.ends(model)
                self._line(f"[{model}] FAILED: {reason}", always=True)
        self._move_bar()

    def _tell_trouble(
        self, model: str, event: TrainingGoesOn | CheckpointWritten | Stopping | MemoryOut | ScorerRestarts
    ) -> None:
        """Say what a cell goes on with, and what is kept of it or cannot be; of a checkpoint written nothing."""
        match event:
            case ScorerRestarts(reason=reason):
                self._line(f"[{model}] the scorer died, and is started anew: {reason}")
            case TrainingGoesOn(key=key, step=step, reason=reason):
                where = f"begins anew ({reason})" if reason else f"goes on from step {step}"
                self._line(f"[{model}] {self._name(key)} {where}")
            case CheckpointWritten(key=key, trouble=trouble) if trouble:
                self._line(f"[{model}] {self._name(key)} goes on without a checkpoint: {trouble}", always=True)
            case MemoryOut(key=key, step=step, pairs=pairs):
                at_once = "1 pair" if pairs == 1 else f"{pairs} pairs"
                text = f"out of memory; goes on from step {step} with {at_once} at a time"
                self._line(f"[{model}] {self._name(key)}: {text}")
            case Stopping(key=key, seconds=seconds):
                self._line(
                    f"[{model}] stopping: {self._name(key)} is kept at the end of its step, within {seconds:g} s; "
                    "interrupt again to end at once",
                    always=True,
                )

    def _move_bar(self) -> None:
        if self.bar and self.task is not None:
            completed = min(self.total, self.done + sum(self.partial.values()))
            self.bar.update(self.task, completed=completed, eta=self.eta())

    def say(self, text: str) -> None:
        """Print a line about what is done beside the cells."""
        self._line(text)

    def _outcome(self, event: CellTrained) -> str:
        end = "" if event.status == "ok" else f" -- DIVERGED: {event.reason}"
        return f"{self._name(event.key)}: {event.seconds:.1f} s, last loss {event.loss:.4g}{end}; {self.eta()}"

    def _name(self, key: str) -> str:
        label = self.labels.get(key, key)
        return f"{label} seed {self.seeds[key]}" if key in self.seeds else label

    def _advance(self, model: str, units: float) -> None:
        self.heartbeat.ends(model)
        self.done += units
        self.partial[model] = 0.0

    def _count_failures(self) -> None:
        """Say of every failure that was told once how many cells it cost."""
        for (loss, reason), count in self.failures.items():
            if count > 1:
                short = textwrap.shorten(reason, SHORT, placeholder=" ...")
                self._line(f"FAILED {loss}: {count} cells for the same reason ({short})", always=True)
        self.failures = {}

    def _describe(self, model: str, text: str) -> None:
        self.heartbeat.begins(model, text)
        if self.bar and self.task is not None:
            self.bar.update(self.task, description=for_the_terminal(f"[{model}] {text}"))

    def _line(self, text: str, always: bool = False) -> None:
        if always or not self.quiet:
            self.heartbeat.heard()
            self.console.print(Text(for_the_terminal(text.rstrip("; "))), soft_wrap=True)


class _Bar(Progress):
    """The bar, and above it what is being done: a line of its own, so that a narrow terminal cuts no name."""

    def get_renderables(self) -> Iterator[RenderableType]:
        for task in self.tasks:  # as `Text`: what stands in brackets, or between colons, is no markup here
            yield Text(task.description, overflow="fold")
        yield self.make_tasks_table(self.tasks)


def shared_text(shared: SharedWork) -> str:
    """Return what was done once for all cells of a model, and the time that this saved."""
    parts = [
        f"start checkpoint {clock(shared.start_seconds)}",
        f"ids {clock(shared.token_seconds)}",
        f"scoring engine {clock(shared.engine_seconds)}",
    ]
    if shared.reference_cells:
        parts.append(f"reference log-probs {clock(shared.reference_seconds)} for {shared.reference_cells} of them")
    return f"once for {shared.cells} cells: {', '.join(parts)}; saved {clock(shared.saved_seconds)}"


def _units(cells: Sequence[Cell]) -> float:
    """Return the units of work of unfinished cells."""
    return (START + ENGINE) * len({cell.model for cell in cells}) + (TRAIN + SCORE) * len(cells)
