"""Runs the sides of a comparison by turns in worker processes and turns their seconds into a ratio with an interval."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
THREADS = int(os.environ.get("HARNESS_BENCH_THREADS", "2"))


class Worker:
    """A process of one side; call it with a command and its arguments."""

    def __init__(self, script: str, python: str = sys.executable, threads: int = THREADS) -> None:
        quiet = {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "PYTHONWARNINGS": "ignore"}
        quiet |= {"HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error", "TQDM_DISABLE": "1"}
        self.script = script
        # what is on this side's path is not on the peer's
        away = () if python == sys.executable else ("PYTHONPATH", "VIRTUAL_ENV")
        environment = {name: value for name, value in os.environ.items() if name not in away}
        environment |= quiet | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        self.process = subprocess.Popen(
            [python, str(HERE / script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def __call__(self, do: str, **request: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, f"{self.script} ended with exit code {self.process.wait()}"
        answer: dict[str, Any] = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer

    def close(self) -> None:
        """End the process."""
        self.process.communicate(timeout=60)  # closes both pipes and waits


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times the peer's figure is ours, from repetitions by turns."""

    value: float
    """Ratio of the medians."""
    low: float
    high: float
    """Least and largest ratio of a repetition: of 5 they enclose the median ratio with 94 %
    (1 - 2 / 2^5), of 6 with 97 %."""

    @classmethod
    def of(cls, theirs: Sequence[float], ours: Sequence[float]) -> Ratio:
        """Return the ratio of repetitions, each the peer's figure and ours measured one after the other."""
        each = [their / our for their, our in zip(theirs, ours, strict=True)]
        return cls(value=statistics.median(theirs) / statistics.median(ours), low=min(each), high=max(each))

    def __str__(self) -> str:
        return f"x{self.value:.2f} [{self.low:.2f}, {self.high:.2f}]"


def same_curve(ours: Sequence[float], theirs: Sequence[float], tolerance: float) -> float:
    """Return the largest relative difference of two loss curves; raise `AssertionError` above the tolerance."""
    assert len(ours) == len(theirs), f"{len(ours)} steps here, {len(theirs)} there"
    worst = max(abs(a - b) / abs(b) for a, b in zip(ours, theirs, strict=True))
    assert worst <= tolerance, f"the loss curves differ by {worst:.2g}, expected at most {tolerance}: {ours} {theirs}"
    return worst


def above_model(answer: Mapping[str, Any], prepared: Mapping[str, Any]) -> int:
    """Return peak memory beyond the loaded model and Adam's two moments (fp32), bytes."""
    return int(answer["peak_bytes"] - prepared["base_bytes"] - 8 * prepared["parameters"])
