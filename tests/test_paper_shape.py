"""Random weights of the shape of Qwen2.5-0.5B, two steps in full and with LoRA, scored by both scorers.

`tox -e paper-shape`: minutes, 13 GB of memory, 6 GB of disk. Prints what each run took.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.data.simulator.synthetic import Settings, make
from harness.import_guard import guard_imports
from harness.models.families import QWEN
from harness.models.nano import train_tokenizer
from harness.models.size import NAMED_SHAPES

pytestmark = [pytest.mark.paper_shape, pytest.mark.vllm]
OURS = "--plugins simpo --limit 8 --budget steps=2 --batch-pairs 2 --micro-pairs 1 --max-length 96 --max-prompt 48"


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with random weights of that shape, in bf16, and a tokenizer of a thousand entries."""
    guard_imports()
    import torch
    from transformers import AutoModelForCausalLM, Qwen2Config

    folder = tmp_path_factory.mktemp("start") / "shape"
    some = make(Settings(prompts_train=50, prompts_dev=0, prompts_test=0), seed=0).train
    tokenizer = train_tokenizer(QWEN, [text for pair in some for text in (pair.prompt, pair.chosen)], 1000)
    torch.manual_seed(0)
    # the numbers of its config.json
    config = Qwen2Config(
        vocab_size=151_936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24, num_attention_heads=14,
        num_key_value_heads=2, max_position_embeddings=32_768, rope_theta=1e6, rms_norm_eps=1e-6,
        tie_word_embeddings=True, use_sliding_window=False,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    )  # fmt: skip  # one option a line would hide the shape
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    assert model.num_parameters() == NAMED_SHAPES["qwen"].parameters
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def computed(start: Path, folder: Path, *options: str) -> tuple[dict[str, Any], pd.DataFrame]:
    """Run one cell; return its record and its rows."""
    began = time.monotonic()
    asked = [*OURS.split(), "--models", str(start), "--no-pictures", "--output-dir", str(folder), *options]
    done = subprocess.run(
        [sys.executable, "-m", "harness", "run", *asked], cwd=folder.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    (cell,) = folder.glob("cells/*--simpo--*")
    record = json.loads((cell / "record.json").read_text(encoding="utf-8"))
    planned = next(line.strip() for line in done.stdout.splitlines() if " of training = " in line)
    spend, apart = record["spend"], record["scorer"]["parity_max_abs_nats"]
    took = f"{time.monotonic() - began:.0f} s in all, {spend['seconds']:.0f} s of training"
    peak = f"peak {spend['peak_memory_bytes'] / 1e9:.2f} GB"
    print(f"\n{' '.join(options)}: {took}, {peak}; scorers apart by {apart} nats; planned: {planned}", flush=True)
    return record, pd.read_parquet(cell / "rows.parquet").set_index("pair_id").sort_index()


@pytest.mark.parametrize("adapter", ["full", "lora"])
def test_two_steps_are_trained_and_both_scorers_say_the_same(adapter: str, start: Path, tmp_path: Path) -> None:
    found = {
        scorer: computed(start, tmp_path / scorer, "--adapter", adapter, "--scorer", scorer)
        for scorer in ("vllm", "transformers")
    }
    for scorer, (record, _) in found.items():
        assert (record["status"], record["spend"]["steps"], record["scorer"]["name"]) == ("ok", 2, scorer)
        assert record["model"]["parameters"] == NAMED_SHAPES["qwen"].parameters
    assert found["vllm"][0]["scorer"]["parity_max_abs_nats"] < 0.01
    ours, theirs = (rows[["chosen_sum_logp", "rejected_sum_logp"]] for _, rows in found.values())
    assert ours.to_numpy() == pytest.approx(theirs.to_numpy(), abs=0.01)
    moved = found["vllm"][1]["chosen_sum_logp"] - found["vllm"][1]["ref_chosen_sum_logp"]
    assert (moved.abs() > 1e-3).any()
