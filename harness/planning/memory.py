"""The memory and the disk that cells take, from the sizes of their model. docs/memory.md has how well it is met."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.planning.model_shape import ModelShape
from harness.planning.run_file import Run
from harness.run_folder.adapter_setting import AdapterSetting

RUNTIME_BYTES = 1.2e9
"""Memory of one worker before any weights: torch, transformers and the engine."""
FIRST_STEP_BYTES = 1.0e8
"""What libraries keep from the first step on: compiled products and their buffers."""
COMPILER_BYTES = 5e7
"""What torchao's optimisers load of torch's compiler with their first step, even where it compiles nothing."""
MOMENTS = {"adamw": 8.0, "adamw-8bit": 2 * (1 + 4 / 256), "adamw-bf16-sr": 2 * (1 + 4 / 256)}
"""Bytes of both moments of a parameter: in fp32, or in 8 bits with an fp32 scale for 256 of them."""
STEP_BYTES = 56
"""Bytes for each number of the largest matrix while its step is computed on a CPU with moments in 8 bits."""
ROUNDED_STEP_BYTES = 2e7
"""What a step that rounds at random leaves on a CPU between other tensors: 10 to 70 MB, by chance."""
COMPILED_STEP_BYTES = 8
"""The same on a GPU, where the step is compiled: both moments in fp32. Reckoned, not measured."""
CAST_BYTES = 2
"""A parameter's copy for products in bf16, where it is kept in fp32.

On a CPU twice that is measured: what is freed in between other tensors does not come back.
"""
LORA_ACTIVATIONS = 1.15
"""Activations with LoRA / without: each adapter keeps its own copy of what it reads."""
LORA_ACTIVATIONS_CPU = 1.5
"""The same on a CPU, as measured: what peft casts to fp32 for a moment does not all come back."""
KEPT_ATTENTION = 2**27
"""Most bytes of attention weights that a layer keeps; with more it keeps none (`logps/cpu_attention.py`)."""
LONGEST_IN_PLACE = 1024
"""Longest prompt + response whose attention weights are kept (`logps/cpu_attention.py`)."""
BLOCK_LOGITS = 2**23
"""Logits of the output head that are there at once (`logps/output_head.py`)."""
LOGIT_ROWS = 2048
"""Tokens whose logits the scorer has at once, twice, in fp32 (`score/vllm.py`)."""
SEQUENCES_PER_STEP = 64
"""Sequences that the scorer has at once."""
ANSWERS_BYTES = 2**31
"""Most bytes of the keys and values of answers on a CPU: where all at once would take more, some are computed anew."""
NF4_BYTES = 0.5 + 4 / 64
"""A parameter in 4 bits, with its part of a scale in fp32 for 64 of them (`models/nf4.py`)."""
BYTES = {"float32": 4, "bfloat16": 2}
SFT_TOKENS = 16_384
"""Tokens that go through the model at once in the SFT stage (`models/sft.py`)."""
USABLE = 0.92
"""Share of a device's memory that a plan fills: the rest is its driver's, the system's, or lost between tensors."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """What a model is trained on."""

    memory: float
    """Bytes, all of them."""
    gpu: bool
    name: str

    @property
    def usable(self) -> float:
        """Bytes that a worker may take."""
        return USABLE * self.memory


@dataclass(frozen=True, kw_only=True)
class Batch:
    """The lengths that decide what a micro-batch takes."""

    packed: Sequence[int]
    """Tokens of each training pair, whose prompt is read once."""
    longest: int
    """Tokens of the longest prompt + response."""


@dataclass(frozen=True, kw_only=True)
class Memory:
    """What a worker takes at its peak, in bytes, part by part."""

    weights: float
    gradients: float
    moments: float
    copies: float
    """Of the weights, in bf16; of a reference model that runs beside the policy."""
    activations: float
    """What is kept for the backward pass and what the output head takes; or what a step unpacks, where that is more."""
    recomputed: bool
    """Whether the activations of a layer are computed again in the backward pass, and not kept."""
    engine: float
    """Of the scorer, when training is over."""
    runtime: float

    @property
    def training(self) -> float:
        """Bytes of training."""
        return self.weights + self.gradients + self.moments + self.copies + self.activations

    @property
    def total(self) -> float:
        """Bytes of the worker: while it trains, or while it scores."""
        return self.runtime + max(self.training, self.engine)


