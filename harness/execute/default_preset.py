"""What a run gets that names no preset: `nano` for models made here, settings by their size for models people bring."""

from __future__ import annotations

from collections.abc import Sequence

from harness.api import HarnessError
from harness.execute.preflight import check_model
from harness.models.size import shape_of
from harness.planning.model_shape import count_in_words
from harness.planning.presets import NAMED, PRESETS, preset_of_size, start_preset
from harness.planning.run_file import Run


def default_preset(models: Sequence[str], start: str | None) -> str:
    """Return the preset of a run that names none: by its models alone, so that it is the same on every machine.

    Raises `HarnessError` where models made here stand beside others, or the size of a model is not known.
    """
    brought = [start] if start is not None else [model for model in models if model not in NAMED]
    made = [model for model in models if model in NAMED and start is None]
    if made and brought:
        raise HarnessError(
            f"--models got {', '.join(made)}, made here by default, beside {', '.join(brought)}, which are not: each "
            f"kind has settings of its own, and a run has one; give --preset ({', '.join(PRESETS)}), or make two runs"
        )
    return preset_of_size(max(_parameters(name) for name in brought)) if brought else "nano"


def _parameters(name: str) -> int:
    check_model(name)
    shape = shape_of(name)
    if shape is None:
        sizes = ", ".join(
            f"{each.name} (up to {count_in_words(each.up_to)})" for each in PRESETS.values() if each.up_to
        )
        raise HarnessError(
            f"got model '{name}', whose number of parameters is not known before it is fetched, expected --preset: "
            f"one of {sizes} or paper (larger); give it"
        )
    return shape.parameters


def within_windows(run: Run) -> Run:
    """Return the run with texts that fit the context windows of its models, as far as these are known.

    Raises `HarnessError` where it asks for longer ones.
    """
    names = [run.start] if run.start else [m for m in run.models if start_preset(m, run.preset, None) != "nano"]
    windows = {name: shape.window for name in names if (shape := shape_of(name)) is not None and shape.window}
    name = min(windows, key=lambda each: windows[each], default=None)
    if name is None or run.settings.max_length <= windows[name]:
        return run
    if run.max_length is not None:
        raise HarnessError(
            f"--max-length got {run.max_length}, expected at most {windows[name]}, the context window of '{name}'"
        )
    return run.model_copy(update={"max_length": windows[name]})
