"""TRL's side of the benchmarks: a process in an environment of its own (see peers.txt) that the driver talks to."""

from __future__ import annotations

import json
import math
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from protocol import WARMUP, digest, forget_peak, resident, serve
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback
from trl import DPOConfig, DPOTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer

state: dict[str, Any] = {}

LOSSES: dict[str, tuple[str, dict[str, Any]]] = {
    "simpo": ("cpo", {"loss_type": "simpo", "cpo_alpha": 0.0, "beta": 2.0, "simpo_gamma": 0.5}),
    "alphapo": ("cpo", {"loss_type": "alphapo", "alpha": 0.25, "beta": 2.5, "simpo_gamma": 0.25}),
    "cpo": ("cpo", {"loss_type": "sigmoid", "beta": 0.1}),
    "dpo": ("dpo", {"loss_type": "sigmoid", "beta": 0.1}),
    "ipo": ("dpo", {"loss_type": "ipo", "beta": 0.1}),
}


class Recording:
    """Mixed into a trainer: the harness's schedule, and every step's loss at full precision."""

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        def factor(step: int) -> float:
            fraction = (step + 0.5) / num_training_steps
            if fraction < WARMUP:
                return fraction / WARMUP
            return 0.5 * (1 + math.cos(math.pi * (fraction - WARMUP) / (1 - WARMUP)))

        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, factor)
        return self.lr_scheduler

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        loss = super().compute_loss(*args, **kwargs)  # type: ignore[misc]  # a mixin
        self.recorded.append((loss[0] if isinstance(loss, tuple) else loss).detach())
        return loss


class RecordingCPO(Recording, CPOTrainer):
    """TRL's CPO trainer."""


class RecordingDPO(Recording, DPOTrainer):
    """TRL's DPO trainer."""


class Clock(TrainerCallback):
    """Notes when each step ends."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.ends.append(time.perf_counter())


def prepare(
    *,
    folder: str,
    order: list[int],
    loss: str,
    dtype: str,
    batch_pairs: int,
    micro_pairs: int,
    learning_rate: float,
    checkpointing: bool = False,
    precompute: bool = False,
    attention: str = "sdpa",
) -> dict[str, Any]:
    """Load the checkpoint and make the trainer; each visited pair is a row, in the order visited."""
    kind, options = LOSSES[loss]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    base = resident()["now"]
    began = time.perf_counter()
    rows = json.loads((Path(folder) / "pairs.json").read_text())
    data = Dataset.from_list([{key: rows[i][key] for key in ("prompt", "chosen", "rejected")} for i in order])
    if kind == "dpo" and precompute:
        options = options | {"precompute_ref_log_probs": True}
    arguments = (CPOConfig if kind == "cpo" else DPOConfig)(
        **options,
        output_dir=tempfile.mkdtemp(),
        max_length=4096,
        per_device_train_batch_size=micro_pairs,
        gradient_accumulation_steps=batch_pairs // micro_pairs,
        learning_rate=learning_rate,
        num_train_epochs=1,
        gradient_checkpointing=checkpointing,
        bf16=dtype == "bfloat16",
        use_cpu=not torch.cuda.is_available(),
        train_sampling_strategy="sequential",
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    trainer = (RecordingCPO if kind == "cpo" else RecordingDPO)(
        model=model, args=arguments, train_dataset=data, processing_class=AutoTokenizer.from_pretrained(folder)
    )
    seconds = time.perf_counter() - began
    trainer.remove_callback(PrinterCallback)
    state.update(trainer=trainer, start=start, micro_batches=batch_pairs // micro_pairs)
    return {
        "ids": digest([side for row in trainer.train_dataset for side in _ids(row)]),
        "seconds": seconds,
        "base_bytes": base,
        "parameters": model.num_parameters(),
    }


def _ids(row: dict[str, Any]) -> list[list[int]]:
    """Return the ids of prompt + chosen and of prompt + rejected."""
    if "prompt_ids" in row:
        return [row["prompt_ids"] + row["chosen_ids"], row["prompt_ids"] + row["rejected_ids"]]
    return [row["chosen_input_ids"], row["rejected_input_ids"]]


def train() -> dict[str, Any]:
    """Train from the start checkpoint over the prepared pairs, once; `step_seconds` are those after the first step."""
    trainer, micro_batches = state["trainer"], state["micro_batches"]
    trainer.model.load_state_dict(state["start"])
    trainer.optimizer = trainer.lr_scheduler = None
    trainer.recorded = []
    trainer.add_callback(clock := Clock())
    forget_peak()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    trainer.train()
    seconds = time.perf_counter() - began
    trainer.remove_callback(clock)
    steps = torch.stack(trainer.recorded).double().view(-1, micro_batches).mean(-1)
    return {
        "seconds": seconds,
        "step_seconds": clock.ends[-1] - clock.ends[0],
        "losses": steps.tolist(),
        "peak_bytes": torch.cuda.max_memory_allocated() if torch.cuda.is_available() else resident()["peak"],
    }


def score(*, requests: list[tuple[list[int], list[int]]], batch: int = 8, folder: str | None = None) -> dict[str, Any]:
    """Return the summed log-prob of each response: padded rows in the order given, full logits.

    The model is the one just trained, or that in `folder`.
    """
    model = state["trainer"].model if folder is None else AutoModelForCausalLM.from_pretrained(folder)
    model.eval()
    sums: list[float] = []
    began = time.perf_counter()
    with torch.inference_mode():
        for some in (requests[i : i + batch] for i in range(0, len(requests), batch)):
            rows = [torch.tensor([*prompt, *response]) for prompt, response in some]
            ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
            mask = torch.arange(ids.shape[1]) < torch.tensor([[len(row)] for row in rows])
            logits = model(input_ids=ids, attention_mask=mask.long(), use_cache=False).logits
            logps = logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
            for row, (prompt, response) in zip(logps, some, strict=True):
                start = len(prompt) - 1
                sums.append(float(row[start : start + len(response)].double().sum()))
    seconds = time.perf_counter() - began
    model.train()
    return {"seconds": seconds, "sums": sums}


def versions() -> dict[str, Any]:
    """Return what this environment holds."""
    return {name: version(name) for name in ("torch", "transformers", "trl")}


if __name__ == "__main__":
    serve({"prepare": prepare, "train": train, "score": score, "versions": versions})
