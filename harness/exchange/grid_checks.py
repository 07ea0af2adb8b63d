"""Whether the cells in the folder are those that were asked for: models x losses x seeds, and the baseline rows."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import product

from harness.api.errors import HarnessError
from harness.exchange.cell_checks import Check, some
from harness.exchange.untrusted import RunContents, UntrustedCell
from harness.planning.grid import label, selection
from harness.run_folder.board_key import BoardKey
from harness.run_folder.manifest import Manifest
from harness.run_folder.paths import CELLS, MANIFEST, RECORD
from harness.run_folder.record import BASELINES

HASH = re.compile(r"--[0-9a-f]{6}(?=$|--seed)")
"""In the key of a cell: of its model and all its options."""
Asked = tuple[str, str, int]
"""Label, model and seed of a cell."""


def check_grid(manifest: Manifest, contents: RunContents) -> Check:
    """Every cell was asked for, the manifest lists all that its run asks for, and every model has its baseline rows."""
    cells, asked = contents.cells, set(manifest.cells)
    problems = [] if contents.problems else [*_missing_baselines(cells)]  # a record that is not sound may be one
    problems += [
        f"{MANIFEST}: got no cell {_name(cell)} in cells, expected it as its run asks for {', '.join(given)}; "
        "copy the run anew"
        for cell, given in _unlisted(manifest)
    ]
    problems += _lost_sources(manifest, contents)
    done = {place for cell in cells if (place := _place(cell)) is not None}
    if not asked:
        note = f"not checked: {MANIFEST} has no list of the cells that were asked for"
        return Check(summary=f"{len(done)} trained cells", problems=tuple(problems), notes=(note,))
    for cell in cells:
        if (place := _place(cell)) is not None and place not in asked:
            problems.append(
                f"{cell.file(RECORD)}: got {_name(place)}, expected one of the {len(asked)} cells that {MANIFEST} "
                "lists; copy the run anew"
            )
    for model in sorted({model for _, model, _ in asked} - set(manifest.models)):
        problems.append(f"{MANIFEST}: got no {model!r} in models, expected it as a cell has it; copy the run anew")
    left = sorted(asked - done)
    note = f"{len(left)} of {len(asked)} cells that were asked for have no record: {some(map(_name, left))}"
    return Check(
        summary=f"{len(done & asked)} of {len(asked)} cells that were asked for are there, and no other",
        problems=tuple(problems),
        notes=(note,) if left else (),
    )


def _place(cell: UntrustedCell) -> Asked | None:
    """Return label, model and seed of a trained cell; None of a baseline row."""
    record = cell.record
    return None if record.seed is None or record.kind != "loss" else (record.label, record.model.name, record.seed)


def _name(place: Asked) -> str:
    return f"{place[0]} on {place[1]}, seed {place[2]}"


def _missing_baselines(cells: Sequence[UntrustedCell]) -> Iterator[str]:
    """Yield which baseline rows are missing; a run writes both before it scores the first cell of a model."""
    scored = {cell.record.model.name for cell in cells if cell.record.scored and cell.record.kind == "loss"}
    there = {(cell.record.model.name, cell.record.label) for cell in cells if cell.record.kind == "reference"}
    for model, name in product(sorted(scored), BASELINES):
        if (model, name) not in there:
            yield f"{CELLS}: got no row {name} of {model}, expected one beside its scored cells; run the run again"


def _unlisted(manifest: Manifest) -> Iterator[tuple[Asked, tuple[str, ...]]]:
    """Yield the cells that the run of a manifest asks for and its list lacks, each with the options that ask for it.

    The list has those of earlier runs in the folder too. Of merged runs the run is made from the list.
    """
    run = manifest.run
    plugins, models, seeds = run.get("plugins"), run.get("models"), run.get("seeds")
    if not (isinstance(plugins, str) and isinstance(models, list) and isinstance(seeds, list)) or manifest.sources:
        return
    listed = set(manifest.cells)
    models = [manifest.local_models.get(model, model) for model in models]
    for system, model, seed in product(_labels(plugins, manifest), models, seeds):
        if (system, model, seed) not in listed:
            yield (system, model, seed), (f"plugins {plugins}", f"models {some(models)}", f"seeds {some(seeds)}")


def _labels(plugins: str, manifest: Manifest) -> list[str]:
    """Return the labels of the systems that a selection asks for; of trials those of every trial.

    `all` are the losses that the manifest says were brought.
    """
    removed = [name.strip()[1:] for name in plugins.split(",") if name.strip().startswith("-")]
    try:
        systems = [label(name, options) for name, options in selection(plugins, [*manifest.plugins, *removed])]
    except HarnessError:  # what is wrong with a run file is said elsewhere
        return []
    board = manifest.decisive or BoardKey()
    if board.trial_learning_rates is None or board.trials is not None:
        return systems
    return [f"{system} trial {number}" for system in systems for number in range(_trials(manifest))]


def _trials(manifest: Manifest) -> int:
    trials = manifest.search.get("trials")
    return trials if isinstance(trials, int) else 0


def _lost_sources(manifest: Manifest, contents: RunContents) -> Iterator[str]:
    """Yield the cells that a merged folder says it has of its sources, and that are not there.

    With other options it may have been tuned anew, so the hash in the key does not count.
    """
    unsound = {problem.split("/")[1].partition(":")[0] for problem in contents.problems}
    there = {HASH.sub("", name) for name in {cell.name for cell in contents.cells} | unsound}
    for name, source in (manifest.sources or {}).items():
        keys = source.get("cells") if isinstance(source, dict) else None
        for key in keys if isinstance(keys, list) else []:
            if HASH.sub("", str(key)) not in there:
                yield f"{CELLS}: got no {key}, expected it as {MANIFEST} has it of {name}; merge the runs again"
