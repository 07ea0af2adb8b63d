"""Our share of the floor: the time that the needed FLOPs would take at the machine's best rate, over ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from benchmarks.driver import Ratio, Worker
from benchmarks.ratios import check, multiplies_bfloat16

REPETITIONS = 5


@pytest.mark.bench
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_training_runs_at_a_good_share_of_the_floor(
    dtype: str, benchmark: Any, workers: Callable[[str], Worker], folder_of: Callable[[int], str]
) -> None:
    """SimPO, V=4096; the rates are measured before every repetition, by the same process."""
    if dtype == "bfloat16" and not multiplies_bfloat16():
        pytest.skip("this processor has no bf16 products: their emulation would be measured")
    ours = workers("ours")
    ours("prepare", folder=folder_of(4096), dtype=dtype, batch_pairs=4, micro_pairs=4, learning_rate=1e-3, n_pairs=16)
    ours("train", loss="simpo")
    floors: list[float] = []
    seconds: list[float] = []
    rates: list[dict[str, float]] = []

    def floor_first() -> None:
        found = ours("floor")
        floors.append(found["seconds"] * 3 / 4)  # of four steps the first is not timed
        rates.append(found["rates"])

    benchmark.pedantic(
        lambda: seconds.append(ours("train", loss="simpo")["step_seconds"]), setup=floor_first, rounds=REPETITIONS
    )
    best = {name: max(each[name] for each in rates) / 1e9 for name in rates[0]}
    print(f"\n{dtype}: GFLOP/s " + ", ".join(f"{name} {value:.0f}" for name, value in best.items()), end="")
    check({f"floor/{dtype}/share": Ratio.of(floors, seconds)})
