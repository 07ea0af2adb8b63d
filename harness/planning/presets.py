"""The presets of a run: what is settled unless the run says otherwise, the same for every loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple


class Rates(NamedTuple):
    """Learning rates, the same for every loss."""

    full: float
    lora: float
    """Adapters start from nothing, and need a larger one."""


LEARNING_RATES = {
    "nano": Rates(full=1e-3, lora=2e-3),  # models made here
    "tiny": Rates(full=1e-4, lora=1e-3),  # not measured: somebody else's weights are to be moved, not replaced
    # picked on dev by one rule for all losses, the middle of the range in which accuracy differs by no more than its
    # error: smollm2, 256 pairs of mqm-zh-en, dpo and simpo, from 5e-6 to 1e-4; of LoRA the one rate that was tried
    "small": Rates(full=2e-5, lora=1e-3),
    "medium": Rates(full=3e-6, lora=7e-5),  # not measured: halfway between `small` and `paper` on a log scale
    "paper": Rates(full=5e-7, lora=5e-6),  # the papers', for 60,000 pairs
}
"""By preset."""


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
    """Of full fine-tuning; in the settings of a run, that of its adapter."""
    max_length: int
    """Longest prompt + response, tokens."""
    max_prompt: int
    """Longest prompt, tokens."""
    dtype: str
    cell_timeout: float
    """Seconds a cell may take before it counts as hung."""
    note: str
    """What the named families are under it."""
    up_to: int | None = None
    """The most parameters of a model that somebody brings and that gets these settings; None: not by its size."""


PRESETS = {
    "nano": Preset(
        name="nano",
        budget="pairs=384",
        batch_pairs=16,
        micro_pairs=8,
        learning_rate=LEARNING_RATES["nano"].full,
        max_length=384,
        max_prompt=128,
        dtype="float32",
        cell_timeout=1800.0,
        note="about 1M parameters, made and fine-tuned on the spot: tests the harness and ranks no method",
    ),
    # a model to test with: as much and as long as nano, in seconds
    "tiny": Preset(
        name="tiny",
        budget="pairs=384",
        batch_pairs=16,
        micro_pairs=8,
        learning_rate=LEARNING_RATES["tiny"].full,
        max_length=384,
        max_prompt=128,
        dtype="float32",
        cell_timeout=1800.0,
        note="the base checkpoints of the papers with our own SFT stage, at the settings of a test model",
        up_to=10_000_000,
    ),
    # what two cores can pay
    "small": Preset(
        name="small",
        budget="pairs=256",
        batch_pairs=16,
        micro_pairs=4,
        learning_rate=LEARNING_RATES["small"].full,
        max_length=384,
        max_prompt=192,
        # on every CPU: bf16 trains 1.5 times as fast where there are instructions for it, but two scorers of smollm2
        # then differ by 0.6 nats per response
        dtype="float32",
        cell_timeout=4 * 3600.0,
        note="the base checkpoints of the papers with our own SFT stage, at what two cores can pay for a small one",
        up_to=500_000_000,
    ),
    # what one GPU can pay in minutes and a large CPU in a night
    "medium": Preset(
        name="medium",
        budget="pairs=2048",
        batch_pairs=32,
        micro_pairs=2,
        learning_rate=LEARNING_RATES["medium"].full,
        max_length=1024,
        max_prompt=512,
        dtype="bfloat16",
        cell_timeout=24 * 3600.0,
        note="the base checkpoints of the papers in bf16 with our own SFT stage, at a thirtieth of their budget",
        up_to=2_000_000_000,
    ),
    # the papers' own recipe, which larger models get too
    "paper": Preset(
        name="paper",
        budget="pairs=60000",
        batch_pairs=128,
        micro_pairs=2,
        learning_rate=LEARNING_RATES["paper"].full,
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


PresetName = Literal["nano", "tiny", "small", "medium", "paper"]


def preset_of_size(parameters: int) -> str:
    """Return the preset of a model that somebody brings: by its size alone, so that it is the same on every machine."""
    fits = (name for name, preset in PRESETS.items() if preset.up_to is not None and parameters <= preset.up_to)
    return next(fits, "paper")


def start_preset(model: str, preset: str, start: str | None) -> str:
    """Return the preset of a model's start checkpoint under the preset of a run, whether or not it is loaded.

    `nano`: made here; `custom`: brought by somebody; else the papers' base checkpoint, or what `--start` names instead.
    """
    if model not in NAMED or (preset == "nano" and start is not None):
        return "custom"
    return preset


def trains_pretrained(models: Sequence[str], preset: str, start: str | None) -> bool:
    """Return whether any of the models starts from a checkpoint that was not made here."""
    return any(start_preset(model, preset, start) != "nano" for model in models)
