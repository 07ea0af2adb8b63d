"""Paired differences: hand counts, scipy's paired bootstrap, refusals, what is left out."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from made_records import made_manifest
from rewritten import rewrite
from scipy import stats as scipy_stats

from harness.api import HarnessError
from harness.compare import run_compare
from harness.compare.comparison import compare
from harness.compare.paired import Difference, Paired, differences
from harness.leaderboard.table import build
from harness.run_folder.manifest import write_manifest
from harness.run_folder.noise_floor import LossOnModel
from harness.run_folder.store import read_records

Write = Callable[..., None]
RNG = np.random.default_rng


def of(run: Path, label: str, found: tuple[Difference, ...], model: str = "qwen") -> Difference:
    return next(one for one in found if one.cell == LossOnModel(model, label))


def test_a_difference_counted_by_hand(two_runs: tuple[Path, Path]) -> None:
    found = compare(*two_runs)
    one = of(two_runs[0], "one", found.cells)
    assert (one.base, one.new, one.n, one.n_prompts, one.changed) == (0.8, 0.5, 10, 10, 3)
    assert one.value == pytest.approx(-0.3)  # 5/10 - 8/10
    assert one.low < -0.3 < one.high
    assert one.family_low <= one.low
    assert one.high <= one.family_high
    two = of(two_runs[0], "two", found.cells)
    assert (two.value, two.low, two.high, two.identical) == (0, 0, 0, True)
    assert found.overall is not None
    assert found.overall.value == pytest.approx((-0.3 + 0) / 2)


def test_every_model_weighs_the_same_however_many_losses_it_has(tmp_path: Path, write_cell: Write) -> None:
    right = np.arange(10)
    base, new = tmp_path / "base", tmp_path / "new"
    for run, lost in ((base, 0), (new, 4)):
        write_cell(run, "one", np.where(right < 8 - lost, 1.0, -1.0))  # -0.4 on qwen
        write_cell(run, "one", np.where(right < 8, 1.0, -1.0), model="gemma")
        write_cell(run, "two", np.where(right < 8, 1.0, -1.0), model="gemma")
    overall = compare(base, new).overall
    assert overall is not None
    assert overall.value == pytest.approx((-0.4 + (0 + 0) / 2) / 2)


def test_the_interval_of_one_seed_is_scipys_bca_with_expanded_tails(tmp_path: Path, write_cell: Write) -> None:
    before, after = RNG(1).normal(0, 1, 150), RNG(2).exponential(1, 150) ** 2
    for run, margins in ((tmp_path / "base", before), (tmp_path / "new", after)):
        write_cell(run, "one", margins, per_prompt=3)
    one = compare(tmp_path / "base", tmp_path / "new", "margin").cells[0]
    apart = (after - before).reshape(50, 3).mean(1)  # every prompt has three pairs
    # Hesterberg 2015: tails at Phi(sqrt(P / (P - 1)) t(0.025; P - 1)), wider than 0.025 by a fifth with 50 prompts
    tail = scipy_stats.norm.cdf(np.sqrt(50 / 49) * scipy_stats.t.ppf(0.025, 49))
    theirs = scipy_stats.bootstrap(
        (apart,), np.mean, n_resamples=50_000, method="BCa", confidence_level=1 - 2 * tail, rng=RNG(0)
    )
    assert one.value == pytest.approx(apart.mean())
    assert one.n_prompts == 50
    ends = np.array(theirs.confidence_interval)
    assert np.abs(np.array([one.low, one.high]) - ends).max() < 0.03 * (ends[1] - ends[0])  # of 10,000 resamples
    assert one.high - one.value > 1.2 * (one.value - one.low)  # skewed to the right, as the values are


@pytest.mark.parametrize(
    ("metric", "apart"),
    [("spearman", 1e-9), ("pairwise_accuracy", 1e-9)],  # a board has 10 digits
)
@pytest.mark.parametrize("seeds", [1, 3])
def test_a_difference_has_the_interval_that_a_leaderboard_has_of_it(
    tmp_path: Path, write_cell: Write, seeds: int, metric: str, apart: float
) -> None:
    """The same rewards once as two losses of one run and once as one loss of two runs."""
    rng = RNG(3)
    for model in ("qwen", "gemma"):
        for seed in range(seeds):
            for name, run, mean in (("better", "base", 1.2), ("worse", "new", 1.0)):
                margins = rng.normal(mean, 1, 600) + mean * np.arange(600) / 600
                write_cell(tmp_path / "board", name, margins, model=model, seed=seed, per_prompt=3)
                write_cell(tmp_path / run, "loss", margins, model=model, seed=seed, per_prompt=3)
    boards = {board.model: board for board in build(read_records(tmp_path / "board"), metric).boards}
    found = compare(tmp_path / "base", tmp_path / "new", metric)
    assert found.overall is not None
    for one, board in (*((cell, boards[cell.cell.model]) for cell in found.cells), (found.overall, boards["all"])):
        assert [row.label for row in board.rows] == ["better", "worse"]
        theirs = board.rows[1].vs_leader
        assert [one.value, one.low, one.high] == pytest.approx([theirs.value, theirs.low, theirs.high], abs=apart)
        assert one.low < one.value < one.high


def test_several_seeds_are_matched_and_their_spread_counts(tmp_path: Path, write_cell: Write) -> None:
    base, new = tmp_path / "base", tmp_path / "new"
    margins = np.where(RNG(0).random(400) < 0.7, 1.0, -1.0)
    shifts = {0: 8, 1: 24, 2: 40}  # pairs lost by seed: -0.02, -0.06, -0.10
    for seed, lost in shifts.items():
        worse = margins.copy()
        worse[np.flatnonzero(margins > 0)[:lost]] = -1
        write_cell(base, "one", margins, seed=seed)
        write_cell(new, "one", worse, seed=seed)
    write_cell(base, "one", margins, seed=7)
    found = compare(base, new)
    one = found.cells[0]
    assert one.seeds == (0, 1, 2)
    assert "seed 7 is on one side only" in " ".join(found.notes)
    assert one.value == pytest.approx(-0.06)
    # seeds alone: the t-interval of three values, scipy's; the prompts add a little
    t = scipy_stats.ttest_1samp([-0.02, -0.06, -0.10], 0).confidence_interval()
    assert one.high - one.low == pytest.approx(t.high - t.low, rel=0.25)


def test_a_single_family_interval_is_that_of_the_normal_and_more_cells_widen_it() -> None:
    rng = RNG(0)

    def cells(number: int) -> dict[LossOnModel, Paired]:
        prompt = np.arange(500).astype(str).astype(object)
        return {
            LossOnModel("qwen", f"loss{k}"): Paired(
                seeds=(0,),
                prompt=prompt,
                base=rng.integers(0, 2, (1, 500)).astype(float),
                new=rng.integers(0, 2, (1, 500)).astype(float),
                identical=False,
            )
            for k in range(number)
        }

    def ratio(one: Difference) -> float:
        return (one.family_high - one.value) / ((one.high - one.low) / 2)

    alone, _ = differences(cells(1), "difference")
    many, _ = differences(cells(20), "difference")
    assert ratio(alone[0]) == pytest.approx(1.0, abs=0.05)
    # 20 independent cells and their mean: the one-sided Sidak quantile of about 21 over that of one
    expected = scipy_stats.norm.ppf(0.975 ** (1 / 21)) / scipy_stats.norm.ppf(0.975)
    assert np.mean([ratio(one) for one in many]) == pytest.approx(expected, abs=0.05)


def test_rows_are_joined_by_pair_not_by_place(tmp_path: Path, write_cell: Write) -> None:
    base, new = tmp_path / "base", tmp_path / "new"
    margins = RNG(0).normal(size=50)
    for run in (base, new):
        write_cell(run, "one", margins)
    import pandas as pd

    path = next(new.glob("cells/*/rows.parquet"))
    rewrite(path, pd.read_parquet(path).sample(frac=1, random_state=0))
    assert compare(base, new).cells[0].identical


def test_a_correlation_is_compared_over_responses(tmp_path: Path, write_cell: Write) -> None:
    base, new = tmp_path / "base", tmp_path / "new"
    score = np.arange(80)
    before, after = score + RNG(0).normal(0, 20, 80), score + RNG(1).normal(0, 40, 80)
    write_cell(base, "one", before)
    write_cell(new, "one", after)
    one = compare(base, new, "spearman").cells[0]
    expected = scipy_stats.spearmanr(after, score).statistic - scipy_stats.spearmanr(before, score).statistic
    assert one.value == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"dataset": {"name": "embedded", "fingerprint": "data-2", "test_pairs": 1}}, ["data-1", "data-2"]),
        ({"tokens_fingerprint": "other-tokens"}, ["tokens-qwen", "other-tokens"]),
        ({"protocol": 2}, ["protocol 1", "2"]),
        ({"board": {"dataset": "embedded", "preset": "paper", "evaluated_on": "test"}}, ["'nano'", "'paper'"]),
        ({"board": {"dataset": "embedded", "preset": "nano", "evaluated_on": "dev"}}, ["'test'", "'dev'"]),
    ],
)
def test_what_makes_pairing_meaningless_is_refused_and_named(
    tmp_path: Path, write_cell: Write, changed: dict[str, object], named: list[str]
) -> None:
    write_cell(tmp_path / "base", "one", np.ones(20))
    write_cell(tmp_path / "new", "one", np.ones(20), **changed)
    with pytest.raises(HarnessError, match="expected the same on both sides") as caught:
        compare(tmp_path / "base", tmp_path / "new")
    for name in named:
        assert name in str(caught.value)


def test_other_pairs_are_refused_and_named(tmp_path: Path, write_cell: Write) -> None:
    write_cell(tmp_path / "base", "one", np.ones(22))
    write_cell(tmp_path / "new", "one", np.ones(20))
    with pytest.raises(HarnessError, match=r"2 only in .*base.*pair00020, pair00021.* of 22 held-out rows"):
        compare(tmp_path / "base", tmp_path / "new")


def test_a_pair_that_is_there_twice_is_refused(two_runs: tuple[Path, Path]) -> None:
    import pandas as pd

    path = next(two_runs[1].glob("cells/*one*/rows.parquet"))
    rows = pd.read_parquet(path)
    rewrite(path, pd.concat([rows, rows.head(1)]))
    with pytest.raises(HarnessError, match="pair00000 twice"):
        compare(*two_runs)


def test_other_settings_are_told_and_a_loss_on_one_side_is_listed(tmp_path: Path, write_cell: Write) -> None:
    base, new = tmp_path / "base", tmp_path / "new"
    board = {"dataset": "embedded", "preset": "nano", "evaluated_on": "test"}
    for run, budget in ((base, "pairs=512"), (new, "pairs=1024")):
        write_cell(run, "one", np.ones(20), board=board | {"budget": budget})
    write_cell(base, "old", np.ones(20), board=board | {"budget": "pairs=512"})
    write_cell(new, "changed", np.ones(20), board=board | {"budget": "pairs=1024"})
    found = compare(base, new)
    assert found.settings == {"budget": ("pairs=512", "pairs=1024")}
    assert {one.cell.label: one.reason for one in found.unmatched} == {"old": "only in BASE", "changed": "only in NEW"}
    text, code = run_compare(base, new)
    assert code == 0
    assert "budget pairs=512 / pairs=1024" in text
    assert "old on qwen: not compared, only in BASE" in text


def test_a_loss_with_other_options_is_another_loss(two_runs: tuple[Path, Path], write_cell: Write) -> None:
    write_cell(two_runs[1], "two", np.ones(10), loss={"name": "two", "options": {"beta": 2.5}})
    found = compare(*two_runs)
    assert [one.cell.label for one in found.cells] == ["one"]
    assert found.unmatched[0].reason == "options differ: beta was 2.0, is 2.5"


def test_runs_without_a_cell_in_common_are_refused(tmp_path: Path, write_cell: Write) -> None:
    write_cell(tmp_path / "base", "one", np.ones(20), seed=0)
    write_cell(tmp_path / "new", "one", np.ones(20), seed=1)
    with pytest.raises(HarnessError, match="no seed in common: 0 in BASE, 1 in NEW"):
        compare(tmp_path / "base", tmp_path / "new")


def test_a_metric_that_no_cell_has_and_one_that_is_none_are_refused(two_runs: tuple[Path, Path]) -> None:
    with pytest.raises(HarnessError, match="has no value in any cell"):
        compare(*two_runs, "pairwise_accuracy_true")
    with pytest.raises(HarnessError, match="got --metric accuracy, expected one of pairwise_accuracy"):
        compare(*two_runs, "accuracy")


def test_cells_that_new_lost_or_never_did_are_named(two_runs: tuple[Path, Path], write_cell: Write) -> None:
    write_cell(two_runs[1], "two", status="diverged", reason="loss became NaN at step 7")
    write_manifest(two_runs[1], made_manifest({"cells": [["one", "qwen", 0], ["three", "qwen", 0]]}))
    found = compare(*two_runs)
    assert [(one.cell.label, one.status, one.reason) for one in found.troubles] == [
        ("three", "missing", "asked for and not done"),
        ("two", "diverged", "loss became NaN at step 7"),
    ]


def test_comparing_runs_where_torch_is_not_installed_is_the_same_to_the_byte(
    two_runs: tuple[Path, Path], tmp_path: Path
) -> None:
    program = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'vllm', 'datasets'): sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from harness.compare import run_compare, run_gate\n"
        "base, new, out = map(Path, sys.argv[1:])\n"
        "run_compare(base, new, json_file=out / 'compare.json')\n"
        "run_gate(base, new, 0.01, json_file=out / 'gate.json', junit_file=out / 'x.xml', markdown_file=out / 'x.md')\n"
    )
    for out in ("first", "second"):
        subprocess.run([sys.executable, "-c", program, *map(str, two_runs), str(tmp_path / out)], check=True)
    for path in sorted((tmp_path / "first").iterdir()):
        assert path.read_bytes() == (tmp_path / "second" / path.name).read_bytes()
    content = json.loads((tmp_path / "first" / "compare.json").read_text())
    assert content["cells"][0]["value"] == -0.3
    assert content["cells"][0]["label"] == "one"


def test_seeds_that_only_one_side_has_are_told_once(tmp_path: Path, write_cell: Write) -> None:
    for label in ("simpo", "dpo", "ipo"):
        for seed in (0, 1, 2):
            write_cell(tmp_path / "base", label, np.ones(60), seed=seed)
        write_cell(tmp_path / "new", label, np.ones(60), seed=0)
    notes = compare(tmp_path / "base", tmp_path / "new").notes
    assert [note for note in notes if "one side only" in note] == [
        "3 of 3 cells: seed 1, 2 is on one side only and left out."
    ]
