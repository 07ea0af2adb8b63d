"""Losses over a grid of settings: best, median, worst and what beats the best DPO, against counts by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.leaderboard import renders, table_of, write
from harness.leaderboard.decide.sensitivity import Sensitivity

SETTINGS = {"protocol": 1, "dataset": "embedded", "preset": "nano", "budget": "pairs=512", "evaluated_on": "test"}
RIGHT = {
    ("dpo", 0.001): 60, ("dpo", 0.002): 72,
    ("simpo(beta=1)", 0.001): 54, ("simpo(beta=1)", 0.002): 66,
    ("simpo(beta=2)", 0.001): 96, ("simpo(beta=2)", 0.002): 108,
}  # fmt: skip
"""Of 120 test pairs, by label and learning rate."""
DEV = {
    ("dpo", 0.001): 0.9, ("dpo", 0.002): 0.5,
    ("simpo(beta=1)", 0.001): 0.5, ("simpo(beta=1)", 0.002): 0.5,
    ("simpo(beta=2)", 0.001): 0.8, ("simpo(beta=2)", 0.002): 0.7,
}  # fmt: skip
"""On the development split, where another setting of each is the best."""


def made(folder: Path, add_cell: Callable[..., None], *, dev: bool, plugins: str = "dpo,simpo:beta=1|2") -> Path:
    for rate in (0.001, 0.002):
        run = folder if rate == 0.001 else folder / "at-learning_rate=0.002"
        board = {**SETTINGS, "learning_rate": rate}
        for label in ("base", "longer-wins"):
            add_cell(run, label, np.where(np.arange(120) < 60, 1.0, -1.0), board=board)
        for (name, at), right in RIGHT.items():
            if at == rate:
                on_dev = {"metrics": {"pairwise_accuracy": DEV[name, at]}, "files": {}}
                end = {"fraction": 1.0, "step": 1, "metrics": {}, "files": {}, "dev": on_dev}
                more: dict[str, Any] = {"points": [end]} if dev else {}
                add_cell(run, name, np.where(np.arange(120) < right, 1.0, -1.0), board=board, **more)
        manifest = {"models": ["qwen"], "cells": [], "run": {"plugins": plugins}}
        (run / "manifest.json").write_text(json.dumps(manifest))
    return folder


def over(run: Path) -> Sensitivity:
    (found,) = table_of(run)[0].sensitivity
    return found


def test_the_best_setting_is_chosen_on_dev_and_told_as_on_test(tmp_path: Path, add_cell: Callable[..., None]) -> None:
    found = over(made(tmp_path, add_cell, dev=True))
    assert found.on_dev
    dpo, simpo = found.losses["dpo"], found.losses["simpo"]
    assert (dpo.best, dpo.best_value.value) == ("dpo, learning rate 0.001", 60 / 120)
    assert (simpo.best, simpo.best_value.value) == ("simpo(beta=2), learning rate 0.001", 96 / 120)
    assert (simpo.better, simpo.settings) == (3, 4)  # than 60 right: 66, 96 and 108; 54 is not


def test_median_worst_and_spread_are_those_counted_by_hand(tmp_path: Path, add_cell: Callable[..., None]) -> None:
    simpo = over(made(tmp_path, add_cell, dev=False)).losses["simpo"]
    assert simpo.median == pytest.approx((66 + 96) / 2 / 120)
    assert (simpo.worst, simpo.worst_value.value) == ("simpo(beta=1), learning rate 0.001", 54 / 120)
    assert simpo.over_rates == pytest.approx(((66 + 108) / 2 - (54 + 96) / 2) / 120)


def test_without_dev_no_best_is_told_and_the_best_dpo_is_that_on_test(
    tmp_path: Path, add_cell: Callable[..., None]
) -> None:
    found = over(made(tmp_path, add_cell, dev=False))
    assert not found.on_dev
    assert all(spread.best is None for spread in found.losses.values())
    simpo = found.losses["simpo"]
    assert (simpo.better, simpo.shown_better) == (2, 2)  # than 72 right: 96 and 108, by 24 and 36 of the same pairs
    assert found.losses["dpo"].better is None


def test_every_rendering_has_it_and_a_run_of_single_settings_has_nothing_of_it(
    tmp_path: Path, add_cell: Callable[..., None]
) -> None:
    run = made(tmp_path, add_cell, dev=False)
    write(run)
    texts = renders(table_of(run)[0])
    (found,) = json.loads(texts["leaderboard.json"])["sensitivity"]
    assert found["losses"]["simpo"]["settings"] == 4
    assert "| simpo | 4 | – | 0.675 | 0.450 " in texts["leaderboard.md"]
    assert "worst of pairwise_accuracy over settings" in texts["leaderboard.csv"]
    assert "<h3>qwen: own reward over settings</h3>" in (run / "leaderboard.html").read_text()
    alone = made(tmp_path / "alone", add_cell, dev=False, plugins="dpo,simpo:beta=1,simpo:beta=2")
    (alone / "at-learning_rate=0.002").rename(tmp_path / "elsewhere")
    assert table_of(alone)[0].sensitivity == ()  # as a folder of an earlier version has it


def with_trials(folder: Path, add_cell: Callable[..., None]) -> Path:
    """Three trials each of dpo and simpo, of which one has no result, beside the run that they are of."""
    made(folder, add_cell, dev=False, plugins="dpo,simpo:beta=1,simpo:beta=2")
    (folder / "at-learning_rate=0.002").rename(folder.parent / f"{folder.name}-elsewhere")
    board = {name: value for name, value in SETTINGS.items() if name != "learning_rate"}
    board |= {"evaluated_on": "dev", "trial_learning_rates": [0.00025, 0.004], "tuning_seed": 0}
    for loss, counts in {"dpo": (60, 72, 54), "simpo": (96, 60, None)}.items():
        for number, right in enumerate(counts):
            rate = 0.001 * (number + 1)
            tuning = {"system": loss, "number": number, "options": {}}
            changed = {"board": board, "learning_rate": rate, "tuning": tuning}
            changed |= {"loss": {"name": loss, "options": {}, "tags": ["pairwise", "summed"], "plugin": "test"}}
            margins = None if right is None else np.where(np.arange(120) < right, 1.0, -1.0)
            failed = {"status": "diverged", "reason": "the loss is nan"} if right is None else {}
            add_cell(folder / "tuning", f"{loss} trial {number}", margins, **changed, **failed)
    return folder


def test_trials_are_told_on_dev_with_the_share_that_beats_the_best_dpo(
    tmp_path: Path, add_cell: Callable[..., None]
) -> None:
    run = with_trials(tmp_path / "run", add_cell)
    found = over(run)
    assert (found.trials, found.on_dev, found.shared.evaluated_on) == (True, True, "dev")
    dpo, simpo = found.losses["dpo"], found.losses["simpo"]
    assert (dpo.settings, dpo.best, dpo.best_value.value) == (3, "dpo trial 1, learning rate 0.002", 72 / 120)
    assert (dpo.median, dpo.worst, dpo.over_rates) == (60 / 120, "dpo trial 2, learning rate 0.003", None)
    assert (simpo.settings, simpo.better, simpo.shown_better) == (2, 1, 1)  # than 72 right: 96, and 60 is not
    assert found.left_out == ("simpo trial 2, learning rate 0.003",)
    write(run)
    texts = renders(table_of(run)[0])
    (told,) = json.loads(texts["leaderboard.json"])["sensitivity"]
    assert told["trials"] is True
    assert "qwen: own reward over trials, on the development split" in texts["leaderboard.md"]
    assert "1 of 2, 1 shown" in texts["leaderboard.md"]
    assert "best of pairwise_accuracy over trials, on dev" in texts["leaderboard.csv"]
