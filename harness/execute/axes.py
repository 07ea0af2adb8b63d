"""A run with axes: the run at the first value of each, and a run inside it for every other combination.

<run>/                                     the first value of every axis
<run>/at-learning_rate=0.001/              a run of its own, called by what sets it apart from the first one
<run>/at-budget=pairs=512,noise=flip=0.1/

Each is computed as any run is, with trials of its own where there are any; finished cells are skipped. Their boards
stand behind the run's own, on its page.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api import HarnessError
from harness.execute.executors import Executor, executor_of
from harness.execute.plan_text import data_and_time
from harness.execute.resolve import Resolved, resolve
from harness.execute.whole_run import WholeRun
from harness.planning.axes import AXES, DEFAULTS
from harness.planning.run_file import Run
from harness.planning.share import WHOLE, Share
from harness.run_folder.paths import AXIS

if TYPE_CHECKING:
    from rich.console import Console

LONGEST = 100
"""Characters of the name of a folder; what is longer ends in a hash."""


@dataclass(frozen=True, kw_only=True)
class RunWithAxes:
    """Every run that is asked for, checked; one where there is no axis."""

    runs: tuple[WholeRun, ...]
    """The first value of each axis first."""

    @classmethod
    def of(cls, resolved: Sequence[Resolved], *, dry: bool = False) -> RunWithAxes:
        """Return the runs. `dry`: they are only planned. Raises `HarnessError` for what cannot start."""
        return cls(runs=tuple(WholeRun.of(each, dry=dry) for each in resolved))

    @property
    def folder(self) -> Path:
        """The folder that all are in."""
        return self.runs[0].campaign.folder

    def warnings(self) -> list[str]:
        """Return what a person should know before they start, one line each."""
        return list(dict.fromkeys(line for run in self.runs for line in run.warnings()))

    def plan(self) -> str:
        """Return the plan of the first run, and of the others what is computed, and what it is estimated to take."""
        first, *others = self.runs
        return "\n".join([first.plan(), *(line for run in others for line in _in_short(run))])

    def carry_out(self, console: Console, say: Callable[[str], object], *, quiet: bool) -> tuple[list[str], bool]:
        """Compute what is missing, run by run; return what went wrong, a line each, and whether nothing is missing."""
        trouble: list[str] = []
        complete = True
        for number, run in enumerate(self.runs):
            if number and not quiet:
                say(f"{number + 1} of {len(self.runs)}: {run.campaign.folder.name.removeprefix(AXIS)}")
            lines, done = run.carry_out(console, quiet=quiet)
            trouble += [f"{run.campaign.folder.name}: {line}" if number else line for line in lines]
            complete = complete and done
        return trouble, complete


def resolve_all(
    runs: Sequence[Run],
    output: Path | None,
    keep_checkpoints: bool,
    *,
    report_to: tuple[str, ...] = (),
    share: Share = WHOLE,
    executor: Executor | None = None,
) -> list[Resolved]:
    """Return every run, checked, in their order; those behind the first lie inside it. See `resolve`.

    `share`: of the cells of each run; `executor`: what computes them; None: the devices of this machine. Raises
    `HarnessError` also where two have the same settings.
    """
    (first, *others), computes = runs, executor or executor_of()
    if share.of > 1 and first.trials:
        raise HarnessError(
            f"--cells got {share} with --trials {first.trials}, expected one of them: what is chosen from trials is "
            "known only when all are there; divide a tuned run by its losses (--plugins) and merge"
        )
    found = [resolve(first, output, keep_checkpoints, report_to=report_to)]
    for run in others:
        read = next((each.dataset for each in found if each.run.dataset == run.dataset), None)
        folder = found[0].folder / AXIS  # until its data are known, which are a part of its name
        resolved = resolve(run, folder, keep_checkpoints, report_to=report_to, data=read)
        resolved = replace(resolved, folder=found[0].folder / f"{AXIS}{_apart(found[0], resolved)}")
        if any(each.run.decisive() == resolved.run.decisive() for each in found):
            given = ", ".join(f"{name} {getattr(run, name)}" for name in AXES if getattr(run, name) is not None)
            raise HarnessError(
                f"got the same settings twice ({given}), expected every value of an axis once; leave one out"
            )
        found.append(resolved)
    share.cut(found[0].grid)  # raises where there are too many shares; the others have as many cells
    return [replace(each, share=share, executor=computes) for each in found]


def _apart(first: Resolved, other: Resolved) -> str:
    """Return what sets a run apart from the first one, as the name of a folder."""
    apart = other.run.decisive().differing(first.run.decisive())
    return folder_name(
        ",".join(
            f"{name}={DEFAULTS.get(name, 'none') if value is None else value}"
            for name, (value, _) in sorted(apart.items())
        )
    )


def folder_name(text: str) -> str:
    """Return settings as a part of a folder's name, which leads nowhere else whatever they hold."""
    name = re.sub(r"[^A-Za-z0-9.,=@+_-]+", "-", text)
    return name if name == text and len(name) <= LONGEST else f"{name[:LONGEST]}-{_hash(text)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def _in_short(run: WholeRun) -> list[str]:
    trials = ", trials and what is chosen from them among these" if run.tuning else ""
    return [
        f"Axis      {run.campaign.folder.name.removeprefix(AXIS)}: {len(run.campaign.own)} cells, "
        f"{len(run.unfinished.all)} to compute{trials}",
        *data_and_time(run.campaign, run.unfinished),
    ]
