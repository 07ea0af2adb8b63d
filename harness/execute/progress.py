"""What a run says while it works: a bar with the time left on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

if TYPE_CHECKING:
    from harness.execute.campaign import Campaign
    from harness.execute.tuning import Tuning
    from harness.planning.grid import Cell

START, TRAIN, ENGINE, SCORE = 3.0, 4.0, 2.0, 1.0
"""Rough weights of making a start checkpoint, training a cell, starting an engine, scoring a cell; for the ETA only."""


class RunProgress:
    """Told of every event; prints it. Use as a context manager around the run."""

    def __init__(self, campaign: Campaign, console: Console, quiet: bool, tuning: Tuning | None = None) -> None:
        self.console, self.quiet = console, quiet
        later = tuning.left if tuning else ([], [])
        self.total = _units(campaign.todo) + sum(map(_units, later))
        self.ahead = 0.0
        """Units of this stage and those before it."""
        self.done = 0.0
        self.began = time.monotonic()
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        self._begin(campaign)

    def _begin(self, campaign: Campaign) -> None:
        from harness.execute.local import unfinished

        self.labels = {cell.key: f"{cell.system.label}" for cell in campaign.cells}
        self.seeds = {cell.key: cell.seed for cell in campaign.cells} if len(campaign.run.seeds) > 1 else {}
        self.left = {job.model: unfinished(job) for job in campaign.jobs}
        self.done, self.ahead = self.ahead, self.ahead + _units(campaign.todo)
        self.total = max(self.total, self.ahead)
        self.partial = dict.fromkeys(self.left, 0.0)
        self.trained = dict.fromkeys(self.left, 0)
        self.scored = dict.fromkeys(self.left, 0)

    def stage(self, campaign: Campaign, text: str) -> None:
        """Go on to the next run of a tuned one."""
        self._begin(campaign)
        self._line(text)

    def __enter__(self) -> RunProgress:
        if self.console.is_terminal and not self.quiet and self.total:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.percentage:>3.0f}% {task.fields[eta]}"),
            )
            self.bar = Progress(*columns, console=self.console, transient=True)
            self.task = self.bar.add_task("starting", total=self.total, eta="")
            self.bar.start()
        return self

    def __exit__(self, *error: object) -> None:
        if self.bar:
            self.bar.stop()

    def eta(self) -> str:
        """Return the time left, from the time the finished part took; empty before there is anything to go by."""
        fraction = (self.done + sum(self.partial.values())) / self.total if self.total else 1.0
        if fraction < 0.02:
            return ""
        left = (time.monotonic() - self.began) * (1 - fraction) / fraction
        return f"ETA {clock(left)}"

    def __call__(self, event: str, details: dict[str, Any]) -> None:
        """Print one event and move the bar."""
        model = details.get("model", "")
        name = self._name(details.get("key", ""))
        count = len(self.left.get(model, []))
        if event == "finished":
            self._line(f"[{model}] every cell has its record: nothing to compute")
        elif event == "model":
            self._line(f"[{model}] {details['cells']} cells to compute")
        elif event == "phase":
            self._line(f"[{model}] {details['text']}")
        elif event == "training":
            if not self.trained[model]:
                self._advance(model, START)
            self._describe(f"[{model}] training {name}")
        elif event == "step" and details["steps"]:
            self.partial[model] = TRAIN * details["step"] / details["steps"]
        elif event == "trained":
            self._advance(model, TRAIN)
            self.trained[model] += 1
            end = "" if details["status"] == "ok" else f" -- DIVERGED: {details['reason']}"
            said = f"{details['seconds']:.1f} s, last loss {details['loss']:.4g}{end}"
            self._line(f"[{model}] trained {self.trained[model]}/{count} {name}: {said}; {self.eta()}")
        elif event == "shared" and details["cells"] > 1:
            self._line(f"[{model}] {shared_text(details)}")
        elif event == "scoring":
            if name == "base":
                self._advance(model, ENGINE)
            self._describe(f"[{model}] scoring {name}")
        elif event == "scored":
            self._advance(model, SCORE)
            self.scored[model] += 1
            self._line(f"[{model}] scored {self.scored[model]}/{count} {name}; {self.eta()}")
        elif event == "failed":
            self._advance(model, SCORE)
            self._line(f"[{model}] FAILED {name}: {details['reason']}", always=True)
        elif event == "trouble":
            self._line(f"[{model}] FAILED: {details['reason']}", always=True)
        if self.bar and self.task is not None:
            completed = min(self.total, self.done + sum(self.partial.values()))
            self.bar.update(self.task, completed=completed, eta=self.eta())

    def _name(self, key: str) -> str:
        label = self.labels.get(key, key)
        return f"{label} seed {self.seeds[key]}" if key in self.seeds else label

    def _advance(self, model: str, units: float) -> None:
        self.done += units
        self.partial[model] = 0.0

    def _describe(self, text: str) -> None:
        if self.bar and self.task is not None:
            self.bar.update(self.task, description=printable(text))

    def _line(self, text: str, always: bool = False) -> None:
        if always or not self.quiet:
            self.console.print(printable(text.rstrip("; ")), markup=False, highlight=False, soft_wrap=True)


def shared_text(details: Mapping[str, Any]) -> str:
    """Return what the cells of a model had once, and the seconds that this saved."""
    parts = [
        f"start checkpoint {clock(details['start_seconds'])}",
        f"ids {clock(details['token_seconds'])}",
        f"scoring engine {clock(details['engine_seconds'])}",
    ]
    if details["reference_cells"]:
        parts.append(
            f"reference log-probs {clock(details['reference_seconds'])} for {details['reference_cells']} of them"
        )
    return f"once for {details['cells']} cells: {', '.join(parts)}; saved {clock(details['saved_seconds'])}"


def _units(cells: Sequence[Cell]) -> float:
    """Return the weight of unfinished cells."""
    return (START + ENGINE) * len({cell.model for cell in cells}) + (TRAIN + SCORE) * len(cells)


def printable(text: str) -> str:
    """Return text that cannot steer a terminal: control characters are shown as escapes."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def clock(seconds: float) -> str:
    """Return `1 h 02 min`, `3 min 05 s` or `12 s`."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 60} min {whole % 60:02d} s" if whole >= 60 else f"{whole} s"
