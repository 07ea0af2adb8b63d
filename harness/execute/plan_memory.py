"""What the plan says of memory: what each model takes, part by part, what does not fit here, and what would."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from harness.api import HarnessError, Loss
from harness.planning.budget import runs_reference
from harness.planning.memory import Batch, Device, Memory, needed_memory, sft_bytes
from harness.planning.model_shape import ModelShape
from harness.planning.presets import start_preset
from harness.planning.run_file import Run, make_run

SAVERS: tuple[Mapping[str, str], ...] = (
    {"optimizer": "adamw-8bit"},
    {"optimizer": "adamw-bf16-sr", "dtype": "bfloat16"},
    {"adapter": "lora"},
)
"""What a run may have instead so that it needs less; each with as many pairs at once, or with fewer."""


def memory_lines(
    run: Run, shapes: Mapping[str, ModelShape], batch: Batch, losses: Sequence[Loss], device: Device, on_cpu: int
) -> list[str]:
    """Return what the models of a run take on a device: in all, and a line or more on each size of them.

    `on_cpu`: as many models are computed side by side on a CPU.
    """
    beside = list(dict.fromkeys(loss.name for loss in losses if runs_reference(loss)))
    names: dict[ModelShape, list[str]] = {}
    for model, shape in shapes.items():
        names.setdefault(shape, []).append(model)
    at_once = 1 if device.gpu else on_cpu
    needs = {shape: needed_memory(run, shape, batch, device, reference_beside=bool(beside)) for shape in names}
    largest = max(need.total for need in needs.values())
    how = f"{run.settings.micro_pairs} pairs at once, the longest of them; --micro-pairs changes it, and no result"
    how += f"; a copy of the model is among it, for {', '.join(beside)}" if beside else ""
    memory = f"of {size_in_words(device.memory)} of" if math.isfinite(device.memory) else "on"
    lines = [f"up to {size_in_words(at_once * largest)} {memory} {device.name}, with {how}"]
    for shape, need in needs.items():
        lines.append(f"{', '.join(names[shape])}: {in_parts(need, shape)}")
        if at_once * need.total > device.usable:
            lines.append(f"does not fit {device.name}; {_what_would(run, shape, batch, device, bool(beside), at_once)}")
        tuned_here = [name for name in names[shape] if run.start is None and _is_tuned_here(run, name)]
        if tuned_here and (size := sft_bytes(shape)) > device.usable:
            lines.append(
                f"the SFT stage of {', '.join(tuned_here)} takes {size_in_words(size)}, in fp32, and does not fit "
                f"{device.name}; name a tuned checkpoint with --start"
            )
    return lines


def _is_tuned_here(run: Run, model: str) -> bool:
    return start_preset(model, run.preset, run.start) not in ("nano", "custom")


def in_parts(need: Memory, shape: ModelShape) -> str:
    """Return what a worker takes, part by part, and how many bytes a parameter that is."""
    parts = {
        "weights": need.weights,
        "gradients": need.gradients,
        "moments": need.moments,
        "copies": need.copies,
    }
    listed = [
        f"{name} {size_in_words(size)} ({size / shape.parameters:.3g} bytes a parameter)"
        for name, size in parts.items()
        if size
    ]
    again = ", computed again layer by layer," if need.recomputed else ""
    listed.append(f"activations{again} {size_in_words(need.activations)}")
    return (
        f"{size_in_words(need.training)} of training = {' + '.join(listed)}; "
        f"engine {size_in_words(need.engine)}; libraries {size_in_words(need.runtime)}"
    )


def what_fits(
    run: Run, shape: ModelShape, batch: Batch, device: Device, *, beside: bool, at_once: int = 1
) -> list[tuple[str, Memory]]:
    """Return changes of a run, as options, after which it fits the device, with what it then takes."""
    found = []
    for change in ({}, *SAVERS):
        for pairs in _smaller(run):
            words = [f"--{name.replace('_', '-')} {value}" for name, value in change.items()]
            words += [f"--micro-pairs {pairs}"] if pairs != run.settings.micro_pairs else []
            words += ["--activation-checkpointing auto"] if run.activation_checkpointing == "off" else []
            try:
                values = {**run.model_dump(), **change, "micro_pairs": pairs, "activation_checkpointing": "auto"}
                other = make_run(values)
            except HarnessError:  # the two do not go together
                break
            need = needed_memory(other, shape, batch, device, reference_beside=beside)
            if words and at_once * need.total <= device.usable:
                found.append((" ".join(words), need))
                break
    return found


def _smaller(run: Run) -> list[int]:
    """Return the sizes of a micro-batch that divide a step, from that of the run down."""
    settings = run.settings
    return [pairs for pairs in range(settings.micro_pairs, 0, -1) if settings.batch_pairs % pairs == 0]


def _what_would(run: Run, shape: ModelShape, batch: Batch, device: Device, beside: bool, at_once: int) -> str:
    fitting = what_fits(run, shape, batch, device, beside=beside, at_once=at_once)
    if not fitting:
        return "no option of a run makes it fit; a device with more memory would"
    return "what would: " + "; or ".join(f"{words} ({size_in_words(need.total)})" for words, need in fitting)


def size_in_words(size: float) -> str:
    """Return bytes as `1.2 GB` or `40 MB`."""
    return f"{size / 1e9:.1f} GB" if size >= 1e8 else f"{size / 1e6:.2g} MB"
