"""What boards carry beside estimates: reliability, prepared columns, older records."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.leaderboard import write
from harness.leaderboard.decide.estimates import Resampling, Unit, Values, differences, estimates, samples
from harness.leaderboard.formatting import number_with_interval
from harness.leaderboard.table import Row, build
from harness.run_folder.paths import RECORD
from harness.run_folder.store import read_records
from harness.statistics.metrics import METRICS

Add = Callable[..., None]
RNG = np.random.default_rng


def rows_of(run: Path, **options: object) -> dict[str, Row]:
    return {row.label: row for row in build(read_records(run), resamples=2000, **options).boards[0].rows}  # type: ignore[arg-type]  # options of build


def test_json_carries_reliability_and_gap_edges(small_run: Path) -> None:
    write(small_run)
    (board,) = json.loads((small_run / "leaderboard.json").read_text())["boards"]
    rows = {row["label"]: row for row in board["rows"]}
    assert len(board["gap_edges"]) == 3
    bins = rows["good"]["reliability"]
    assert list(bins[0]) == ["start", "end", "confidence", "accuracy", "low", "high", "n"]
    assert sum(one["n"] for one in bins) == 120
    # margins of 1 to 1.12: sigmoid 0.731 to 0.754, that is the fifth and sixth bin
    assert [k for k, one in enumerate(bins) if one["n"]] == [4, 5]
    assert bins[0]["accuracy"] is None
    assert sum(one["n"] * one["accuracy"] for one in bins if one["n"]) == pytest.approx(108)
    assert rows["base"]["reliability"] == rows["wild|loss"]["reliability"] == []


def test_reliability_pools_seeds_and_models(tmp_path: Path, add_cell: Add) -> None:
    for model in ("qwen", "gemma"):
        for seed in (0, 1):
            add_cell(tmp_path, "a", RNG([seed, len(model)]).normal(size=60), model=model, seed=seed)
    boards = build(read_records(tmp_path), resamples=50).boards
    assert [sum(one.n for one in board.rows[0].reliability) for board in boards] == [120, 120, 240]


def test_prepared_columns_are_averaged_over_seeds(tmp_path: Path, add_cell: Add) -> None:
    for seed, n_eff in ((0, 20.0), (1, 30.0)):
        add_cell(tmp_path, "a", np.ones(60), seed=seed, prepared={"weight": {"mean": 1.0, "n_eff": n_eff}})
    add_cell(tmp_path, "b", np.ones(60), seed=0)
    add_cell(tmp_path, "b", np.ones(60), seed=1)
    rows = rows_of(tmp_path)
    assert rows["a"].prepared == {"weight": {"mean": 1.0, "n_eff": 25.0}}
    assert rows["b"].prepared == {}


def test_records_from_before_a_metric_was_there_are_shown_with_it_or_with_a_reason(small_run: Path) -> None:
    new = ("ndcg", "best_of_n", "brier", "ece", "rejected_logp_drift", "likelihood_displacement", "spearman_true")
    for path in small_run.glob(f"cells/*/{RECORD}"):
        fields = json.loads(path.read_text())
        for part in ("metrics", "metric_reasons"):
            fields[part] = {name: value for name, value in (fields.get(part) or {}).items() if name not in new}
        fields.pop("prepared", None)
        path.write_text(json.dumps(fields))
    write(small_run)
    rows = {row["label"]: row for row in json.loads((small_run / "leaderboard.json").read_text())["boards"][0]["rows"]}
    for row in rows.values():
        assert list(row["metrics"]) == list(METRICS)
        missing = {name for name, one in row["metrics"].items() if one["value"] is None}
        assert row["status"] != "ok" or missing == set(row["metric_reasons"])
    assert rows["good"]["metrics"]["brier"]["value"] is not None  # its rows are there to read it from
    assert rows["good"]["metric_reasons"]["spearman_true"]


def test_the_interval_of_a_difference_is_that_of_the_differences() -> None:
    rng = RNG(3)
    one, other = rng.exponential(size=90), rng.normal(size=90)
    units = {Unit("one", "m", 0): one, Unit("other", "m", 0): other, Unit("apart", "m", 0): one - other}
    values = Values(prompt=np.arange(90) % 30, n_prompts=30, units=units)
    resampling = Resampling(resamples=2000, seed=0)
    metric = samples({"margin": values}, ("one", "other", "apart"), ("m",), (0,), resampling)["margin"]
    apart, direct = differences(metric, "other")["one"], estimates(metric)["apart"]
    assert (apart.value, apart.low, apart.high) == pytest.approx((direct.value, direct.low, direct.high), abs=1e-9)


def test_an_estimate_says_where_few_errors_carry_it_and_nothing_lies_apart_from_itself() -> None:
    accuracy = {"one": 0.95, "other": 0.7, "worst": 0.05}  # of 100 prompts: 5, 30, and 5 right
    units = {Unit(label, "m", 0): (np.arange(100) < 100 * share).astype(float) for label, share in accuracy.items()}
    values = Values(prompt=np.arange(100), n_prompts=100, units=units)
    by_metric = {"pairwise_accuracy": values, "margin": values}
    by_metric["ece"] = replace(values, prompt=values.prompt // 2, n_prompts=50)
    drawn = samples(by_metric, tuple(accuracy), ("m",), (0,), Resampling(resamples=100, seed=0))
    few = {name: [one.few for one in estimates(sample).values()] for name, sample in drawn.items()}
    assert few["pairwise_accuracy"] == [True, False, True]
    assert not any(few["margin"])
    apart = differences(drawn["pairwise_accuracy"], "one")
    assert (apart["one"].value, apart["one"].low, apart["one"].high) == (0, 0, 0)
    assert apart["other"].low < -0.25 < apart["other"].high < 0
    alone = estimates(drawn["ece"])["one"]  # 50 prompts: the number stands alone
    assert number_with_interval(alone) == "0.950"
    assert np.isfinite(differences(drawn["ece"], "one")["other"].low)


def test_a_one_seed_interval_is_scipys_bca_a_little_wider(small_run: Path) -> None:
    record = next(one for one in read_records(small_run) if one.label == "fair")
    table = record.rows()
    margin = (table["reward_chosen"] - table["reward_rejected"]).groupby(table["prompt_id"]).agg(["sum", "size"])
    theirs = scipy_stats.bootstrap(
        (margin["sum"].to_numpy(float), margin["size"].to_numpy(float)),
        lambda sums, sizes, axis=-1: sums.sum(axis) / sizes.sum(axis),
        paired=True,
        vectorized=True,
        n_resamples=10_000,
        method="BCa",
        rng=RNG(2),
    ).confidence_interval
    ours = rows_of(small_run)["fair"].metrics["margin"]
    # 40 prompts: Student's quantile and (P - 1) / P widen by a factor of 1.045
    assert (ours.high - ours.low) / (theirs.high - theirs.low) == pytest.approx(1.045, abs=0.06)
    assert (ours.low + ours.high) / 2 == pytest.approx((theirs.low + theirs.high) / 2, abs=0.01)
