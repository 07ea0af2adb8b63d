"""What a one-seed board makes of the noise floor that lies in its run folder, and how often it then finds what is not.

The simulation: seven equal losses, trained again each board; training moves the accuracy of each by 0.01 (sd).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.api import HarnessError
from harness.compare.repeats import calibrate, spreads
from harness.leaderboard import table_of, write
from harness.leaderboard.decide.estimates import (
    Reruns,
    Resampling,
    Sample,
    Unit,
    Values,
    comparison,
    estimates,
    samples,
)
from harness.leaderboard.table import Board, Row
from harness.run_folder.board_key import BoardKey
from harness.run_folder.noise_floor import LossOnModel, NoiseFloor, Spread, render_noise
from harness.run_folder.paths import NOISE_FLOOR
from harness.run_folder.store import read_records
from harness.statistics.intervals import resample_counts, resampled_means
from harness.statistics.pairwise_tests import compare

Add = Callable[..., None]
METRIC = "pairwise_accuracy"
FREEDOM = 12.0
T = scipy_stats.t.ppf(0.975, FREEDOM)


def floor_of(run: Path, sds: Mapping[tuple[str, str], float], **changed: Any) -> NoiseFloor:
    """Return a floor measured for this run, with these standard deviations by model and label."""
    record = read_records(run)[0]
    cells = {LossOnModel(*cell): Spread(sd=sd, freedom=FREEDOM, largest=0.1) for cell, sd in sds.items()}
    fields = {"protocol": 1, "metric": METRIC, "dataset_fingerprint": record.dataset.fingerprint,
              "settings": record.board, "runs": 5, "seeds": 1, "seeds_differ": True, "cells": cells,
              "overall": Spread(sd=0.01, freedom=4.0, largest=0.1), "smallest_margin": 0.05}  # fmt: skip
    return NoiseFloor(**{**fields, **changed})


def put(run: Path, floor: NoiseFloor) -> None:
    (run / NOISE_FLOOR).write_text(render_noise(floor))


def rows_of(board: Board) -> dict[str, Row]:
    return {row.label: row for row in board.rows}


def last_board(run: Path) -> Board:
    return table_of(run)[0].boards[-1]


SDS = {("qwen", "good"): 0.02, ("qwen", "fair"): 0.03, ("qwen", "bad"): 0.04}


def test_the_ranked_metric_is_wider_by_what_training_again_changes_and_the_others_are_not(small_run: Path) -> None:
    before = rows_of(last_board(small_run))
    put(small_run, floor_of(small_run, SDS))
    after = rows_of(last_board(small_run))
    for (_, label), sd in SDS.items():
        old, new = before[label].metrics[METRIC], after[label].metrics[METRIC]
        assert new.value == old.value
        assert new.value - new.low == pytest.approx(np.hypot(old.value - old.low, T * sd))
        assert new.high - new.value == pytest.approx(np.hypot(old.high - old.value, T * sd))
    for label in ("base", "longer-wins"):  # they are not trained
        assert repr(after[label]) == repr(replace(before[label], vs_leader=after[label].vs_leader))
    for label in before:
        assert repr({**after[label].metrics, METRIC: 0}) == repr({**before[label].metrics, METRIC: 0})
        assert repr(after[label].vs_base) == repr(before[label].vs_base)


def test_a_difference_to_the_leader_varies_by_what_both_do(small_run: Path) -> None:
    before = rows_of(last_board(small_run))
    put(small_run, floor_of(small_run, SDS))
    after = rows_of(last_board(small_run))
    for label, sd in (("fair", np.hypot(0.02, 0.03)), ("bad", np.hypot(0.02, 0.04)), ("longer-wins", 0.02)):
        old, new = before[label].vs_leader, after[label].vs_leader
        assert new.value - new.low == pytest.approx(np.hypot(old.value - old.low, T * sd))
    assert (after["good"].vs_leader.low, after["good"].vs_leader.high) == (0.0, 0.0)


def test_over_all_models_it_is_the_noise_of_their_mean(tmp_path: Path, add_cell: Add) -> None:
    sds = {}
    for model, sd in (("qwen", 0.03), ("gemma", 0.04)):
        for label, right in (("good", 108), ("fair", 90)):
            add_cell(tmp_path, label, np.where(np.arange(120) < right, 1.0, -1.0), model=model)
            sds[model, label] = sd
    before = rows_of(last_board(tmp_path))["good"].metrics[METRIC]
    put(tmp_path, floor_of(tmp_path, sds))
    board = last_board(tmp_path)
    after = rows_of(board)["good"].metrics[METRIC]
    assert board.noise_floor == pytest.approx(0.05 / 2)  # sqrt(0.03^2 + 0.04^2) / 2
    assert after.high - after.value == pytest.approx(np.hypot(before.high - before.value, T * 0.025))


def test_ranks_and_tiers_know_it(small_run: Path) -> None:
    before = rows_of(last_board(small_run))
    put(small_run, floor_of(small_run, dict.fromkeys(SDS, 1.0)))
    lost = rows_of(last_board(small_run))
    assert [before[label].tier for label in ("good", "fair", "bad")] == [1, 2, 3]
    assert [lost[label].tier for label in ("good", "fair", "bad")] == [1, 1, 1]
    assert (lost["good"].rank_low, lost["good"].rank_high) == (1, 3)


def test_a_comparison_of_two_is_students_test_of_both_variances() -> None:
    rng, sd, n_prompts = np.random.default_rng(7), np.array([0.02, 0.03]), 1000
    sums = np.array([[0.75], [0.68]]) + 0.3 * rng.normal(size=(2, n_prompts))
    sizes, counts = np.ones_like(sums), resample_counts(n_prompts, 20_000)
    per_seed, apart = sums.mean(1)[None], sums[0] - sums[1]
    prompts, reruns = apart.var(ddof=1) / n_prompts, float((sd**2).sum())
    freedom = (prompts + reruns) ** 2 / (prompts**2 / (n_prompts - 1) + reruns**2 / FREEDOM)
    expected = 2 * scipy_stats.t.sf(abs(apart.mean()) / np.sqrt(prompts + reruns), freedom)
    resampled = resampled_means(counts, sums, sizes)
    found = compare(per_seed, sums, sizes, resampled, reruns=(sd, FREEDOM))
    assert found.p[0, 1] == pytest.approx(expected, rel=0.03)
    assert found.detectable_planned == pytest.approx(
        (scipy_stats.t.ppf(0.975, freedom) + scipy_stats.t.ppf(0.8, freedom)) * np.sqrt(prompts + reruns), rel=0.01
    )
    nothing = compare(per_seed, sums, sizes, resampled, reruns=(np.zeros(2), FREEDOM))
    assert nothing.p[0, 1] == compare(per_seed, sums, sizes, resampled).p[0, 1]


def test_a_loss_that_was_not_measured_counts_as_the_noisiest(small_run: Path) -> None:
    put(small_run, floor_of(small_run, SDS))
    named = rows_of(last_board(small_run))["bad"]
    put(small_run, floor_of(small_run, {cell: sd for cell, sd in SDS.items() if cell != ("qwen", "good")}))
    board = last_board(small_run)
    assert repr(rows_of(board)["bad"].metrics) == repr(named.metrics)  # NaN is unlike itself
    assert board.noise_floor == pytest.approx(0.04)  # of 0.04, 0.03 and 0.04


def test_the_board_says_that_the_floor_is_in_it(small_run: Path) -> None:
    write(small_run)
    content = json.loads((small_run / "leaderboard.json").read_text())["boards"][-1]
    assert content["noise_floor"] is None
    put(small_run, floor_of(small_run, SDS))
    write(small_run)
    content = json.loads((small_run / "leaderboard.json").read_text())["boards"][-1]
    said = (
        "One seed, with training noise as measured from 5 runs (sd 0.0300) in the intervals, ranks and tiers by "
        "pairwise_accuracy; all other numbers are of these trained models, not of the losses."
    )
    assert content["noise_floor"] == 0.03
    assert said in content["conclusions"]
    assert said.replace("_", "\\_") in (small_run / "leaderboard.md").read_text()


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"metric": "spearman"}, "it was measured for spearman"),
        ({"dataset_fingerprint": "else"}, "it was measured on other data"),
        ({"settings": BoardKey(budget="pairs=1")}, "it was measured with another adapter, batch_pairs, budget"),
        ({"seeds_differ": False}, "it was measured from runs that share seeds"),
        ({"seeds": 3}, "it was measured with 3 seeds per run, but here are 1"),
    ],
)
def test_a_floor_of_other_runs_is_not_used_and_told(small_run: Path, changed: dict[str, Any], why: str) -> None:
    before = last_board(small_run)
    put(small_run, floor_of(small_run, SDS, **changed))
    after = last_board(small_run)
    assert repr(after.rows) == repr(before.rows)  # NaN is unlike itself
    assert after.noise_floor is None
    assert [
        sentence for sentence in after.disclaimers if f"The noise floor in gate.json is not used: {why}" in sentence
    ]


def test_a_board_of_several_seeds_has_its_own_and_does_not_mention_a_floor(tmp_path: Path, add_cell: Add) -> None:
    for seed in range(3):
        for label, right in (("good", 108), ("fair", 90)):
            add_cell(tmp_path, label, np.where(np.arange(120) < right + seed, 1.0, -1.0), seed=seed)
    before = last_board(tmp_path)
    put(tmp_path, calibrate([tmp_path]))
    assert repr(last_board(tmp_path)) == repr(before)  # NaN is unlike itself
    assert before.noise_floor is None


def test_a_broken_floor_is_told_and_not_passed_over(small_run: Path) -> None:
    put(small_run, floor_of(small_run, SDS | {("qwen", "bad"): float("nan")}))
    with pytest.raises(HarnessError, match=r"gate\.json: got TypeError .*; measure it again, or delete it"):
        write(small_run)


LOSSES, PROMPTS, SEEDS, NOISE, TRUTH = 7, 2000, 5, 0.01, 0.72
LABELS = tuple(f"loss{k}" for k in range(LOSSES))


def trained(rng: np.random.Generator, latent: np.ndarray, alike: float) -> np.ndarray:
    """Return right or wrong of each pair, (LOSSES, PROMPTS), of losses trained anew that are right alike in truth."""
    level = scipy_stats.norm.ppf(TRUTH + NOISE * rng.normal(size=(LOSSES, 1)))
    own = rng.normal(size=(LOSSES, PROMPTS))
    return np.asarray((np.sqrt(alike) * latent + np.sqrt(1 - alike) * own < level).astype(float))


def sample_of(right: np.ndarray, resampling: Resampling) -> Sample:
    units = {Unit(label, "qwen", 0): own for label, own in zip(LABELS, right, strict=True)}
    values = Values(prompt=np.arange(PROMPTS), n_prompts=PROMPTS, units=units)
    return samples({METRIC: values}, LABELS, ["qwen"], [0], resampling)[METRIC]


@pytest.mark.parametrize("alike", [0.6, 0.9, 0.999])  # the share of the latent variance that all trainings have alike
@pytest.mark.parametrize("boards", [20, pytest.param(500, marks=pytest.mark.stats)])
def test_equal_losses_are_seldom_told_apart_once_the_floor_is_measured(boards: int, alike: float) -> None:
    rng, resampling = np.random.default_rng(5), Resampling(resamples=1000, seed=0)
    found, missed = {"with": 0, "without": 0}, {"with": 0, "without": 0}
    for _ in range(boards):
        latent = rng.normal(size=PROMPTS)
        measured = spreads(np.array([trained(rng, latent, alike).mean(1) for _ in range(SEEDS)]))
        bare = sample_of(trained(rng, latent, alike), resampling)
        sd = np.array([spread.sd for spread in measured])
        aware = replace(bare, reruns=Reruns(sd=sd, freedom=measured[0].freedom))
        for name, sample in (("without", bare), ("with", aware)):
            found[name] += bool(comparison(sample, resampling).better.any())
            missed[name] += sum(not one.low <= TRUTH <= one.high for one in estimates(sample).values())
    print(
        f"\n{boards} one-seed boards of {LOSSES} equal losses, {alike:.1%} alike: false finds {found}; intervals that "
        f"miss the truth, of {boards * LOSSES}: {missed}"
    )
    assert found["with"] <= scipy_stats.binom.ppf(0.999, boards, 0.05)
    assert found["without"] > max(0.2 * boards, found["with"])
    assert missed["with"] < missed["without"]
    if boards == 500:
        assert missed["with"] / boards / LOSSES < 0.06
