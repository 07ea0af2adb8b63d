"""How long threads that wait may spin: training steps of one process with the machine to itself, and of two at once.

    python -m tests.benchmarks.waiting     prints the table in README.md; some 8 minutes on two cores

Both have as many threads as there are cores. The model has the shape of SmolLM2-135M with a small vocabulary, random.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the benchmarks import each other as `benchmarks.*`

SPINS = {"OpenMP's own": None, "none": "0", "100": "100", "1,000": "1000", "10,000": "10000", "100,000": "100000"}
STEPS, TURNS = 5, 2


def seconds_of_steps() -> list[float]:
    """Return the seconds of each step but the first: 2 x (forward and backward of 512 tokens), then AdamW."""
    import torch
    from benchmarks import corpus

    from harness.import_guard import guard_imports

    guard_imports()
    from transformers import LlamaForCausalLM

    config = corpus.smollm2()
    config.vocab_size = 8192
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), fused=True)
    ids = torch.randint(0, config.vocab_size, (2, 256))
    seconds = []
    for _ in range(1 + STEPS):
        began = time.perf_counter()
        for _ in range(2):
            model(ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - began)
    return seconds[1:]


def measured(spin: str | None, processes: int) -> list[float]:
    """Return the seconds of the steps of so many processes at once."""
    away = ("OMP_WAIT_POLICY", "OMP_NUM_THREADS")
    environment = {name: value for name, value in os.environ.items() if name not in away}
    if spin is not None:
        environment["GOMP_SPINCOUNT"] = spin
    command = [sys.executable, "-m", "tests.benchmarks.waiting", "steps"]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(processes)]
    return [float(number) for process in started for number in process.communicate()[0].split()]


def main() -> None:
    """Print a row per spin: median seconds of a step alone and beside another, the settings by turns."""
    seconds: dict[tuple[str, int], list[float]] = {}
    for _ in range(TURNS):
        for processes in (1, 2):
            for name, spin in SPINS.items():
                seconds.setdefault((name, processes), []).extend(measured(spin, processes))
    print("| spin | alone, s | beside another, s | ratio |\n| --- | --- | --- | --- |")
    for name in SPINS:
        alone, both = (statistics.median(seconds[name, processes]) for processes in (1, 2))
        print(f"| {name} | {alone:.2f} | {both:.2f} | {both / alone:.2f} |")


if __name__ == "__main__":
    if sys.argv[1:] == ["steps"]:
        print(*seconds_of_steps())
    else:
        main()
