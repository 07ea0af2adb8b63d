"""The record of a cell that failed: what it says before its model is loaded is what a trained one says."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.api import Dataset
from harness.compare import run_gate
from harness.manager import Owner, losses, plugin_manager, resolver
from harness.models.families import FAMILIES
from harness.planning.grid import System, cells, select
from harness.planning.job import Job, failed_record, loss_facts
from harness.planning.presets import NAMED, start_preset
from harness.planning.run_file import make_run
from harness.run_folder.board_key import BoardKey
from harness.run_folder.facts import LossFacts
from harness.run_folder.store import write_record

MANAGER = plugin_manager()
(CELL,) = cells(["./mine"], select("simpo", list(losses(MANAGER)), resolver(MANAGER)), [0])


def job_of(folder: Path, **asked: Any) -> Job:
    scorer: Any = SimpleNamespace(name="transformers")
    return Job(
        run=make_run({"models": ("./mine",), **asked}),
        model=asked.get("models", ("./mine",))[0],
        cells=(CELL,),
        owners={"simpo": Owner(distribution="preference-harness", version="1", entry_point="simpo")},
        dataset=Dataset(name="embedded", source="", train=(), dev=(), test=()),
        scorer=scorer,
        canary=None,
        scorer_note="",
        folder=folder,
        cache=folder / "cache",
        keep_checkpoints=False,
        side_by_side=1,
        threads=1,
    )


@pytest.mark.parametrize(
    ("asked", "preset"),
    [
        ({"models": ("qwen",)}, "nano"),
        ({"models": ("qwen",), "preset": "paper"}, "paper"),
        ({"models": ("qwen",), "start": "org/tuned"}, "custom"),
        ({"models": ("./mine",)}, "custom"),
        ({"models": ("org/name",), "preset": "paper"}, "custom"),
        ({"models": ("smollm2",)}, "custom"),
        ({"models": ("llama",), "preset": "small"}, "small"),
    ],
)
def test_a_failed_record_has_the_preset_of_the_checkpoint_that_it_would_have_started_from(
    asked: dict[str, Any], preset: str, tmp_path: Path
) -> None:
    assert failed_record(job_of(tmp_path, **asked), CELL, "on purpose").model.preset == preset


def test_a_gate_of_a_local_model_whose_cell_failed_ends_with_6(tmp_path: Path) -> None:
    base, new = tmp_path / "base", tmp_path / "new"
    sound = failed_record(job_of(base), CELL, "").model_copy(update={"board": BoardKey()})  # of a run before board keys
    scored = {
        "status": "ok",
        "tokens_fingerprint": "tokens",
        "dataset": sound.dataset.model_copy(update={"test_pairs": 1}),
        "model": sound.model.model_copy(update={"preset": start_preset("./mine", "nano", None)}),
    }
    write_record(base / "cells" / CELL.key, sound.model_copy(update=scored))
    failed = failed_record(job_of(new), CELL, "no room on purpose").model_copy(update={"board": BoardKey()})
    write_record(new / "cells" / CELL.key, failed)
    assert run_gate(base, new, 0.01).exit_code == 6


def test_the_models_with_a_name_of_their_own_are_the_families() -> None:
    assert tuple(FAMILIES) == NAMED


@pytest.mark.parametrize(
    ("name", "keys", "reference_based"),
    [
        ("dpo", {"needs_reference": True}, True),
        ("simpo", {"needs_reference": False}, False),
        ("alpha-dpo", {"needs_reference": True, "reward_needs_reference": False}, False),
    ],
)
def test_a_record_tells_the_reward_from_the_loss_only_where_they_read_the_reference_differently(
    name: str, keys: dict[str, bool], reference_based: bool, tmp_path: Path
) -> None:
    owner = Owner(distribution="preference-harness", version="1", entry_point=name)
    job = dataclasses.replace(job_of(tmp_path), owners={name: owner})
    facts = loss_facts(job, System(loss=resolver(MANAGER)(name, {}), label=name))
    written = facts.as_json()
    assert {key: value for key, value in written.items() if "needs_reference" in key} == keys
    assert LossFacts.of(written).reference_based == reference_based
