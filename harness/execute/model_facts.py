"""What is known of the models of a run before they are loaded: their size, and what they are in words. No torch."""

from __future__ import annotations

import re
from pathlib import Path

from harness.api import HarnessError
from harness.models.hub import count_parameters
from harness.planning.presets import PRESETS, start_preset
from harness.planning.rates import NANO_PARAMETERS
from harness.planning.run_file import Run

NAMED_PARAMETERS = {"qwen": 494_000_000, "gemma": 2_614_000_000, "mistral": 7_242_000_000}
"""Parameters of the checkpoints of the preset `paper`, from their model cards."""


def parameters_of(model: str, run: Run) -> int | None:
    """Return how many parameters a model has: a folder's by its weight files, else by the name; None if unknown."""
    if run.start is None and model in NAMED_PARAMETERS:
        return NANO_PARAMETERS if run.preset == "nano" else NAMED_PARAMETERS[model]
    name = run.start or model
    folder = Path(name).expanduser()
    if folder.is_dir():
        try:
            return count_parameters(folder) or None
        except (HarnessError, OSError, ValueError):  # told when the model is loaded
            return None
    size = re.search(r"(\d+(?:\.\d+)?)\s*([bBmM])(?![a-zA-Z])", name)
    return int(float(size[1]) * {"b": 1e9, "m": 1e6}[size[2].lower()]) if size else None


def models_in_words(run: Run) -> list[str]:
    """Return what the models of a run are, one or more on a line, and whose learning rate they are trained at."""
    settings = run.settings
    brought = [model for model in run.models if start_preset(model, run.preset, run.start) == "custom"]
    of_preset = [model for model in run.models if model not in brought]
    lines = [f"{', '.join(of_preset)} ({settings.name} preset: {settings.note})"] if of_preset else []
    for model in brought:
        name, count = run.start or model, parameters_of(model, run)
        kind = "a local folder" if Path(name).expanduser().is_dir() else "from the hub"
        size = "size not known before it is loaded" if count is None else f"{count / 1e6:.3g}M parameters"
        lines.append(f"{model}{f', from {name}' if run.start else ''} ({kind}, {size}: trained as it is)")
    if brought and run.preset == "nano" and run.learning_rate is None:
        lines.append(
            f"learning rate {settings.learning_rate:g} is that of the preset paper: the nano preset's, "
            f"{PRESETS['nano'].learning_rate:g}, is for models made here; --learning-rate sets another"
        )
    return lines
