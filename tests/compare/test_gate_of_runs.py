"""`harness compare` and `harness gate` on made-up runs whose differences can be counted."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from harness.api.errors import HarnessError
from harness.compare import compare, run_calibrate, run_compare, run_gate

Write = Callable[..., None]
PAIRS = 2_000


def right(share: float, seed: int = 0) -> np.ndarray:
    """Return margins of which `share` is right, in random order."""
    margins = np.where(np.arange(PAIRS) < share * PAIRS, 1.0, -1.0)
    return np.random.default_rng(seed).permutation(margins)


def flipped(margins: np.ndarray, share: float) -> np.ndarray:
    """Return the margins with this share of the right pairs turned wrong."""
    places = np.flatnonzero(margins > 0)
    turned = np.random.default_rng(1).choice(places, int(share * len(places)), replace=False)
    changed = margins.copy()
    changed[turned] = -1.0
    return changed


def test_differences_are_the_counted_ones(two_runs: tuple[Path, Path]) -> None:
    comparison = compare(*two_runs)
    one, two = sorted(comparison.cells, key=lambda cell: cell.base)[::-1]
    assert (one.base, one.new, two.base, two.new) == (0.8, 0.5, 0.5, 0.5)
    assert comparison.overall is not None
    assert comparison.overall.new - comparison.overall.base == pytest.approx((-0.3 + 0) / 2)


def test_the_same_results_pass(tmp_path: Path, write_cell: Write) -> None:
    for run in ("base", "new"):
        write_cell(tmp_path / run, "simpo", right(0.7))
    assert run_gate(tmp_path / "base", tmp_path / "new", 0.01).exit_code == 0


def test_five_percent_of_the_right_pairs_turned_wrong_is_a_regression(tmp_path: Path, write_cell: Write) -> None:
    write_cell(tmp_path / "base", "simpo", right(0.7))
    write_cell(tmp_path / "new", "simpo", flipped(right(0.7), 0.05))
    said = run_gate(tmp_path / "base", tmp_path / "new", 0.01)
    assert said.exit_code == 3, said.text
    assert "-0.0350" in said.text  # 5 % of 70 %


def test_a_loss_with_its_sign_wrong_is_a_regression(tmp_path: Path, write_cell: Write) -> None:
    write_cell(tmp_path / "base", "simpo", right(0.7))
    write_cell(tmp_path / "new", "simpo", -right(0.7))
    assert run_gate(tmp_path / "base", tmp_path / "new", 0.01).exit_code == 3


def test_an_interval_across_the_margin_is_inconclusive(tmp_path: Path, write_cell: Write) -> None:
    write_cell(tmp_path / "base", "simpo", right(0.7, seed=1))
    write_cell(tmp_path / "new", "simpo", right(0.7, seed=2))  # unpaired: se about 0.0145
    assert run_gate(tmp_path / "base", tmp_path / "new", 0.01).exit_code == 4


def test_other_data_are_refused_with_both_fingerprints(tmp_path: Path, write_cell: Write) -> None:
    write_cell(tmp_path / "base", "simpo", right(0.7))
    write_cell(tmp_path / "new", "simpo", right(0.7), dataset={"name": "embedded", "fingerprint": "data-2"})
    with pytest.raises(HarnessError, match=r"data-1.*data-2"):
        run_gate(tmp_path / "base", tmp_path / "new", 0.01)


def test_other_tokens_are_refused(tmp_path: Path, write_cell: Write) -> None:
    write_cell(tmp_path / "base", "simpo", right(0.7))
    write_cell(tmp_path / "new", "simpo", right(0.7), tokens_fingerprint="other")
    with pytest.raises(HarnessError, match="other"):
        run_gate(tmp_path / "base", tmp_path / "new", 0.01)


def test_without_a_baseline_the_gate_says_so(tmp_path: Path, write_cell: Write) -> None:
    write_cell(tmp_path / "new", "simpo", right(0.7))
    assert run_gate(tmp_path / "nowhere", tmp_path / "new", 0.01).exit_code == 5


def test_a_diverged_cell_decides_before_all_else(tmp_path: Path, write_cell: Write) -> None:
    write_cell(tmp_path / "base", "simpo", right(0.7))
    write_cell(tmp_path / "new", "simpo", None, status="diverged", reason="the loss is nan at step 3")
    said = run_gate(tmp_path / "base", tmp_path / "new", 0.01)
    assert said.exit_code == 6
    assert "the loss is nan at step 3" in said.text


@pytest.mark.parametrize("margin", [0.0, -0.01, float("nan")])
def test_a_margin_that_is_none_is_refused(margin: float, two_runs: tuple[Path, Path]) -> None:
    with pytest.raises(HarnessError, match="margin"):
        run_gate(*two_runs, margin)


def test_reports_carry_the_numbers_and_hold_hostile_names(tmp_path: Path, write_cell: Write) -> None:
    name = "<b>|\"&'"
    write_cell(tmp_path / "base", name, right(0.7))
    write_cell(tmp_path / "new", name, flipped(right(0.7), 0.05))
    files = {kind: tmp_path / f"report.{kind}" for kind in ("json", "xml", "md")}
    run_gate(
        tmp_path / "base",
        tmp_path / "new",
        0.01,
        json_file=files["json"],
        junit_file=files["xml"],
        markdown_file=files["md"],
    )
    assert json.loads(files["json"].read_text())["exit_code"] == 3
    cases = list(ElementTree.parse(files["xml"]).iter("testcase"))
    assert len(cases) == 2  # the cell and the overall difference
    assert sum(case.find("failure") is not None for case in cases) == 2
    assert "<b>" not in files["md"].read_text()


def test_same_code_gates_seldom_call_a_regression(tmp_path: Path, write_cell: Write) -> None:
    rng = np.random.default_rng(5)
    calls = 0
    for trial in range(20):
        base, new = tmp_path / f"base{trial}", tmp_path / f"new{trial}"
        for label in ("one", "two", "three"):
            write_cell(base, label, np.where(rng.random(300) < 0.6, 1.0, -1.0))
            write_cell(new, label, np.where(rng.random(300) < 0.6, 1.0, -1.0))
        calls += run_gate(base, new, 0.001).exit_code == 3
    assert calls <= 3  # promised 2.5 % of gates; 4 of 20 would come by chance once in 750 times


def test_calibrating_measures_the_noise_of_repeats_beside_the_baseline(tmp_path: Path, write_cell: Write) -> None:
    for k in range(3):
        write_cell(tmp_path / f"run{k}", "simpo", right(0.7, seed=k))
    said = run_calibrate([tmp_path / f"run{k}" for k in range(3)])
    assert said.exit_code == 0
    (written,) = (path for path in (tmp_path / "run0").glob("*.json"))
    assert "simpo" in written.read_text()


def test_both_verbs_run_where_torch_is_not_installed(two_runs: tuple[Path, Path]) -> None:
    code = f"""
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "vllm", "ray"):
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
from pathlib import Path
from harness.compare import run_compare, run_gate
base, new = Path({str(two_runs[0])!r}), Path({str(two_runs[1])!r})
print(run_compare(base, new).exit_code, run_gate(base, new, 0.01).exit_code in (3, 4))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["0", "True"], done.stderr


def test_comparing_lists_what_stands_on_one_side_alone(tmp_path: Path, write_cell: Write) -> None:
    for run in ("base", "new"):
        write_cell(tmp_path / run, "simpo", right(0.7))
    write_cell(tmp_path / "new", "dpo", right(0.7))
    assert "dpo" in run_compare(tmp_path / "base", tmp_path / "new").text
