"""How fast training was on this machine, kept for the next plan."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from harness.planning.rates import ASSUMED_FLOPS, read_rate, remember_rate
from harness.run_folder.facts import Spend


def test_the_rate_of_the_last_cell_is_read_back_by_preset(tmp_path: Path) -> None:
    remember_rate(tmp_path, "nano", Spend(steps=1, flops=1e9, seconds=1.0))
    remember_rate(tmp_path, "paper", Spend(steps=1, flops=5e13, seconds=1.0))
    remember_rate(tmp_path, "nano", Spend(steps=1, flops=2e9, seconds=1.0))
    assert read_rate(tmp_path, "nano").flops_per_second == 2e9
    assert "last run on this machine" in read_rate(tmp_path, "nano").source
    assert json.loads((tmp_path / "rates.json").read_text()) == {"nano": 2e9, "paper": 5e13}


def test_a_cell_that_took_no_step_says_nothing_about_the_rate(tmp_path: Path) -> None:
    remember_rate(tmp_path, "nano", Spend(steps=0, flops=0.0, seconds=1.0))
    assert not (tmp_path / "rates.json").exists()


@pytest.mark.parametrize("text", [None, "{", "[]", '{"paper": 1}', '{"nano": null}'])
def test_without_a_rate_one_is_assumed_and_said_so(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "rates.json").write_text(text)
    rate = read_rate(tmp_path, "nano")
    assert rate.flops_per_second == ASSUMED_FLOPS * (os.cpu_count() or 1)
    assert "assuming 20 GFLOP/s per core" in rate.source


def test_a_cache_that_cannot_be_written_costs_only_the_estimate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    remember_rate(tmp_path / "file", "nano", Spend(steps=1, flops=1e9, seconds=1.0))
    assert "rates.json was not written" in capsys.readouterr().out
    (tmp_path / "rates.json").write_text("[]")
    remember_rate(tmp_path, "nano", Spend(steps=1, flops=1e9, seconds=1.0))
    assert "rates.json was not written" in capsys.readouterr().out
