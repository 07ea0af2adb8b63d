"""Verdicts, exit codes and reports of the gate, on made-up runs on disk."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from made_records import made_manifest
from scipy import stats as scipy_stats

from harness.__main__ import main
from harness.api import HarnessError
from harness.compare import run_calibrate, run_compare, run_gate
from harness.compare.comparison import compare
from harness.compare.verdict import Status, gate
from harness.run_folder.manifest import write_manifest
from harness.run_folder.paths import NOISE_FLOOR

Write = Callable[..., None]
RNG = np.random.default_rng
HOSTILE = '<b>|"&\x1b[31m'


def model_margins(seed: int = 0, n: int = 2000, accuracy: float = 0.72) -> np.ndarray:
    """Margins of which about this share is right."""
    return RNG(seed).normal(scipy_stats.norm.ppf(accuracy), 1, n)


def write_both(base: Path, new: Path, write_cell: Write, after: np.ndarray, label: str = "simpo") -> None:
    write_cell(base, label, model_margins(n=len(after)))
    write_cell(new, label, after)


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "base", tmp_path / "new"


def test_the_same_data_passes(runs: tuple[Path, Path], write_cell: Write) -> None:
    for n in (2000, 8):  # identical runs need no power
        write_both(*runs, write_cell, model_margins(n=n))
        text, code = run_gate(*runs, 0.01)
        assert code == 0, text
        assert text.startswith("Pass: none of 1 cell is worse")


def test_compare_gate_and_calibrate_take_the_metric_that_base_is_ranked_by(
    runs: tuple[Path, Path], write_cell: Write
) -> None:
    write_both(*runs, write_cell, model_margins())
    assert "Noise floor of pairwise_accuracy:" in run_calibrate(runs).text  # what older manifests mean
    write_manifest(runs[0], made_manifest({"run": {"ranked_by": "pairwise_accuracy@mean"}}))
    assert run_compare(*runs).text.startswith("pairwise_accuracy@mean, NEW - BASE")
    assert "(pairwise_accuracy@mean, NEW against BASE" in run_gate(*runs, 0.01).text
    assert "Noise floor of pairwise_accuracy@mean:" in run_calibrate(runs).text
    assert run_compare(*runs, "spearman").text.startswith("spearman, NEW - BASE")


def test_five_percent_of_right_pairs_flipped_is_a_regression(runs: tuple[Path, Path], write_cell: Write) -> None:
    after = model_margins()
    right = np.flatnonzero(after > 0)
    flipped = RNG(1).choice(right, len(right) // 20, replace=False)
    after[flipped] *= -1
    write_both(*runs, write_cell, after)
    for label in ("cpo", "ipo", "dpo"):  # and is found among cells that are as they were
        write_both(*runs, write_cell, model_margins() + RNG(2).normal(0, 1e-3, 2000), label=label)
    text, code = run_gate(*runs, 0.01)
    assert code == 3, text
    assert text.startswith("Regression: simpo on qwen (pairwise_accuracy, NEW against BASE, margin 0.01)")
    change = -len(flipped) / 2000
    assert f"{change:+.4f}" in text


def test_a_loss_with_its_sign_wrong_is_a_regression(runs: tuple[Path, Path], write_cell: Write) -> None:
    write_both(*runs, write_cell, -model_margins(n=300))
    assert run_gate(*runs, 0.01).exit_code == 3
    assert run_gate(*runs, 0.01, "brier").exit_code == 3  # better when lower
    assert run_gate(*runs, 0.01, "pairwise_accuracy@mean").exit_code == 3


def test_an_interval_that_straddles_the_margin_is_inconclusive(runs: tuple[Path, Path], write_cell: Write) -> None:
    write_both(*runs, write_cell, model_margins() + RNG(3).normal(0, 0.6, 2000))
    text, code = run_gate(*runs, 0.003)
    assert code == 4, text
    verdict = gate(compare(*runs), 0.003)
    assert gate(compare(*runs), verdict.smallest_margin * 1.001).status is Status.PASS
    assert gate(compare(*runs), verdict.smallest_margin * 0.999).status is Status.INCONCLUSIVE


def test_an_improvement_passes(runs: tuple[Path, Path], write_cell: Write) -> None:
    write_both(*runs, write_cell, model_margins() + 0.5)
    assert run_gate(*runs, 0.01).exit_code == 0


def test_few_pairs_do_not_show_that_nothing_was_lost(runs: tuple[Path, Path], write_cell: Write) -> None:
    # no pair changes sides, but the rewards do: with 100 pairs up to z^2 / (100 + z^2) = 0.037 may be hidden
    write_both(*runs, write_cell, model_margins(n=100) * 1.01)
    assert run_gate(*runs, 0.03).exit_code == 4
    assert gate(compare(*runs), 0.03).smallest_margin == pytest.approx(1.959964**2 / (100 + 1.959964**2))
    assert run_gate(*runs, 0.04).exit_code == 0
    write_both(*runs, write_cell, model_margins(n=20) * 1.01)
    text, code = run_gate(*runs, 0.5)
    assert code == 4
    assert "20 prompts; fewer than 30" in text


def exit_code(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Return what the command `harness` with these arguments exits with."""
    monkeypatch.setattr("sys.argv", ["harness", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)


BOARD = {"dataset": "embedded", "preset": "nano", "budget": "pairs=512", "learning_rate": 1e-3, "evaluated_on": "test"}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {"dataset": {"name": "embedded", "fingerprint": "data-2", "test_pairs": 1}},
            ["dataset fingerprint 'data-1'", "'data-2'"],
        ),
        ({"tokens_fingerprint": "others"}, ["tokens fingerprint of qwen 'tokens-qwen'", "'others'"]),
        ({"protocol": 2}, ["protocol 1 in", "2 in"]),
        ({"board": BOARD | {"budget": "pairs=64"}}, ["budget 'pairs=512' and 'pairs=64'"]),
        ({"board": BOARD | {"learning_rate": 0.1}}, ["learning_rate 0.001 and 0.1"]),
        ({"loss": {"name": "simpo", "options": {"beta": 2.5}}}, ["simpo on qwen", "beta was 2.0, is 2.5"]),
    ],
)
def test_runs_that_may_not_be_compared_end_with_2_and_what_differs_is_named(
    runs: tuple[Path, Path],
    write_cell: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    changed: dict[str, Any],
    said: list[str],
) -> None:
    for run, own in zip(runs, ({}, changed), strict=True):
        write_cell(run, "simpo", model_margins(n=40), **own)
        if "loss" in changed:  # one cell must be comparable for the other's options to be told
            write_cell(run, "dpo", model_margins(n=40))
    report, junit = tmp_path / "gate.json", tmp_path / "gate.xml"
    report.write_text("of an earlier gate")
    assert exit_code(monkeypatch, "gate", *runs, "--json", report, "--junit", junit) == 2
    printed = capsys.readouterr()
    for part in said:
        assert part in printed.err
    assert printed.err.count("\n") == 1
    content = json.loads(report.read_text())
    assert (content["status"], content["exit_code"], content["comparison"]) == ("not comparable", 2, None)
    assert ElementTree.parse(junit).find(".//error") is not None


