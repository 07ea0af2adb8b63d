"""The presets of a run: what is settled unless the run says otherwise, the same for every loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The settings of a preset, for what the run leaves open; the same for every loss."""

    name: str
    budget: str
    batch_pairs: int
    """Pairs of one optimiser step."""
    micro_pairs: int
    """Pairs of one forward and backward pass."""
    learning_rate: float
    lora_learning_rate: float
    max_length: int
    """Longest prompt + response, tokens."""
    max_prompt: int
    """Longest prompt, tokens."""
    dtype: str
    cell_timeout: float
    """Seconds a cell may take before it counts as hung."""
    note: str


PRESETS = {
    "nano": Preset(
        name="nano",
        budget="pairs=384",
        batch_pairs=16,
        micro_pairs=8,
        learning_rate=1e-3,
        lora_learning_rate=2e-3,
        max_length=384,
        max_prompt=128,
        dtype="float32",
        cell_timeout=1800.0,
        note="about 1M parameters, made and fine-tuned on the spot: tests the harness and ranks no method",
    ),
    "small": Preset(
        name="small",
        budget="pairs=128",
        batch_pairs=16,
        micro_pairs=4,
        learning_rate=5e-7,  # the rule of pretrained models, until a sweep says better
        lora_learning_rate=5e-6,
        max_length=384,
        max_prompt=192,
        # on every CPU: bf16 trains 1.5 times as fast where there are instructions for it, but two scorers of smollm2
        # then differ by 0.6 nats per response
        dtype="float32",
        cell_timeout=4 * 3600.0,
        note="the base checkpoints of the papers with our own SFT stage, at what two cores can pay for a small one",
    ),
    "paper": Preset(
        name="paper",
        budget="pairs=60000",
        batch_pairs=128,
        micro_pairs=2,
        learning_rate=5e-7,
        lora_learning_rate=5e-6,
        max_length=2048,
        max_prompt=1024,
        dtype="bfloat16",
        cell_timeout=48 * 3600.0,
        note="the base checkpoints of the papers in bf16, with our own SFT stage",
    ),
}

NAMED = ("qwen", "gemma", "mistral", "llama")
"""Families, each by its name; what is known of them is in `models/families.py`."""
SMOLLM2 = "smollm2"
"""A pretrained model with a name of its own; where it is from is in `models/smollm2.py`."""


def default_preset(models: Sequence[str]) -> str:
    """Return the preset of a run that names none: `small` for smollm2, `nano` for all else."""
    return "small" if tuple(models) == (SMOLLM2,) else "nano"


def start_preset(model: str, preset: str, start: str | None) -> str:
    """Return the preset of a model's start checkpoint under the preset of a run, whether or not it is loaded.

    `nano`: made here; `small`, `paper`: the papers' base checkpoint, or what `--start` names instead; `custom`: any
    other.
    """
    if model not in NAMED or (preset == "nano" and start is not None):
        return "custom"
    return preset


def trains_pretrained(models: Sequence[str], preset: str, start: str | None) -> bool:
    """Return whether any of the models starts from a checkpoint that was not made here."""
    return any(start_preset(model, preset, start) != "nano" for model in models)
