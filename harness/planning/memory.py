"""The memory and the disk that cells take, from the sizes of their model."""

from __future__ import annotations

from collections.abc import Sequence

from harness.planning.model_shape import ModelShape
from harness.planning.run_file import Run
from harness.run_folder.adapter_setting import AdapterSetting

RUNTIME_BYTES = 1.2e9
"""Memory of one worker before any weights: torch, transformers and the engine."""
FULL_BYTES = 16
"""A parameter in full training: weight, gradient and AdamW's two moments, each fp32."""
CAST_BYTES = 2
"""And its copy for products in bf16."""
KEPT_ATTENTION = 2**27
"""Most bytes of attention weights that a layer keeps; with more it keeps none (`logps/cpu_attention.py`)."""
LOGIT_ROWS = 2048
"""Tokens whose logits the scorer has at once, twice, in fp32 (`score/vllm.py`)."""
SEQUENCES_PER_STEP = 64
"""Sequences that the scorer has at once."""
ANSWERS_BYTES = 2**31
"""Most bytes of the keys and values of answers on a CPU: where all at once would take more, some are computed anew."""
NF4_BYTES = 0.5 + 4 / 64
"""A parameter in 4 bits, with its part of a scale in fp32 for 64 of them (`models/nf4.py`)."""
BYTES = {"float32": 4, "bfloat16": 2}


def needed_memory(
    run: Run, shape: ModelShape, packed: Sequence[int], longest: int, *, reference_beside: bool = False
) -> float:
    """Return the most bytes that a worker takes: while it trains, or while it scores.

    `packed`: tokens of each training pair; `longest`: of the longest prompt + response; `reference_beside`: whether a
    loss has the reference model run beside the policy, as a copy of its weights.
    """
    training = training_bytes(run, shape, packed, longest) + reference_beside * kept_bytes(run, shape)
    return RUNTIME_BYTES + max(training, scoring_bytes(run, shape))


def training_bytes(run: Run, shape: ModelShape, packed: Sequence[int], longest: int) -> float:
    """Return the bytes of weights, optimiser and activations.

    With LoRA gradients and moments are those of the adapters, some percent of the weights, and left out.
    """
    settings = run.settings
    pairs = sorted(packed)[-settings.micro_pairs :]
    if run.lora:
        weights = kept_bytes(run, shape)
    else:
        weights = float(shape.parameters * (FULL_BYTES + CAST_BYTES * (settings.dtype == "bfloat16")))
    return weights + activation_bytes(shape, sum(pairs), 2 * len(pairs), longest, settings.dtype)


def activation_bytes(shape: ModelShape, tokens: int, rows: int, longest: int, dtype: str) -> float:
    """Return the bytes that the layers keep of a micro-batch for the backward pass.

    Per token and layer, of a Llama: 12 widths (of each of two norms its input in fp32, that divided by its size, and
    its output; query, key, value, and what attention gives, once more for the product after it) and 4 inner widths
    (gate, its activation, up, their product); and of attention the weights of all heads, of `rows` rows. Counted with
    `saved_tensors_hooks`; in bf16 all but the norms is half as large. With the weights that is 3.5 GB for 4 pairs of
    200 tokens under SmolLM2-135M in fp32, and 1.9 GB with LoRA; measured were 3.6 and 2.2 GB.
    """
    attention = shape.heads * rows * longest * longest * BYTES[dtype]
    norms, others = 4 * 6 * shape.width, BYTES[dtype] * (2 * shape.width + 3 * shape.query_width + shape.key_width)
    products = BYTES[dtype] * 4 * shape.inner
    kept = attention if attention <= KEPT_ATTENTION else 0
    return float(shape.layers * (tokens * (norms + others + products) + kept))


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


def checkpoint_bytes(shape: ModelShape, *, moving: bool) -> float:
    """Return the bytes of a checkpoint inside full training: weights, AdamW's two moments, `moving` references; fp32.

    With LoRA it is some percent of the weights.
    """
    return float(shape.parameters * BYTES["float32"] * (3 + moving))


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
    each = BYTES["float32" if run.lora is None else run.settings.dtype]
    in_4_bits = shape.layers * sum(inner * outer for inner, outer in shape.linear.values())
    saved = in_4_bits * (each - NF4_BYTES) if run.lora and run.lora.quantised else 0.0
    return shape.parameters * each - saved
