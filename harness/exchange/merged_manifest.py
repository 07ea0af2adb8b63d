"""What stands beside the cells of merged runs: one manifest of all, and one list of trials. Pure."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.api.errors import HarnessError
from harness.run_folder.manifest import Manifest
from harness.run_folder.paths import TRIALS
from harness.run_folder.shown import csv_cells

MACHINE_FACTS = ("harness", "versions", "python", "platform", "cpus", "environment", "broken_plugins")
TRIAL = re.compile(r" trial \d+$")
"""How the label of a system's trial ends."""


def manifest(
    manifests: Mapping[str, Manifest],
    taken: Mapping[str, Sequence[str]],
    doubled: Mapping[str, Sequence[str]],
) -> Manifest:
    """Return the manifest: what all runs share, everything asked of any, and where each cell comes from.

    `taken`, `doubled`: the keys of the cells that each run brought, and that an earlier one has too.
    """
    every = list(manifests.values())
    contents = {name: manifest.as_json() for name, manifest in manifests.items()}
    asked = sorted({cell for manifest in every for cell in manifest.cells})
    models = list(dict.fromkeys(model for manifest in every for model in manifest.models))
    alike = {
        name: value
        for name, value in every[0].as_json().items()
        if name not in MACHINE_FACTS or all(content.get(name) == value for content in contents.values())
    }
    return Manifest.of(
        alike
        | {
            "run": _run(every, asked, models),
            "models": models,
            "cells": asked,
            "plugins": {name: owner for manifest in reversed(every) for name, owner in manifest.plugins.items()},
            **_search(every),
            **_start_checkpoints(every),
            **_local_models(every),
            "sources": {
                name: {
                    **{fact: content[fact] for fact in (*MACHINE_FACTS, "plugins", "sources") if fact in content},
                    "cells": taken[name],
                    "cells_of_an_earlier_source": doubled[name],
                }
                for name, content in contents.items()
            },
        }
    )


def _run(every: Sequence[Manifest], asked: Sequence[tuple[str, str, int]], models: Sequence[str]) -> dict[str, Any]:
    """Return the options of the run that would ask for all cells: the first run's, with everything asked of any."""
    run = every[0].run
    if not run or not asked:  # without cells nothing was trained
        return dict(run)
    # a run without trials says nothing about them
    tuned = next((manifest for manifest in every if manifest.run.get("trials")), Manifest()).run
    paths = {name: path for manifest in reversed(every) for path, name in reversed(manifest.local_models.items())}
    more: dict[str, Any] = {
        "plugins": ",".join(dict.fromkeys(_spec(label) for label, _, _ in asked)) or run.get("plugins"),
        # the first run's in its order: the first of them is the seed that tuning used
        "seeds": list(dict.fromkeys([*(run.get("seeds") or []), *sorted({seed for _, _, seed in asked})])),
        "models": [paths.get(model, model) for model in models],
    }
    return run | more | {name: tuned[name] for name in ("trials", "trial_learning_rates") if name in tuned}


def _local_models(every: Sequence[Manifest]) -> dict[str, Any]:
    """Return what the local models of all runs are called, by path; nothing where there are none."""
    local = {path: name for manifest in reversed(every) for path, name in manifest.local_models.items()}
    return {"local_models": local} if local else {}


def _spec(label: str) -> str:
    """Return what --plugins calls the system of this label: simpo(beta=2.5) is simpo:beta=2.5."""
    name, _, options = TRIAL.sub("", label).partition("(")
    return f"{name}:{options.removesuffix(')')}" if options else name


def _search(every: Sequence[Manifest]) -> dict[str, Any]:
    """Return what the trials of all runs searched; nothing where none had any."""
    searches = [manifest.search for manifest in every if manifest.search]
    space = {label: spreads for search in reversed(searches) for label, spreads in (search.get("space") or {}).items()}
    return {"search": {**searches[0], "space": dict(sorted(space.items()))}} if searches else {}


def _start_checkpoints(every: Sequence[Manifest]) -> dict[str, Any]:
    """Return what the cells of each model start from, of all runs; nothing where none says so."""
    starts = {model: start for manifest in reversed(every) for model, start in manifest.start_checkpoints.items()}
    return {"start_checkpoints": {model: start.as_json() for model, start in starts.items()}} if starts else {}


def trials(texts: Sequence[str]) -> str:
    """Return several runs' trials.csv as one, in the order that a single run has.

    One line per trial, from the first run that has it. Options that a run does not have are empty in its lines.
    Raises `HarnessError` for what is no list of trials.
    """
    try:
        tables = [list(csv.DictReader(io.StringIO(text), strict=True)) for text in texts]
        lines = {
            (line["model"], line["loss"], int(line["trial"])): line for table in reversed(tables) for line in table
        }
        if any(None in (*line, *line.values()) for line in lines.values()):
            raise ValueError("lines that are not as long as the heading")
    except (csv.Error, KeyError, ValueError, TypeError) as error:
        raise HarnessError(
            f"{TRIALS}: got {type(error).__name__} {error}, expected a trial per line as a run writes them; copy the "
            "run anew"
        ) from None
    names = list(dict.fromkeys(name for line in lines.values() for name in line))
    options = sorted(name for name in names if name.startswith("option."))
    rest = [name for name in names if name not in options and name not in ("model", "loss", "trial")]
    text = io.StringIO()
    columns = ["model", "loss", "trial", *options, *rest]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(csv_cells(columns))
    writer.writerows(csv_cells([lines[place].get(name, "") for name in columns]) for place in sorted(lines))
    return text.getvalue()
