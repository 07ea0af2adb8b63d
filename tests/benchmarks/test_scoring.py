"""Scoring responses: the harness's scorers against a padded forward of transformers with full logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from benchmarks.driver import Ratio, Worker
from benchmarks.ratios import check

REPETITIONS = 5
PAIRS = 24
"""Two responses each."""


@pytest.mark.bench
def test_scoring_costs_a_fraction_of_a_padded_forward(
    benchmark: Any, workers: Callable[[str], Worker], folder_of: Callable[[int | str], str]
) -> None:
    """fp32, V=4096, rows of 8; the start of the engine is shown and not counted."""
    folder = folder_of(4096)
    padded, ours = workers("trl"), {"vllm": workers("ours"), "transformers": workers("ours")}
    asked = ours["vllm"]("requests", folder=folder, first=0, last=PAIRS)["requests"]
    expected = padded("score", requests=asked, folder=folder)["sums"]
    for name, worker in ours.items():
        start = worker("open", name=name, folder=folder, dtype="float32", max_length=4096)["seconds"]
        got = worker("score", requests=asked)["sums"]
        np.testing.assert_allclose(got, expected, rtol=1e-5, err_msg=name)
        worst = np.abs(np.subtract(got, expected)).max()
        print(f"\n{name}: started in {start:.1f} s; differs by at most {worst:.1e} nats per response", end="")
    theirs: list[float] = []
    seconds: dict[str, list[float]] = {name: [] for name in ours}

    def others_turn() -> None:
        theirs.append(padded("score", requests=asked, folder=folder)["seconds"])
        seconds["transformers"].append(ours["transformers"]("score", requests=asked)["seconds"])

    benchmark.pedantic(
        lambda: seconds["vllm"].append(ours["vllm"]("score", requests=asked)["seconds"]),
        setup=others_turn,
        rounds=REPETITIONS,
    )
    check({f"scoring/{name}/time": Ratio.of(theirs, each) for name, each in seconds.items()})
