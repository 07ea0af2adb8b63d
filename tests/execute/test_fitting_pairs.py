"""`--micro-pairs auto`, against the plan's own memory of each number of pairs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from harness.api import HarnessError, LoadOptions
from harness.data.sources import load
from harness.execute.fitting_pairs import with_fitting_pairs
from harness.execute.model_facts import shape_in
from harness.manager import datasets, plugin_manager, resolver
from harness.planning.estimates import visits
from harness.planning.grid import Cell, System
from harness.planning.memory import Batch, Device, needed_memory
from harness.planning.run_file import Run, make_run

DATA = load("embedded", LoadOptions(), datasets(plugin_manager()))
CELL = Cell(system=System(loss=resolver(plugin_manager())("dpo", {}), label="dpo"), model="qwen", seed=0, key="dpo")


def asked(**others: Any) -> Run:
    return make_run({"batch_pairs": 12, "micro_pairs": "auto", **others})


def found(run: Run, memory: float, *, processes: int = 1) -> Any:
    device = Device(memory=memory, gpu=True, name="the GPU")
    return with_fitting_pairs(run, DATA, None, [CELL], device, side_by_side=1, processes=processes).micro_pairs


def needed(pairs: int, checkpointing: str) -> float:
    run = asked(micro_pairs=pairs, activation_checkpointing=checkpointing)
    tokens, shape = visits(DATA, run).of(None), shape_in(run, "qwen")
    assert shape is not None
    device = Device(memory=1e15, gpu=True, name="the GPU")
    return needed_memory(run, shape, Batch(packed=tokens.packed, longest=tokens.longest), device).total / 0.92


@pytest.mark.parametrize("pairs", [1, 2, 3, 4, 6, 12])
def test_the_largest_divisor_of_a_step_that_fits_is_taken(pairs: int) -> None:
    assert found(asked(activation_checkpointing="off"), needed(pairs, "off") + 1) == pairs


def test_processes_that_share_a_step_divide_it_first() -> None:
    assert found(asked(), 1e15, processes=2) == 6
    assert found(asked(), 1e15, processes=3) == 4


def test_fewer_pairs_are_taken_before_activations_are_computed_again_and_these_before_nothing() -> None:
    assert needed(2, "on") < needed(1, "off")
    assert found(asked(), needed(2, "off") + 1) == 2
    assert found(asked(), needed(2, "on") + 1) == max(
        n for n in (1, 2, 3, 4, 6, 12) if needed(n, "on") <= needed(2, "on")
    )
    assert found(asked(), 1.0) == 1


def test_a_model_of_unknown_size_and_a_device_of_unknown_memory_ask_for_a_number() -> None:
    with pytest.raises(HarnessError, match=r"--micro-pairs got auto, and the memory of the GPU is not known here"):
        found(asked(), math.inf)
    with pytest.raises(HarnessError, match=r"--micro-pairs got auto, and the size of org/name is not known"):
        found(asked(models=["org/name"]), 1e15)


@pytest.mark.parametrize("value", [0, -1, 1.5, "all", True])
def test_nothing_else_is_taken(value: object) -> None:
    with pytest.raises(
        HarnessError, match=f"^--micro-pairs got {value!r}: expected a whole number of at least 1, or auto"
    ):
        asked(micro_pairs=value)


def test_the_plan_says_what_was_found(harness: Any, tmp_path: Path) -> None:
    done = harness(
        "run", "--plugins", "dpo", "--micro-pairs", "auto", "--dry-run", "--output-dir", str(tmp_path / "run")
    )
    assert "with 16 pairs at once" in done.stdout, done.stdout + done.stderr
