"""`harness study FILE`: its run computed beside it, then its files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.api import HarnessError
from harness.execute.axes import RunWithAxes, resolve_all
from harness.execute.resolve import Resolved, runs_of
from harness.planning.run_toml import run_values
from harness.run_folder.paths import is_run
from harness.study.cells import LOSS, OF_BOARDS
from harness.study.study_file import Study
from harness.study.write import RECORDS, RUN, unpack

if TYPE_CHECKING:
    from rich.console import Console


def planned(folder: Path, study: Study, *, dry: bool) -> RunWithAxes:
    """Return the run of a study, checked, with what the study asks of it; finished cells are those packed before.

    Raises `HarnessError` for a run that cannot start, and for rows, losses and factors that it will not have.
    """
    resolved = resolve_all(runs_of(None, run_values(study.run, "[run]")), folder / RUN, False)
    require_asked(study, resolved)
    if not dry and (folder / RECORDS).is_file() and not is_run(folder / RUN):
        unpack(folder / RECORDS, folder / RUN)
    return RunWithAxes.of(resolved, dry=dry)


def carry_out(run: RunWithAxes, console: Console, say: Callable[[str], object], *, quiet: bool) -> list[str]:
    """Compute what is missing of the run; return what went wrong, a line each."""
    trouble, complete = run.carry_out(console, say, quiet=quiet)
    return trouble if complete or trouble else ["some cells have no result; the board names them"]


def require_asked(study: Study, runs: Sequence[Resolved]) -> None:
    """Raise `HarnessError` where a study asks for rows, losses or factors that its run will not have."""
    systems = {cell.system.label: cell.system.loss for run in runs for cell in run.grid}
    losses = {str(loss.name) for loss in systems.values()}
    factors = {LOSS, *OF_BOARDS, *(name for loss in systems.values() for name in loss.options())}
    for part, asked, known in (
        ("contrasts", [label for each in study.contrasts for label in (*each.plus, *each.minus)], set(systems)),
        ("effects", [factor for each in study.effects for factor in each.factors], factors),
        ("effects", [loss for each in study.effects for loss in each.losses], losses),
        ("groups", [loss for each in study.groups for loss in (*each.first_losses, *each.second_losses)], losses),
        ("groups", [each.by for each in study.groups if each.by], factors),
    ):
        for name in asked:
            if name not in known:
                raise HarnessError(f"[[{part}]] got '{name}', expected one of {', '.join(sorted(known))}")