def needed_memory(
    run: Run, shape: ModelShape, batch: Batch, device: Device, *, reference_beside: bool = False
) -> Memory:
    """Return what a worker takes. `reference_beside`: a loss has a copy of the model run beside the policy."""
    recomputed = recomputes(run, shape, batch, device, reference_beside=reference_beside)
    return _memory(run, shape, batch, device, recomputed=recomputed, reference_beside=reference_beside)


def recomputes(run: Run, shape: ModelShape, batch: Batch, device: Device, *, reference_beside: bool = False) -> bool:
    """Return whether activations are computed again: as asked for, or where keeping them may not fit the device."""
    if run.activation_checkpointing != "auto":
        return run.activation_checkpointing == "on"
    kept = _memory(run, shape, batch, device, recomputed=False, reference_beside=reference_beside)
    return kept.runtime + kept.training > device.usable


def _memory(
    run: Run, shape: ModelShape, batch: Batch, device: Device, *, recomputed: bool, reference_beside: bool
) -> Memory:
    settings = run.settings
    weight, extra = BYTES[run.weights_dtype], adapter_bytes(run.lora, shape) / 4 if run.lora else 0.0
    trained = 0 if run.lora else shape.parameters
    cast = CAST_BYTES * (1 if device.gpu else 2) if settings.dtype == "bfloat16" and weight == 4 else 0
    pairs = sorted(batch.packed)[-settings.micro_pairs :]
    tokens, rows = sum(pairs), 2 * len(pairs)
    kept = activation_bytes(run, shape, tokens, rows, batch.longest, gpu=device.gpu, recomputed=recomputed)
    gradients = float(trained * weight + extra * 4)
    head = head_bytes(run, shape)
    if settings.micro_pairs == settings.batch_pairs:  # gradients come only as activations go
        head -= min(gradients, kept)
    in_8_bits = run.optimizer != "adamw"
    unpacked = shape.vocabulary * shape.width if in_8_bits and run.lora is None else 0
    step = unpacked * (COMPILED_STEP_BYTES if device.gpu else STEP_BYTES)
    left = in_8_bits * COMPILER_BYTES + (run.optimizer == "adamw-bf16-sr" and not device.gpu) * ROUNDED_STEP_BYTES
    return Memory(
        weights=kept_bytes(run, shape) + extra * 4,
        gradients=gradients,
        moments=(trained + extra) * MOMENTS[run.optimizer],
        copies=float(shape.parameters * cast + reference_beside * kept_bytes(run, shape)),
        activations=max(kept + head, step) + FIRST_STEP_BYTES + left,
        recomputed=recomputed,
        engine=scoring_bytes(run, shape),
        runtime=RUNTIME_BYTES,
    )


def sft_bytes(shape: ModelShape) -> float:
    """Return the bytes of the SFT stage of a start checkpoint: AdamW in fp32, products in bf16, layers computed again.

    So it is on a GPU, with `SFT_TOKENS` at once.
    """
    kept = shape.layers * SFT_TOKENS * shape.width * 4
    return RUNTIME_BYTES + float(shape.parameters * (4 + 4 + 8 + CAST_BYTES) + kept)


def head_bytes(run: Run, shape: ModelShape) -> float:
    """Return the bytes of the output head: a block of logits, and the gradient of its weight before it is added."""
    gradient = shape.vocabulary * shape.width * BYTES[run.weights_dtype] if run.lora is None else 0
    return float(4 * BLOCK_LOGITS + gradient)