def test_the_command_ends_with_the_code_of_each_verdict(
    runs: tuple[Path, Path], write_cell: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base, new = runs
    write_cell(new, "simpo", model_margins())
    assert exit_code(monkeypatch, "gate", base, new) == 5
    write_cell(base, "simpo", model_margins())
    assert exit_code(monkeypatch, "gate", base, new) == 0
    write_cell(new, "simpo", -model_margins())
    assert exit_code(monkeypatch, "gate", base, new) == 3
    write_cell(
        new, "simpo", model_margins(seed=1)
    )  # unpaired: standard error about sqrt(2 * 0.72 * 0.28 / 2000) = 0.014
    assert exit_code(monkeypatch, "gate", base, new) == 4
    write_cell(new, "simpo", status="failed", reason="out of memory")
    assert exit_code(monkeypatch, "gate", base, new) == 6
    assert exit_code(monkeypatch, "gate", base) == 2
    assert "expected two, BASE and NEW" in capsys.readouterr().err


def test_comparing_says_what_differs_in_the_settings_and_refuses_nothing(
    runs: tuple[Path, Path], write_cell: Write, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for run, budget in zip(runs, ("pairs=512", "pairs=64"), strict=True):
        write_cell(run, "simpo", model_margins(n=40), board=BOARD | {"budget": budget})
    assert exit_code(monkeypatch, "compare", *runs) == 0
    assert "budget pairs=512 / pairs=64" in capsys.readouterr().out


@pytest.mark.parametrize("margin", [0.0, -0.01, 1.0, float("nan")])
def test_a_margin_that_is_none_is_refused(runs: tuple[Path, Path], margin: float) -> None:
    with pytest.raises(HarnessError, match="expected a number above 0 and below 1"):
        run_gate(*runs, margin)


def test_a_metric_of_which_no_way_is_better_is_refused(runs: tuple[Path, Path]) -> None:
    with pytest.raises(HarnessError, match="got --metric length_slope, expected one of pairwise_accuracy"):
        run_gate(*runs, 0.01, "length_slope")


def test_no_baseline_is_no_regression(runs: tuple[Path, Path], write_cell: Write, tmp_path: Path) -> None:
    write_cell(runs[1], "one", np.ones(40))
    junit = tmp_path / "gate.xml"
    assert run_gate(*runs, 0.01, junit_file=junit).exit_code == 5  # no folder
    suite = ElementTree.parse(junit).getroot()[0]
    assert (suite.get("failures"), suite.get("errors"), suite.get("skipped")) == ("0", "0", "1")
    (runs[0] / "cells").mkdir(parents=True)
    assert run_gate(*runs, 0.01).exit_code == 5  # no record
    write_cell(runs[0], "one", status="failed", reason="out of memory")
    text, code = run_gate(*runs, 0.01)
    assert (code, text.partition(":")[0]) == (5, "No baseline")


def test_cells_that_came_to_nothing_in_new_decide_before_all_else(runs: tuple[Path, Path], write_cell: Write) -> None:
    write_both(*runs, write_cell, -model_margins(n=300))
    write_cell(runs[0], "two", model_margins(n=300))
    write_cell(runs[1], "two", status="diverged", reason="loss became NaN at step 7")
    text, code = run_gate(*runs, 0.01)
    assert code == 6
    assert text.startswith("Failed cells: 1 of NEW without a complete result. simpo on qwen regressed.")
    assert "two on qwen, seed 0: diverged: loss became NaN at step 7" in text


def test_pairs_that_lost_their_score_do_not_pass(runs: tuple[Path, Path], write_cell: Write) -> None:
    after = model_margins(n=300)
    after[:3] = np.nan
    write_both(*runs, write_cell, after)
    text, code = run_gate(*runs, 0.5)
    assert code == 6
    assert "3 examples have a value in BASE and none in NEW" in text
    write_both(*runs, write_cell, np.full(300, np.nan))
    assert run_gate(*runs, 0.5).exit_code == 6


@pytest.fixture
def hostile(runs: tuple[Path, Path], write_cell: Write) -> tuple[Path, Path]:
    for run, margins in zip(runs, (model_margins(n=300), -model_margins(n=300)), strict=True):
        write_cell(run, HOSTILE, margins, model="gemma")
        write_cell(run, "fine", model_margins(n=300))
    write_cell(runs[0], "gone|", model_margins(n=300))
    return runs


def test_junit_is_xml_with_a_case_a_cell_and_one_over_all(hostile: tuple[Path, Path], tmp_path: Path) -> None:
    run_gate(*hostile, 0.01, junit_file=tmp_path / "gate.xml")
    suite = ElementTree.parse(tmp_path / "gate.xml").getroot()[0]
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert set(cases) == {'<b>|"&\\x1b[31m', "fine", "gone|", "overall"}
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("4", "2", "1")
    failure = cases['<b>|"&\\x1b[31m'].find("failure")
    assert failure is not None
    assert failure.get("type") == "regression"
    assert "difference -0." in str(failure.get("message"))
    assert cases["fine"].find("failure") is None
    assert cases["gone|"].find("skipped") is not None


@pytest.fixture
def shaken(runs: tuple[Path, Path], write_cell: Write) -> tuple[Path, Path]:
    """Two runs of one seed in which `simpo` and `dpo` differ a little."""
    for label in ("simpo", "dpo"):
        write_both(*runs, write_cell, model_margins() + RNG(3).normal(0, 0.05, 2000), label=label)
    return runs


def test_a_pass_on_one_seed_without_a_noise_floor_is_of_these_trained_models(
    shaken: tuple[Path, Path], tmp_path: Path
) -> None:
    reports = {f"{kind}_file": tmp_path / kind for kind in ("json", "junit", "markdown")}
    text, code = run_gate(*shaken, 0.05, **reports)
    headline = (
        "Pass for these trained models: none of 2 cells is worse (pairwise_accuracy, NEW against BASE, margin 0.05). "
        "One seed and no noise floor: another training run may differ by more than the margin."
    )
    assert code == 0
    assert text.startswith(headline)
    content = json.loads((tmp_path / "json").read_text())
    assert (content["headline"], content["covers"], content["comparison"]["covers"]) == (headline, *["prompts"] * 2)
    properties = {one.get("name"): one.get("value") for one in ElementTree.parse(tmp_path / "junit").iter("property")}
    assert properties == {"headline": headline, "covers": "prompts"}
    assert "One seed and no noise floor" in (tmp_path / "markdown").read_text()


def test_a_regression_on_one_seed_says_so_too(runs: tuple[Path, Path], write_cell: Write) -> None:
    write_both(*runs, write_cell, -model_margins(n=300))
    assert "One seed and no noise floor" in run_gate(*runs, 0.01).text.splitlines()[0]


def test_cells_that_are_the_same_bits_need_no_such_sentence(runs: tuple[Path, Path], write_cell: Write) -> None:
    write_both(*runs, write_cell, model_margins())
    assert "One seed" not in run_gate(*runs, 0.05).text


def test_a_gate_says_what_its_intervals_cover(shaken: tuple[Path, Path], write_cell: Write, tmp_path: Path) -> None:
    base, new = shaken
    run_calibrate([base, new])
    with_floor = compare(base, new)
    assert with_floor.covers == "prompts and reruns"
    assert gate(with_floor, 0.3).headline.startswith("Pass: none of 2 cells")
    assert "One seed" not in gate(with_floor, 0.3).headline
    for run in shaken:  # and one cell with two seeds is not enough
        write_cell(run, "simpo", model_margins(seed=1), seed=1)
    (base / NOISE_FLOOR).unlink()
    assert compare(base, new).covers == "prompts"
    for run in shaken:
        write_cell(run, "dpo", model_margins(seed=1), seed=1)
    with_seeds = compare(base, new)
    assert with_seeds.covers == "prompts and seeds"
    assert "One seed" not in gate(with_seeds, 0.05).headline
    nothing = tmp_path / "verdict.json"
    run_gate(tmp_path / "nowhere", new, 0.01, json_file=nothing)
    assert json.loads(nothing.read_text())["covers"] is None


def test_markdown_shows_names_as_they_are(hostile: tuple[Path, Path], tmp_path: Path) -> None:
    run_gate(*hostile, 0.01, markdown_file=tmp_path / "gate.md")
    text = (tmp_path / "gate.md").read_text()
    assert text.startswith("## Gate: regression\n")
    assert '\\<b\\>\\|"&amp;\\\\x1b\\[31m' in text
    assert "<b>" not in text
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in table} == {10}


def test_json_says_all_of_it_and_the_text_cannot_steer_a_terminal(hostile: tuple[Path, Path], tmp_path: Path) -> None:
    text, code = run_gate(*hostile, 0.01, json_file=tmp_path / "gate.json")
    content = json.loads((tmp_path / "gate.json").read_text())
    assert (content["status"], content["exit_code"], content["margin"], code) == ("regression", 3, 0.01, 3)
    cells = {one["label"]: one for one in content["comparison"]["cells"]}
    assert cells[HOSTILE]["status"] == "regression"
    assert cells["fine"]["identical"] is True
    assert content["comparison"]["not_compared"] == [{"model": "qwen", "label": "gone|", "reason": "only in BASE"}]
    assert "\x1b" not in text
    assert "\\x1b[31m on gemma" in text
