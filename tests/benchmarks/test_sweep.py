"""A sweep of seven losses: trained and scored here with shared tokens and reference, against seven runs of TRL.

TRL has no GaPO and no GapPO; SimPO, which costs the same, stands in for both. Each of its runs tokenises, trains, and
is scored by padded rows with full logits. What is outside: loading the checkpoint, and starting the scoring engine.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.driver import Ratio, Worker, same_curve
from benchmarks.ratios import check

REPETITIONS = 5
PAIRS, BATCH, OUR_MICRO = 16, 4, 4
SCORED = 16
"""Held-out pairs, two responses each."""
STANDS_FOR = {
    "simpo": "simpo", "cpo": "cpo", "ipo": "ipo", "alphapo": "alphapo", "dpo": "dpo", "gapo": "simpo", "gappo": "simpo",
}  # fmt: skip  # our loss: TRL's
Costs = dict[str, float]


@pytest.mark.bench
def test_a_sweep_of_seven_losses_costs_a_fraction_of_seven_runs(
    benchmark: Any, workers: Callable[[str], Worker], folder_of: Callable[[int | str], str], tmp_path: Path
) -> None:
    """The table of parts goes to standard output."""
    common = {"folder": folder_of(4096), "dtype": "float32", "batch_pairs": BATCH}
    common |= {"learning_rate": 1e-3}
    ours, engine, trl = workers("ours"), workers("ours"), workers("trl")
    asked = ours("requests", folder=common["folder"], first=PAIRS, last=PAIRS + SCORED)["requests"]
    started = engine("open", name="vllm", folder=common["folder"], dtype="float32", max_length=4096)["seconds"]
    here: list[Costs] = []
    there: list[Costs] = []
    mine, curves, sums = _our_sweep(ours, engine, common, asked, tmp_path)
    other, their_curves, their_sums = _their_sweep(
        trl, common, asked, ours("prepare", n_pairs=PAIRS, micro_pairs=OUR_MICRO, **common)
    )
    for name, stand_in in STANDS_FOR.items():
        if name == stand_in:
            same_curve(curves[name], their_curves[name], 1e-4)
            np.testing.assert_allclose(sums[name], their_sums[name], rtol=1e-4, err_msg=name)

    def their_turn() -> None:
        there.append(
            _their_sweep(trl, common, asked, ours("prepare", n_pairs=PAIRS, micro_pairs=OUR_MICRO, **common))[0]
        )

    benchmark.pedantic(
        lambda: here.append(_our_sweep(ours, engine, common, asked, tmp_path)[0]), setup=their_turn, rounds=REPETITIONS
    )
    print(f"\nsweep of {len(STANDS_FOR)} losses, {PAIRS} pairs trained, {SCORED} scored; engine start {started:.1f} s")
    for part in mine | other:
        found = [statistics.median(each.get(part, 0.0) for each in side) for side in (here, there)]
        print(f"  {part:<12}{found[0]:8.2f} s here{found[1]:8.2f} s there")
    check({"sweep/seven losses/time": Ratio.of([sum(c.values()) for c in there], [sum(c.values()) for c in here])})


def _our_sweep(
    ours: Worker, engine: Worker, common: dict[str, Any], asked: list[Any], tmp_path: Path
) -> tuple[Costs, dict[str, list[float]], dict[str, list[float]]]:
    prepared = ours("prepare", n_pairs=PAIRS, micro_pairs=OUR_MICRO, **common)
    costs = {"tokenise": prepared["seconds"], "reference": 0.0, "train": 0.0, "save": 0.0, "score": 0.0}
    curves, sums = {}, {}
    for name in STANDS_FOR:
        trained = ours("train", loss=name, share_reference=True)
        costs["train"] += trained["seconds"]
        costs["reference"] += trained["reference_seconds"]
        costs["save"] += ours("save", folder=str(tmp_path / name))["seconds"]
        scored = engine("score", requests=asked, folder=str(tmp_path / name))
        costs["score"] += scored["seconds"]
        curves[name], sums[name] = trained["losses"], scored["sums"]
    return costs, curves, sums


def _their_sweep(
    trl: Worker, common: dict[str, Any], asked: list[Any], here: dict[str, Any]
) -> tuple[Costs, dict[str, list[float]], dict[str, list[float]]]:
    costs = {"tokenise": 0.0, "train": 0.0, "score": 0.0}
    curves, sums = {}, {}
    for name in STANDS_FOR.values():
        # its fastest exact setting is a pair at a time; CPO's NLL is a mean over the tokens of a batch
        prepared = trl("prepare", order=here["order"], loss=name, micro_pairs=BATCH if name == "cpo" else 1, **common)
        assert prepared["ids"] == here["ids"], "the two sides see different token ids"
        trained, scored = trl("train"), trl("score", requests=asked)
        costs["tokenise"] += prepared["seconds"]
        costs["train"] += trained["seconds"]
        costs["score"] += scored["seconds"]
        curves[name], sums[name] = trained["losses"], scored["sums"]
    return costs, curves, sums
