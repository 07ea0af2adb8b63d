"""What must hold before a run may start: its models, its data, its folder. Each failure is one line."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from harness.api import Dataset, HarnessError
from harness.models.families import FAMILIES
from harness.planning.run_file import Run
from harness.run_folder.store import read_manifest


def check_model(model: str) -> None:
    """Raise `HarnessError` where `model` is neither a family, nor a hub id, nor the folder of a checkpoint."""
    if model in FAMILIES or (Path(model) / "config.json").is_file():
        return
    if re.fullmatch(r"[\w.-]+/[\w.-]+", model) and not Path(model).exists():
        return
    raise HarnessError(
        f"--models got '{model}', expected {', '.join(FAMILIES)}, a hub id such as org/name, or a local folder with a "
        "config.json"
    )


def check_data(data: Dataset, run: Run) -> None:
    """Raise `HarnessError` where the data have nothing to score; `budget.plan` checks that they fill a step."""
    held = data.test if run.evaluate_on == "test" else data.dev
    if not held:
        raise HarnessError(
            f"data set '{data.name}' has no {run.evaluate_on} pairs, expected at least 1; give more data"
        )


def check_folder(folder: Path, run: Run, data: Dataset, scorer: str) -> None:
    """Raise `HarnessError` where `folder` cannot be written, or holds the results of another run."""
    probe = folder
    while not probe.exists():
        probe = probe.parent
    if not probe.is_dir() or not os.access(probe, os.W_OK | os.X_OK):
        what = "not writable" if probe.is_dir() else "not a folder"
        raise HarnessError(f"--output-dir got {folder}, but {probe} is {what}; name a folder that can be written")
    if not (folder / "manifest.json").exists():
        return
    before = read_manifest(folder)
    differing = [
        f"{name} was {before['decisive'].get(name)!r}, now {value!r}"
        for name, value in json.loads(json.dumps(run.decisive())).items()
        if before["decisive"].get(name) != value
    ]
    if not differing and before["dataset"]["fingerprint"] != data.fingerprint:
        differing = [f"the content of data set '{data.name}' has changed"]
    if not differing and before["scorer"] != scorer:
        differing = [f"it was scored by {before['scorer']}, which would now be {scorer}"]
    if differing:
        raise HarnessError(f"{folder} holds another run ({'; '.join(differing)}); name another --output-dir")
