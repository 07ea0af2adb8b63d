"""Train a checkpoint with TRL's DPOTrainer and save it as TRL does: START, pairs as JSON lines and OUT are arguments.

Runs in the environment that holds TRL (see peers.txt).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer

torch.set_num_threads(1)  # the model is small


def main(start: str, pairs: str, out: str) -> None:
    """Train for six steps of four pairs."""
    rows = [json.loads(line) for line in Path(pairs).read_text(encoding="utf-8").splitlines()]
    data = [
        {
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "chosen": [{"role": "assistant", "content": row["chosen"]}],
            "rejected": [{"role": "assistant", "content": row["rejected"]}],
        }
        for row in rows
    ]
    model, reference = (AutoModelForCausalLM.from_pretrained(start, dtype=torch.float32) for _ in range(2))
    trainer = DPOTrainer(
        model=model,
        ref_model=reference,
        args=DPOConfig(
            output_dir=f"{out}-trainer", max_steps=6, per_device_train_batch_size=4, learning_rate=1e-3, beta=0.1,
            use_cpu=True, bf16=False, report_to=[], save_strategy="no", disable_tqdm=True, max_length=256,
        ),
        train_dataset=Dataset.from_list(data),
        processing_class=AutoTokenizer.from_pretrained(start),
    )  # fmt: skip  # one option a line would hide the recipe
    trainer.train()
    trainer.save_model(out)


if __name__ == "__main__":
    main(*sys.argv[1:])
