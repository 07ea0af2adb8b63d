"""What the table decides: ranks, intervals, refusals, what is left out."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rewritten import rewrite

from harness.api import HarnessError
from harness.leaderboard.table import Board, Row, build
from harness.run_folder.store import read_records

Add = Callable[..., None]
RNG = np.random.default_rng


def board_of(run: Path, **options: object) -> Board:
    return build(read_records(run), resamples=2000, **options).boards[0]  # type: ignore[arg-type]  # options of build


def row_of(board: Board, label: str) -> Row:
    return next(row for row in board.rows if row.label == label)


def test_a_board_counted_by_hand(small_run: Path) -> None:
    board = board_of(small_run)
    assert [row.label for row in board.rows] == ["good", "fair", "bad", "base", "longer-wins", "wild|loss"]
    assert [row.rank for row in board.rows] == [1, 2, 3, None, None, 4]
    assert [row.metrics["pairwise_accuracy"].value for row in board.rows[:3]] == [0.9, 0.75, 0.25]
    assert row_of(board, "longer-wins").metrics["pairwise_accuracy"].value == 0.6
    good = row_of(board, "good")
    assert (good.metrics["pairwise_accuracy"].n, board.n_pairs, board.n_prompts) == (120, 120, 40)
    assert good.metrics["pairwise_accuracy"].low < 0.9 < good.metrics["pairwise_accuracy"].high
    assert good.vs_base["pairwise_accuracy@sum"].value == pytest.approx(0.9 - 0.5)
    assert list(good.readings) == ["own", "learned", "sum", "mean", "ratio", "ratio_mean"]
    assert {(of.rank, of.rank_low, of.rank_high, of.tier) for of in good.readings.values()} == {(1, 1, 1, 1)}
    # 18 pairs of 18 prompts separate good from fair, 60 pairs of all prompts fair from bad: three tiers
    assert [row.tier for row in board.rows[:3]] == [1, 2, 3]
    assert [(row.rank_low, row.rank_high) for row in board.rows[:3]] == [(1, 1), (2, 2), (3, 3)]


def test_the_base_has_no_reward_of_its_own_but_yardsticks_and_says_why(small_run: Path) -> None:
    base = row_of(board_of(small_run), "base")
    assert np.isnan(base.metrics["pairwise_accuracy"].value)
    assert base.metrics["pairwise_accuracy"].n == 0
    assert base.metric_reasons["pairwise_accuracy"] == "no reward is known"
    assert base.metrics["pairwise_accuracy@sum"].value == 0.5
    assert base.vs_base["pairwise_accuracy@sum"].value == 0


def test_a_diverged_loss_is_last_with_its_reason(small_run: Path) -> None:
    last = board_of(small_run).rows[-1]
    assert (last.label, last.status, last.reason) == ("wild|loss", "diverged", "loss became NaN at step 7")
    assert (last.rank, last.rank_low, last.rank_high, last.tier) == (4, 4, 4, None)
    assert np.isnan(last.metrics["pairwise_accuracy"].value)


def test_equal_losses_share_a_rank_and_a_tier(tmp_path: Path, add_cell: Add) -> None:
    margins = RNG(0).normal(size=120)
    for label in ("one", "two"):
        add_cell(tmp_path, label, margins)
    board = board_of(tmp_path)
    assert [row.rank for row in board.rows] == [1, 1]
    assert [(row.rank_low, row.rank_high, row.tier) for row in board.rows] == [(1, 2, 1)] * 2


def test_over_models_every_model_weighs_the_same_and_a_loss_that_failed_on_one_is_unranked(
    tmp_path: Path, add_cell: Add
) -> None:
    for model, shift in (("qwen", 0.5), ("gemma", -0.2)):
        for label, add in (("a", 0.6), ("b", 0.0), ("base", 0.0)):
            add_cell(tmp_path, label, RNG(3).normal(size=120) + add + shift, model=model)
    add_cell(tmp_path, "c", RNG(4).normal(size=120), model="qwen")
    add_cell(tmp_path, "c", model="gemma", status="failed", reason="out of memory")
    table = build(read_records(tmp_path), resamples=500, models=["qwen", "gemma"])
    assert [board.model for board in table.boards] == ["qwen", "gemma", "all"]
    qwen, gemma, both = table.boards
    for metric in ("pairwise_accuracy", "spearman", "kendall@mean", "length_slope"):
        mean = (row_of(qwen, "a").metrics[metric].value + row_of(gemma, "a").metrics[metric].value) / 2
        assert row_of(both, "a").metrics[metric].value == pytest.approx(mean, abs=1e-9)
    failed = row_of(both, "c")
    assert (failed.rank, failed.status, failed.reason) == (None, "failed", "gemma, seed 0: out of memory")
    assert row_of(gemma, "c").rank == 3
    assert row_of(qwen, "c").rank is not None
    assert [board.model for board in build(read_records(tmp_path), resamples=50).boards] == ["gemma", "qwen", "all"]


def test_what_a_model_did_not_see_is_said_by_model(tmp_path: Path, add_cell: Add) -> None:
    data = {"name": "embedded", "fingerprint": "f", "test_pairs": 9, "left_out": {"test: the same tokens": 3}}
    add_cell(tmp_path, "a", np.ones(60), dataset=data)
    add_cell(tmp_path, "a", np.ones(60), model="gemma")
    boards = build(read_records(tmp_path), resamples=50).boards
    said = ["qwen: 3 left out, test: the same tokens." in board.disclaimers for board in boards]
    assert dict(zip([board.model for board in boards], said, strict=True)) == {
        "gemma": False,
        "qwen": True,
        "all": True,
    }


def test_two_seeds_are_averaged_and_widen_the_interval(tmp_path: Path, add_cell: Add) -> None:
    for label, add in (("a", 0.5), ("b", 0.0)):
        for seed in (0, 1):
            add_cell(tmp_path, label, RNG(seed).normal(size=240) + add + seed * 0.5, seed=seed)
    add_cell(tmp_path, "base", RNG(9).normal(size=240))
    two = board_of(tmp_path)
    one = build([each for each in read_records(tmp_path) if each.seed in (0, None)], resamples=2000).boards[0]
    other = build([each for each in read_records(tmp_path) if each.seed in (1, None)], resamples=2000).boards[0]
    value = row_of(two, "a").metrics["pairwise_accuracy"]
    single = [row_of(board, "a").metrics["pairwise_accuracy"] for board in (one, other)]
    assert value.value == pytest.approx((single[0].value + single[1].value) / 2)
    assert value.high - value.low > single[0].high - single[0].low
    assert row_of(two, "a").seeds == (0, 1)
    assert row_of(two, "a").spend["seconds"] == 2.5
    assert any("2 seeds, fewer than 5" in sentence for sentence in two.disclaimers)
    assert one.conclusions[1].startswith("One seed: ranks and tiers are of these trained models, not of the losses.")
    assert not any("One seed" in sentence for sentence in two.conclusions)


def test_a_seed_that_failed_or_is_not_done_keeps_the_loss_from_being_ranked_among_the_sound(
    tmp_path: Path, add_cell: Add
) -> None:
    for seed in (0, 1):
        add_cell(tmp_path, "a", RNG(seed).normal(size=120), seed=seed)
    add_cell(tmp_path, "b", RNG(5).normal(size=120) + 9, seed=0)
    add_cell(tmp_path, "b", seed=1, status="diverged", reason="inf")
    add_cell(tmp_path, "c", RNG(6).normal(size=120) + 9, seed=1)
    board = board_of(tmp_path)
    assert [(row.label, row.rank, row.status) for row in board.rows] == [
        ("a", 1, "ok"),
        ("b", 2, "diverged"),
        ("c", 3, "missing"),
    ]
    assert row_of(board, "b").reason == "qwen, seed 1: inf"
    assert row_of(board, "c").reason == "qwen, seed 0: not done"


def test_a_reason_that_cost_many_cells_is_said_once_with_their_number(tmp_path: Path, add_cell: Add) -> None:
    for model in ("qwen", "gemma"):
        for seed in range(3):
            add_cell(tmp_path, "a", RNG(seed).normal(size=120), model=model, seed=seed)
            add_cell(tmp_path, "b", model=model, seed=seed, status="failed", reason="RuntimeError: on purpose")
    board = build(read_records(tmp_path), resamples=50, models=["qwen", "gemma"]).boards[-1]
    assert row_of(board, "b").reason == "6 cells, the first qwen, seed 0: RuntimeError: on purpose"


def test_where_no_loss_has_a_result_none_has_a_rank(tmp_path: Path, add_cell: Add) -> None:
    for label, status in (("a", "failed"), ("b", "diverged")):
        add_cell(tmp_path, label, status=status, reason="on purpose")
    for label in ("base", "longer-wins"):
        add_cell(tmp_path, label, RNG(1).normal(size=120))
    board = board_of(tmp_path)
    places = {row.label: (row.rank, row.rank_low, row.rank_high, row.tier) for row in board.rows}
    assert places == dict.fromkeys(("base", "longer-wins", "a", "b"), (None, None, None, None))


def test_pairs_not_scored_in_every_cell_are_left_out_of_all_and_counted(tmp_path: Path, add_cell: Add) -> None:
    add_cell(tmp_path, "a", np.r_[np.full(50, np.nan), np.ones(50), -np.ones(20)])
    add_cell(tmp_path, "b", np.r_[np.ones(50), -np.ones(70)])
    board = board_of(tmp_path)
    assert board.n_pairs == 70
    assert row_of(board, "a").metrics["pairwise_accuracy"].value == pytest.approx(50 / 70)
    assert row_of(board, "b").metrics["pairwise_accuracy"].value == 0
    assert row_of(board, "b").metrics["pairwise_accuracy"].n == 70
    assert "50 pairs left out: not scored for every system and model." in board.disclaimers


def test_the_order_of_rows_in_a_cell_changes_nothing(small_run: Path) -> None:
    before = board_of(small_run)
    cell = next(path for path in (small_run / "cells").iterdir() if "fair" in path.name)
    for name in ("rows.parquet", "responses.parquet"):
        rewrite(cell / name, pd.read_parquet(cell / name).sample(frac=1, random_state=0))
    after = board_of(small_run)
    assert row_of(after, "fair").metrics["pairwise_accuracy"] == row_of(before, "fair").metrics["pairwise_accuracy"]
    assert row_of(after, "fair").metrics["spearman"].value == pytest.approx(
        row_of(before, "fair").metrics["spearman"].value
    )


def test_records_of_two_protocols_are_refused(small_run: Path, add_cell: Add) -> None:
    add_cell(small_run, "old", np.ones(120), protocol=0)
    with pytest.raises(
        HarnessError, match=r"got records whose protocol differs .*1 in .*0 in .*cells/qwen--old--seed0"
    ):
        board_of(small_run)


def test_records_over_other_data_are_refused(small_run: Path, add_cell: Add) -> None:
    add_cell(small_run, "old", np.ones(120), dataset={"name": "embedded", "fingerprint": "g", "test_pairs": 9})
    with pytest.raises(HarnessError, match=r"dataset\.fingerprint differs"):
        board_of(small_run)


def test_a_metric_that_does_not_rank_is_refused(small_run: Path) -> None:
    with pytest.raises(HarnessError, match=r"got --ranked-by margin, expected one of pairwise_accuracy"):
        build(read_records(small_run), ranked_by="margin")
    with pytest.raises(HarnessError, match="without a finished cell"):
        build([])


def test_another_budget_is_another_board(small_run: Path, add_cell: Add) -> None:
    add_cell(small_run, "longer", np.ones(120), board={"preset": "nano", "budget": "pairs=1024"})
    titles = [board.title for board in build(read_records(small_run), resamples=50).boards]
    assert len(titles) == 2
    assert {title.split(" · ")[5] for title in titles} == {"budget pairs=512", "budget pairs=1024"}


def test_ranking_by_another_metric_uses_that_metrics_yardsticks(small_run: Path) -> None:
    board = board_of(small_run, ranked_by="spearman")
    values = [row.metrics["spearman"].value for row in board.rows[:3]]
    assert values == sorted(values, reverse=True)
    assert board.rows[0].rank == 1
    assert "all losses read by the log-prob per token" in board_of(small_run, ranked_by="spearman@mean").title


def test_what_must_be_said_is_said(tmp_path: Path, add_cell: Add) -> None:
    settings = {"preset": "nano", "budget": "pairs=8", "evaluated_on": "dev", "control": "shuffled-labels"}
    scorer = {"name": "transformers", "version": "5.23"}
    add_cell(tmp_path, "a", np.ones(20), prompts=5, board=settings, scorer=scorer)
    board = board_of(tmp_path)
    said = "\n".join([*board.conclusions, *board.disclaimers])
    for part in (
        "implicit-reward ranking accuracy, not generation quality",
        "A nano board tests the harness and ranks no method.",
        "development split",
        "Control run (shuffled-labels)",
        "of these trained models, not of the losses",
        "5 prompts, fewer than 30",
        "Scored by transformers 5.23",
    ):
        assert part in said


def test_a_run_in_which_everything_failed_still_has_a_board(tmp_path: Path, add_cell: Add) -> None:
    for label in ("a", "b"):
        add_cell(tmp_path, label, status="failed", reason="no")
    board = board_of(tmp_path)
    assert [(row.rank, row.rank_low, row.rank_high) for row in board.rows] == [(None, None, None)] * 2
    assert board.n_pairs == 0


def test_twenty_four_systems_are_compared_in_seconds(tmp_path: Path, add_cell: Add) -> None:
    for k in range(24):
        add_cell(tmp_path, f"loss{k:02d}", RNG(k).normal(size=600) + k / 40, prompts=300)
    add_cell(tmp_path, "base", RNG(99).normal(size=600), prompts=300)
    records = read_records(tmp_path)
    began = time.process_time()
    table = build(records)
    spent = time.process_time() - began
    assert spent < 10, f"{spent:.1f} s of processor time"  # 3 s on a free core; the bound leaves room for a slow one
    assert table.boards[0].rows[0].rank == 1


def test_every_reading_is_a_family_of_its_own_and_the_findings_say_who_wins_by_another(
    tmp_path: Path, add_cell: Add
) -> None:
    """`free` has the rewards of a start checkpoint that is nearly always right and learned nothing; `based` learned."""
    right, wrong = np.full(200, 1.0), np.where(np.arange(200) < 120, 1.0, -1.0)
    for label, tags, own, gained in (("free", ["averaged"], right, -wrong), ("based", ["summed"], wrong, wrong)):
        add_cell(tmp_path, label, own, prompts=100, loss={"name": label, "options": {}, "tags": tags})
        path = tmp_path / "cells" / f"qwen--{label}--seed0" / "rows.parquet"
        rows = pd.read_parquet(path)
        started = {"ref_chosen_sum_logp": rows["chosen_sum_logp"] - gained}
        rewrite(path, rows.assign(**started, ref_rejected_sum_logp=rows["rejected_sum_logp"]))
    board = board_of(tmp_path, ranked_by="pairwise_accuracy@learned")
    assert [row.label for row in board.rows] == ["based", "free"]
    assert [row.metrics["pairwise_accuracy@learned"].value for row in board.rows] == [0.6, 0.4]
    assert [row.readings["own"].rank for row in board.rows] == [2, 1]
    assert [row.readings["own"].tier for row in board.rows] == [2, 1]
    assert [row.tier for row in board.rows] == [1, 2]
    assert board.conclusions[0] == "based wins by what was learned on this one seed: it is better than free."
    assert board.conclusions[-1].startswith(
        "By each loss's own reward, the summed log-prob and the log-prob per token, "
    )
    assert "free is better than based; by" in board.conclusions[-1]
    assert board.comparisons["own"]["free"]["based"] < 0.05
    assert "each loss by its own rule, relative to the start" in board.title


def test_a_loss_that_breaks_a_rule_is_marked_on_the_board_that_it_stands_on(small_run: Path, add_cell: Add) -> None:
    before = board_of(small_run)
    assert not any("fails:" in sentence for sentence in before.disclaimers)
    margins = np.where(np.arange(120) < 80, 1.0, -1.0)
    loss = {"name": "mine", "options": {}, "fails": ["finite over its domain", "is documented"]}
    add_cell(small_run, "mine", margins, loss=loss)
    board = board_of(small_run)
    said = "mine fails: finite over its domain, is documented; harness plugins check says more."
    assert [sentence for sentence in board.disclaimers if "fails:" in sentence] == [said]
    assert "one loss failing the rules" in board.weightiest
