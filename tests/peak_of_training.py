"""Train a Llama of random weights in this process, as a cell is trained, and print what it took: a line of JSON.

    python tests/peak_of_training.py '{"layers": 8, "width": 512, ...}'

The fields are those of `Setting`. Started afresh for each measurement: the peak of a process is its own.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.import_guard import guard_imports
from harness.planning.model_shape import ModelShape

VOCABULARY = 8192


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is trained, and how."""

    layers: int
    width: int
    inner: int
    heads: int
    key_heads: int
    vocabulary: int = VOCABULARY
    prompt: int = 40
    answer: int = 120
    """Tokens of each response."""
    micro_pairs: int = 4
    batch_pairs: int = 8
    steps: int = 2
    """The second one has the optimiser's moments from its start."""
    dtype: str = "float32"
    optimizer: str = "adamw"
    adapter: str = "full"
    recomputed: bool = False
    """Whether activations are computed again in the backward pass."""

    def shape(self) -> ModelShape:
        """Return the sizes of the model, its parameters counted by hand: head and embedding are one matrix."""
        key_width = self.width // self.heads * self.key_heads
        layer = 2 * self.width * (self.width + key_width) + 3 * self.width * self.inner + 2 * self.width
        return ModelShape(
            parameters=self.vocabulary * self.width + self.layers * layer + self.width,
            layers=self.layers,
            width=self.width,
            inner=self.inner,
            heads=self.heads,
            query_width=self.width,
            key_width=key_width,
            vocabulary=self.vocabulary,
        )

    def run(self) -> dict[str, Any]:
        """Return the settings of a run that trains so."""
        named = {"micro_pairs": self.micro_pairs, "batch_pairs": self.batch_pairs, "dtype": self.dtype}
        recomputed = "on" if self.recomputed else "off"
        return {**named, "optimizer": self.optimizer, "adapter": self.adapter, "activation_checkpointing": recomputed}

    @property
    def packed(self) -> int:
        """Tokens of a pair, whose prompt is read once."""
        return self.prompt + 2 * self.answer


def start(setting: Setting, folder: Path) -> None:
    """Write a checkpoint of random weights."""
    guard_imports()
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=setting.width, intermediate_size=setting.inner, num_hidden_layers=setting.layers,
        num_attention_heads=setting.heads, num_key_value_heads=setting.key_heads, vocab_size=setting.vocabulary,
        max_position_embeddings=4096, tie_word_embeddings=True,
    )  # fmt: skip
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)


def peak(setting: Setting, folder: Path) -> tuple[int, int]:
    """Return the highest memory of training the checkpoint in `folder`, in bytes, and its parameters."""
    from harness.data.tokens import TokenPair
    from harness.logps.packed_attention import use_packed_attention
    from harness.logps.response_logps import recompute_activations
    from harness.manager import plugin_manager, resolver
    from harness.models.load import load_model
    from harness.planning.budget import Plan
    from harness.planning.run_file import make_run
    from harness.training.loss_inputs import TrainingData
    from harness.training.peak_memory import leave_out_what_is_held, libraries_of
    from harness.training.recipe import Recipe
    from harness.training.trainer import train

    rng = np.random.default_rng(0)

    def ids(count: int) -> Sequence[int]:
        return tuple(rng.integers(0, setting.vocabulary, count).tolist())

    tokens = [
        TokenPair(
            pair_id=str(number), prompt_ids=ids(setting.prompt), chosen_ids=ids(setting.answer),
            rejected_ids=ids(setting.answer), truncated=False,
        )
        for number in range(setting.batch_pairs)
    ]  # fmt: skip
    run = make_run(setting.run())
    loss = resolver(plugin_manager())("simpo", {})
    plan = Plan(batch_pairs=setting.batch_pairs, n_pairs=len(tokens), seed=0, steps=setting.steps)
    recipe = Recipe(
        learning_rate=1e-4, micro_pairs=setting.micro_pairs, seed=0, dtype=setting.dtype, optimizer=setting.optimizer
    )
    leave_out_what_is_held(libraries_of(run))
    model = load_model(folder, run.weights_dtype, setting.adapter)
    use_packed_attention(model)
    if setting.recomputed:
        recompute_activations(model)
    data = TrainingData(pairs=[], tokens=tokens, reference=None, columns={})
    trained = train(model, loss, data, plan, recipe, folder / "scratch", lambda step, value: None)
    assert trained.steps == setting.steps
    return trained.peak_memory_bytes, sum(weight.numel() for weight in model.parameters())


if __name__ == "__main__":
    asked = Setting(**json.loads(sys.argv[1]))
    with tempfile.TemporaryDirectory() as made:
        start(asked, Path(made))
        began = time.monotonic()
        taken, parameters = peak(asked, Path(made))
        print(json.dumps({"peak": taken, "parameters": parameters, "seconds": round(time.monotonic() - began, 1)}))