def activation_bytes(
    run: Run, shape: ModelShape, tokens: int, rows: int, longest: int, *, gpu: bool, recomputed: bool
) -> float:
    """Return the bytes that the layers keep of a micro-batch for the backward pass.

    Per token and layer, of a Llama: 12 widths (of each of two norms its input in fp32, that divided by its size, and
    its output; query, key, value, and what attention gives, once more for the product after it) and 4 inner widths
    (gate, its activation, up, their product); and of attention the weights of all heads, of `rows` rows, or where it
    runs on padded rows their queries, keys and values. Counted with `saved_tensors_hooks`; in bf16 all but the norms is
    half as large. Recomputed, each layer keeps its input, and one of them all.
    """
    weight, product = BYTES[run.weights_dtype], BYTES[run.settings.dtype]
    norms = 2 * (4 + 2 * weight) * shape.width
    others = product * (2 * shape.width + 3 * shape.query_width + shape.key_width)
    attention = shape.heads * rows * longest * longest * product
    if gpu or longest > LONGEST_IN_PLACE or attention > KEPT_ATTENTION:
        attention = rows * longest * 4 * shape.query_width * product
    layer: float = tokens * (norms + others + product * 4 * shape.inner) + attention
    if run.lora:
        layer *= LORA_ACTIVATIONS if gpu else LORA_ACTIVATIONS_CPU
    if not recomputed:
        return float(shape.layers * layer)
    return float(shape.layers * tokens * shape.width * weight + layer)


def scoring_bytes(run: Run, shape: ModelShape) -> float:
    """Return the bytes of the engine, of the second scorer that checks it, of the logits of a step, and of answers.

    And of the weights that an adapter is merged into.
    """
    settings = run.settings
    longest = max(settings.max_length, settings.max_prompt + run.max_new_tokens)
    keys = 2 * shape.layers * shape.key_width * BYTES[settings.dtype]  # and values, of a token
    answers = min(SEQUENCES_PER_STEP * longest * keys, ANSWERS_BYTES) if run.generate else 0
    return (
        2.0 * shape.parameters * BYTES[settings.dtype]
        + 2 * LOGIT_ROWS * shape.vocabulary * 4
        + answers
        + merged_bytes(run, shape)
    )


def checkpoint_bytes(run: Run, shape: ModelShape, *, moving: bool) -> float:
    """Return the bytes of a checkpoint inside full training: weights, AdamW's two moments, `moving` references.

    With LoRA it is some percent of the weights.
    """
    return float(shape.parameters * (BYTES[run.weights_dtype] * (1 + moving) + MOMENTS[run.optimizer]))


def adapter_bytes(setting: AdapterSetting, shape: ModelShape) -> float:
    """Return the bytes of an adapter, in fp32 whatever the dtype: rank x (inputs + outputs) of each layer with one."""
    sizes = (inner + outer for name, (inner, outer) in shape.linear.items() if setting.matches(name))
    return float(BYTES["float32"] * setting.r * shape.layers * sum(sizes))


def left_bytes(run: Run, shape: ModelShape) -> float:
    """Return the bytes that a cell leaves of its weights until it is scored: all of them, or the adapter."""
    return adapter_bytes(run.lora, shape) if run.lora else kept_bytes(run, shape)


def merged_bytes(run: Run, shape: ModelShape) -> float:
    """Return the bytes of the weights that one adapter at a time is merged into to be scored; 0 without adapters."""
    return float(shape.parameters * BYTES[run.settings.dtype]) if run.lora else 0.0


def kept_bytes(run: Run, shape: ModelShape) -> float:
    """Return the bytes of the weights as they are loaded for training."""
    each = BYTES[run.weights_dtype]
    in_4_bits = shape.layers * sum(inner * outer for inner, outer in shape.linear.values())
    saved = in_4_bits * (each - NF4_BYTES) if run.lora and run.lora.quantised else 0.0
    return shape.parameters * each - saved


def this_computer() -> Device:
    """Return this computer without a GPU: its memory, or what a container may have of it."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = Path("/sys/fs/cgroup/memory.max")
    if limit.is_file() and (text := limit.read_text(encoding="utf-8").strip()).isdigit():
        memory = min(memory, int(text))
    return Device(memory=float(memory), gpu=False, name="this computer")
