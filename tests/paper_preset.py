"""The table of docs/paper-preset.md, from the plan's own code: `python tests/paper_preset.py` prints it.

Nothing in it is measured: memory is `planning/memory.py`'s, hours are FLOPs over an assumed speed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from harness.execute.plan_memory import size_in_words
from harness.manager import losses, plugin_manager, resolver
from harness.models.size import NAMED_SHAPES
from harness.planning.estimates import Visits, estimates
from harness.planning.grid import cells, select
from harness.planning.memory import Batch, Device, needed_memory, sft_bytes
from harness.planning.run_file import make_run

GPU = Device(memory=80e9, gpu=True, name="a GPU of 80 GB")
SPEED = 0.4 * 989e12
"""FLOP/s: 40 % of the dense bf16 peak that NVIDIA states for an H100 SXM. An assumption."""
RECOMPUTED = 4 / 3
"""A forward pass more: 8 FLOPs per token and parameter in the place of 6."""
PROMPT, RESPONSE = 200, 300
"""Tokens of a mean prompt and of a mean response. An assumption: a plan counts those of the data."""
DEVICES = 8
TUNED_MISTRAL = "alignment-handbook/zephyr-7b-sft-full"
"""Mistral-7B after the SFT stage of Zephyr's authors: one of ours, in fp32, does not fit the GPU."""
IN_BF16 = {"optimizer": "adamw-bf16-sr"}
WAYS: tuple[tuple[str, str, Mapping[str, Any]], ...] = (
    ("Qwen2.5-0.5B", "qwen", {}),
    ("Gemma-2-2B", "gemma", {}),
    ("Gemma-2-2B", "gemma", IN_BF16),
    ("Mistral-7B", "mistral", {}),
    ("Mistral-7B", "mistral", {"start": TUNED_MISTRAL, "optimizer": "adamw-8bit"}),
    ("Mistral-7B", "mistral", {"start": TUNED_MISTRAL, **IN_BF16}),
    ("Mistral-7B", "mistral", {"start": TUNED_MISTRAL, "adapter": "lora"}),
)
"""The model, what --models calls it, and its other options."""


def lengths(longest: int, longest_prompt: int) -> tuple[Visits, Batch]:
    """Return a mean pair, which decides the hours, and a longest one, which decides the memory."""
    mean = Visits(
        pairs=[2 * (PROMPT + RESPONSE)] * 60_000,
        mismatched=[PROMPT + RESPONSE] * 60_000,
        packed=[PROMPT + 2 * RESPONSE] * 60_000,
        longest=longest,
        held_out=0,
    )
    both = longest_prompt + 2 * (longest - longest_prompt)
    return mean, Batch(packed=[both] * DEVICES, longest=longest)


def command(model: str, options: Mapping[str, Any]) -> str:
    """Return the command of a row."""
    words = "".join(f" --{name} {value}" for name, value in options.items())
    return f"harness run --plugins core --models {model} --preset paper --dataset ultrafeedback --seeds 0,1,2{words}"


def rows() -> Iterator[list[str]]:
    """Yield the cells of each row of the table."""
    manager = plugin_manager()
    systems = select("core", list(losses(manager)), resolver(manager))
    for title, model, options in WAYS:
        run = make_run({"models": [model], "preset": "paper", **options})
        mean, batch = lengths(run.settings.max_length, run.settings.max_prompt)
        shape, grid = NAMED_SHAPES[model], cells([model], systems, (0, 1, 2))
        need = needed_memory(run, shape, batch, GPU)
        costs = estimates(run, mean, ((cell, shape.parameters) for cell in grid))
        share = mean.packed[0] / mean.pairs[0]  # a prompt goes through the model once for both responses
        lora = 2 * shape.parameters * costs[0].tokens if run.adapter == "lora" else 0  # no gradients of weights
        again = RECOMPUTED if need.recomputed else 1
        hours = [(cost.flops - lora) * share * again / SPEED / 3600 for cost in costs]
        fits = need.total <= GPU.usable
        how = ", recomputed" if need.recomputed else ""
        yield [
            title,
            f"`{' '.join(f'--{name} {value}' for name, value in options.items() if name != 'start')}`"
            if {*options} - {"start"}
            else "AdamW in fp32",
            f"{size_in_words(need.weights + need.gradients + need.moments + need.copies)} + "
            f"{size_in_words(need.activations)}{how}",
            size_in_words(need.engine),
            size_in_words(need.total) if fits else f"**{size_in_words(need.total)}: does not fit**",
            f"{min(hours):.1f} to {max(hours):.1f}" if fits else "",
            f"{sum(hours):,.0f}" if fits else "",
            f"{math.ceil(len(hours) / DEVICES) * max(hours):,.0f}" if fits else "",
        ]


def table() -> str:
    """Return the table in Markdown."""
    head = (
        "model", "trained by", "weights, gradients, moments, copies + activations", "engine", "in all",
        "hours a cell", "hours of 18 cells on one GPU", "on eight",
    )  # fmt: skip
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * 2}{' ---: |' * 6}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows()), "", sft()]) + "\n"


def sft() -> str:
    """Return what the SFT stages of the start checkpoints take, a sentence."""
    sizes = {title: sft_bytes(NAMED_SHAPES[model]) for title, model, _ in WAYS}
    told = ", ".join(f"{size_in_words(size)} for {title}" for title, size in sizes.items())
    return f"The SFT stage of the start checkpoint, AdamW in fp32: {told}."


if __name__ == "__main__":
    print(table(), end="")
