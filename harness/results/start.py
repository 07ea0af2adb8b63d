"""`harness.run`: what the command `harness run` does, called from Python, with losses that need no package."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.api.errors import HarnessError
from harness.api.loss import Loss
from harness.results.results import Results, load_run

if TYPE_CHECKING:
    from harness.execute.whole_run import WholeRun


def run(
    losses: str | Loss | Sequence[str | Loss] = "all",
    *,
    models: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = "qwen",
    dataset: str | os.PathLike[str] = "embedded",
    budget: str | None = None,
    seeds: int | Sequence[int] = 0,
    output_dir: str | os.PathLike[str] | None = None,
    report_to: str | Sequence[str] = (),
    keep_checkpoints: bool = False,
    devices: str | None = None,
    executor: str = "local",
    address: str | None = None,
    pictures: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Results:
    """Train, score and rank every loss on every model, as `harness run` does, and return the results.

    `losses`: names as after `--plugins` ("all", "core", "simpo:beta=2.5"), and instances of `harness.api.Loss`, also of
    classes that a script or a notebook defines; such a loss stands on boards with 8 digits of the hash of its source,
    and an edited one is another loss. `settings`: every other option of `harness run`, with underscores
    (`learning_rate=1e-3`, `scorer="transformers"`). `devices`, `executor`, `address`: where it is computed, as for the
    command. `pictures`: draw those of the page too. `quiet`: print nothing
    but warnings. The same call again computes only what is missing. A cell that diverged or failed is a row that says
    why; what went wrong with a whole model stands in `Results.trouble` and is printed.

    Raises `HarnessError` for the first thing that is wrong, before anything is computed.
    """
    from harness.execute.executors import executor_of
    from harness.execute.own_losses import selected
    from harness.execute.resolve import resolve, run_values
    from harness.execute.whole_run import WholeRun
    from harness.manager import plugin_manager

    _require_one_process()
    given = [losses] if isinstance(losses, str | Loss) else list(losses)
    if wrong := [each for each in given if not isinstance(each, str | Loss)]:
        raise HarnessError(
            f"losses got {wrong[0]!r}, expected names and instances of harness.api.Loss; a class is called: SimPO()"
        )
    plugins, own = selected(given, plugin_manager())
    values = {"plugins": plugins, "models": _listed(models), "dataset": os.fspath(dataset), "budget": budget}
    values |= {"seeds": (seeds,) if isinstance(seeds, int) else tuple(seeds)} | _as_in_files(settings)
    output = None if output_dir is None else Path(output_dir)
    computes = executor_of(executor, devices=devices, address=address)
    resolved = resolve(run_values(None, values), output, keep_checkpoints, own=own, report_to=_listed(report_to))
    resolved = replace(resolved, executor=computes)
    return _carried_out(WholeRun.of(resolved), pictures=pictures, quiet=quiet)


def _require_one_process() -> None:
    from harness.planning.launch import Launch

    if launch := Launch.of(os.environ):
        raise HarnessError(
            f"a launcher started this script {launch.count} times (WORLD_SIZE), expected once: harness.run would run "
            f"{launch.count} times; start the script itself, or launch the command: torchrun ... -m harness run ..."
        )


def _carried_out(whole: WholeRun, *, pictures: bool, quiet: bool) -> Results:
    """Compute what is missing of a run and write its boards; what a person must know is printed on the way."""
    from rich.console import Console

    from harness.leaderboard import write
    from harness.run_folder.shown import for_the_terminal

    def say(text: str) -> None:
        print(for_the_terminal(text), file=sys.stderr)

    for line in whole.warnings():
        say(line)
    if not quiet:
        print(for_the_terminal(whole.plan()))
    trouble, _ = whole.carry_out(Console(), quiet=quiet)
    for line in trouble:
        say(f"Error: {line}")
    write(whole.campaign.folder, draw=pictures, say=say)
    return replace(load_run(whole.campaign.folder), trouble=tuple(trouble))


def _listed(names: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> tuple[str, ...]:
    """Return names and paths given one by one, or names in one text with commas."""
    if isinstance(names, str):
        return tuple(name.strip() for name in names.split(",") if name.strip())
    return tuple(os.fspath(name) for name in ([names] if isinstance(names, os.PathLike) else names))


def _as_in_files(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings as run files have them: paths are text, and lists tuples."""
    plain = {name: os.fspath(value) if isinstance(value, os.PathLike) else value for name, value in settings.items()}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()}
