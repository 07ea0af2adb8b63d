"""Training at the real shapes of three models on one GPU, random weights, ours against TRL: a table.

    HARNESS_BENCH_PEER=/path/to/python python -m tests.benchmarks.gpu [pairs of a step]

Needs CUDA; HARNESS_BENCH_PEER names the interpreter of an environment made from peers.txt. Random weights cost what
trained ones do. What does not fit is a row that says so. MFU counts the needed FLOPs of `floor`, so that work on
padding does not look like use of the machine, against the dense bf16 peak of the GPU.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the benchmarks import each other as `benchmarks.*`

import torch
from benchmarks import corpus
from benchmarks.driver import Worker
from benchmarks.floor import Shape, needed_flops

PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12}
"""Dense bf16 FLOP/s, from the makers' data sheets."""
REPETITIONS, STEPS = 3, 6


def shapes() -> dict[str, Any]:
    """Return the configurations by name."""
    from transformers import Gemma2Config, MistralConfig, Qwen2Config

    return {
        "Qwen2.5-0.5B": Qwen2Config(
            vocab_size=151_936, hidden_size=896, intermediate_size=4864, num_hidden_layers=24,
            num_attention_heads=14, num_key_value_heads=2, tie_word_embeddings=True,
        ),
        "Gemma-2-2B": Gemma2Config(
            vocab_size=256_000, hidden_size=2304, intermediate_size=9216, num_hidden_layers=26,
            num_attention_heads=8, num_key_value_heads=4, head_dim=256, sliding_window=4096,
        ),
        "Mistral-7B": MistralConfig(
            vocab_size=32_000, hidden_size=4096, intermediate_size=14_336, num_hidden_layers=32,
            num_attention_heads=32, num_key_value_heads=8,
        ),
    }  # fmt: skip  # one option a line would hide the shapes


def main() -> int:
    """Print the table; return the exit code."""
    if not torch.cuda.is_available():
        print("no CUDA device here, expected one: this benchmark measures GPUs alone")
        return 2
    peer = os.environ.get("HARNESS_BENCH_PEER")
    if peer is None:
        print("HARNESS_BENCH_PEER is not set, expected the interpreter of an environment made from peers.txt")
        return 2
    batch = int(sys.argv[1]) if len(sys.argv) > 1 else 8
    device = torch.cuda.get_device_name()
    peak = next((value for name, value in PEAK.items() if name in device), float("nan"))
    print(f"{device}, bf16, {batch} pairs per step\n")
    print("| model | loss | trainer | tokens/s | MFU | peak memory |\n| --- | --- | --- | ---: | ---: | ---: |")
    for name, config in shapes().items():
        with tempfile.TemporaryDirectory() as folder:
            corpus.write(Path(folder), config)
            for loss in ("simpo", "dpo"):
                common = {"folder": folder, "dtype": "bfloat16", "batch_pairs": batch, "learning_rate": 1e-6}
                common["micro_pairs"] = batch
                here, runs = _run(Worker("worker_ours.py"), {"n_pairs": batch * STEPS, **common}, {"loss": loss})
                flex = _run(
                    Worker("worker_ours.py"), {"n_pairs": batch * STEPS, "flex": True, **common}, {"loss": loss}
                )
                rows = {"ours": runs, "ours, FlexAttention": flex[1]}
                attention = {"attention": "eager"} if "Gemma" in name else {}  # sdpa drops soft-capping
                theirs = {"order": here["order"], "loss": loss, **attention, **common} if here else {}
                for trainer, settings in (("TRL", {}), ("TRL, default", {"checkpointing": True})):
                    if here:
                        rows[trainer] = _run(Worker("worker_trl.py", peer), {**theirs, **settings}, {})[1]
                flops = _flops_a_token(config, here)
                for trainer, row in rows.items():
                    print(f"| {name} | {loss} | {trainer} | {_cells(row, here, flops, peak)} |", flush=True)
    return 0


def _run(
    worker: Worker, prepare: dict[str, Any], train: dict[str, Any]
) -> tuple[dict[str, Any], list[dict[str, Any]] | str]:
    """Return what preparing gave, and the runs or the reason why there are none."""
    try:
        prepared = worker("prepare", **prepare)
        return prepared, [worker("train", **train) for _ in range(REPETITIONS + 1)][1:]
    except AssertionError as error:
        return {}, str(error).strip().splitlines()[-1][:80]
    finally:
        worker.close()


def _flops_a_token(config: Any, here: dict[str, Any]) -> float:
    """Return the needed FLOPs of one prompt + response token, over the pairs visited."""
    lengths = here.get("lengths", [])
    tokens = sum(2 * prompt + chosen + rejected for prompt, chosen, rejected in lengths)
    return sum(needed_flops(Shape.of(config), *pair) for pair in lengths) / tokens if tokens else float("nan")


def _cells(row: Any, here: dict[str, Any], flops: float, peak: float) -> str:
    if isinstance(row, str):
        return f"{row} | | "
    seconds = statistics.median(run["step_seconds"] for run in row)
    rate = here["tokens"] * (STEPS - 1) / STEPS / seconds
    return f"{rate:,.0f} | {rate * flops / peak:.0%} | {max(run['peak_bytes'] for run in row) / 2**30:.1f} GiB"


if __name__ == "__main__":
    sys.exit(main())
