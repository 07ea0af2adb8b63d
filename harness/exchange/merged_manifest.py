"""What stands beside the cells of merged runs: one manifest of all, and one list of trials. Pure."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

MACHINE_FACTS = ("harness", "versions", "python", "platform", "cpus", "environment", "broken_plugins")
TRIAL = re.compile(r" trial \d+$")
"""The end of the label that a trial of a system has."""


def manifest(
    manifests: Mapping[str, Mapping[str, Any]],
    taken: Mapping[str, Sequence[str]],
    doubled: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    """Return the manifest: what all runs share, everything asked of any, and where each cell comes from.

    `taken`, `doubled`: the keys of the cells that each run brought, and that an earlier one has too.
    """
    first = next(iter(manifests.values()))
    asked = {tuple(cell) for manifest in manifests.values() for cell in manifest.get("cells") or []}
    alike = {
        name: value
        for name, value in first.items()
        if name not in MACHINE_FACTS or all(manifest.get(name) == value for manifest in manifests.values())
    }
    plugins: dict[str, Any] = {}
    for manifest in manifests.values():
        plugins = dict(manifest.get("plugins") or {}) | plugins
    run = dict(first.get("run") or {})
    if run:
        run |= {
            "plugins": ",".join(dict.fromkeys(_spec(str(cell[0])) for cell in sorted(asked))) or run.get("plugins"),
            # the first run's in its order: the first of them is the seed that tuning used
            "seeds": list(dict.fromkeys([*(run.get("seeds") or []), *sorted({cell[2] for cell in asked})])),
        }
        run |= _trials_asked(manifests)
    models = list(dict.fromkeys(model for manifest in manifests.values() for model in manifest.get("models") or []))
    return alike | {
        "run": run | ({"models": models} if run else {}),
        "models": models,
        "cells": sorted(list(cell) for cell in asked),
        "plugins": plugins,
        **_search(manifests),
        "sources": {
            name: {
                **{fact: manifest[fact] for fact in (*MACHINE_FACTS, "plugins", "sources") if fact in manifest},
                "cells": taken[name],
                "cells_of_an_earlier_source": doubled[name],
            }
            for name, manifest in manifests.items()
        },
    }


def _spec(label: str) -> str:
    """Return what --plugins calls the system of this label: simpo(beta=2.5) is simpo:beta=2.5."""
    name, _, options = TRIAL.sub("", label).partition("(")
    return f"{name}:{options.removesuffix(')')}" if options else name


def _trials_asked(manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the first run with trials asked for: a run without any says nothing about them."""
    runs = [dict(manifest.get("run") or {}) for manifest in manifests.values()]
    first = next((run for run in runs if run.get("trials")), {})
    return {name: first[name] for name in ("trials", "trial_learning_rates") if name in first}


def _search(manifests: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the trials of all runs searched; nothing where none had any."""
    found = [manifest["search"] for manifest in manifests.values() if manifest.get("search")]
    space = {label: spreads for one in reversed(found) for label, spreads in (one.get("space") or {}).items()}
    return {"search": {**found[0], "space": dict(sorted(space.items()))}} if found else {}


def trials(texts: Sequence[str]) -> str:
    """Return several runs' trials.csv as one, in the order of one run's: a line a trial, that of the first that has it.

    Options of which a run knows nothing are empty in its lines.
    """
    tables = [list(csv.DictReader(io.StringIO(text))) for text in texts]
    lines = {(line["model"], line["loss"], int(line["trial"])): line for table in reversed(tables) for line in table}
    names = list(dict.fromkeys(name for line in lines.values() for name in line))
    options = sorted(name for name in names if name.startswith("option."))
    rest = [name for name in names if name not in options and name not in ("model", "loss", "trial")]
    text = io.StringIO()
    writer = csv.DictWriter(text, ["model", "loss", "trial", *options, *rest], restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines[place] for place in sorted(lines))
    return text.getvalue()
