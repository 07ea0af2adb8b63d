"""How fast training was on this machine, kept for the next plan."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.planning.processors import threads_each
from harness.planning.rates import ASSUMED_FLOPS, measured_rate, read_rate, remember_rate
from harness.planning.run_file import make_run
from harness.run_folder.facts import Spend

NANO, PAPER = make_run({}), make_run({"preset": "paper"})
MILLION = 1_000_000


def reached(flops: float) -> Spend:
    """What a cell spent that reached so many FLOP/s."""
    return Spend(steps=1, flops=2 * flops, seconds=2.0)


def test_the_rate_of_the_last_such_training_of_a_model_of_like_size_is_read_back(tmp_path: Path) -> None:
    remember_rate(tmp_path, NANO, 30 * MILLION, reached(8e10))
    remember_rate(tmp_path, PAPER, MILLION, reached(5e13))
    remember_rate(tmp_path, NANO, MILLION, reached(2e9))
    for parameters, expected in ((MILLION, 2e9), (700_000, 2e9), (30 * MILLION, 8e10), (50 * MILLION, 8e10)):
        rate = read_rate(tmp_path, NANO, parameters)
        assert rate is not None
        assert (rate.slowest, rate.fastest) == (expected, expected)
        assert "last such cells on this machine" in rate.source
    paper = read_rate(tmp_path, PAPER, MILLION)
    assert paper is not None
    assert paper.fastest == 5e13


def test_the_rates_of_the_last_five_cells_are_kept(tmp_path: Path) -> None:
    for flops in (1e8, 3e9, 1e9, 2e9, 2e9, 2e9):
        remember_rate(tmp_path, NANO, MILLION, reached(flops))
    rate = read_rate(tmp_path, NANO, MILLION)
    assert rate is not None
    assert (rate.slowest, rate.fastest) == (1e9, 3e9)


@pytest.mark.parametrize("parameters", [5 * MILLION, 30 * MILLION, 7_000 * MILLION])
def test_the_rate_of_a_nano_model_says_nothing_about_a_larger_one(parameters: int, tmp_path: Path) -> None:
    assert read_rate(tmp_path, NANO, parameters) is None
    remember_rate(tmp_path, NANO, MILLION, reached(1e9))
    assert read_rate(tmp_path, NANO, parameters) is None


def test_a_cell_that_took_no_step_says_nothing_about_the_rate(tmp_path: Path) -> None:
    remember_rate(tmp_path, NANO, MILLION, Spend(steps=0, flops=0.0, seconds=1.0))
    assert not (tmp_path / "rates.json").exists()


@pytest.mark.parametrize(
    "text", [None, "{", "[]", '{"nano": 1e9}', '{"nano": null}', '{"full float32, 8 pairs at once": {"1000000": []}}']
)
def test_without_a_rate_one_is_assumed_for_a_nano_model_and_said_so(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "rates.json").write_text(text)
    rate = read_rate(tmp_path, NANO, MILLION)
    assert rate is not None
    assert rate.slowest == rate.fastest == ASSUMED_FLOPS * threads_each()
    assert "assuming 20 GFLOP/s per core" in rate.source


def test_a_cache_that_cannot_be_written_costs_only_the_estimate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    remember_rate(tmp_path / "file", NANO, MILLION, reached(1e9))
    assert "rates.json was not written" in capsys.readouterr().out


def test_what_an_earlier_version_wrote_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "rates.json").write_text('{"nano": 1e9}')
    remember_rate(tmp_path, NANO, MILLION, reached(1e9))
    assert json.loads((tmp_path / "rates.json").read_text()) == {"full float32, 8 pairs at once": {"1000000": [1e9]}}


def test_a_measured_rate_is_a_share_of_that_of_products_on_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def fake(command: list[str], **options: object) -> SimpleNamespace:
        asked.append(command[-2:])
        return SimpleNamespace(stdout="1e11\n")

    monkeypatch.setattr("subprocess.run", fake)
    wide, narrow, widest = (measured_rate.__wrapped__(width, 4 * width) for width in (576, 128, 8192))
    assert wide is not None
    assert narrow is not None
    assert widest is not None
    assert wide.slowest == wide.fastest == widest.fastest == pytest.approx(0.9e11 * threads_each())
    assert narrow.fastest == pytest.approx(wide.fastest / 2)
    assert asked == [["576", "2304"], ["128", "512"], ["2048", "8192"]]


def test_products_that_cannot_be_timed_give_no_rate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    assert measured_rate.__wrapped__(320, 640) is None


def test_products_are_timed_in_a_process_of_one_thread() -> None:
    rate = measured_rate.__wrapped__(512, 512)
    assert rate is not None
    assert 1e8 < rate.fastest / threads_each() < 1e13  # FLOP/s of a core
