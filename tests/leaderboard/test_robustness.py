"""Losses along an axis of noise: accuracies, slopes and their differences, against what is computed by hand."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.leaderboard import renders, table_of, write
from harness.leaderboard.decide.robustness import Robustness

SETTINGS = {"protocol": 1, "dataset": "embedded", "preset": "nano", "budget": "pairs=512", "evaluated_on": "test"}
AMOUNTS = (0.0, 0.1, 0.4)
RIGHT = {"dpo": (90, 80, 50), "robust-dpo": (85, 85, 79)}
"""Of 120 test pairs at each amount."""


def margins(right: int, seed: int) -> np.ndarray:
    found = np.where(np.arange(120) < right, 1.0, -1.0)
    return np.asarray(np.random.default_rng(seed).permutation(found))


@pytest.fixture
def run(tmp_path: Path, add_cell: Callable[..., None]) -> Path:
    """Two losses at three amounts of noise, and one that is missing at an amount."""
    for number, amount in enumerate(AMOUNTS):
        folder = tmp_path if amount == 0 else tmp_path / f"at-noise=flip={amount}"
        board = {**SETTINGS, "learning_rate": 0.001} | ({"noise": f"flip={amount}"} if amount else {})
        for label in ("base", "longer-wins"):
            add_cell(folder, label, margins(60, 9), board=board)
        for label, right in RIGHT.items():
            add_cell(folder, label, margins(right[number], number), board=board)
        if amount < 0.4:
            add_cell(folder, "late", margins(70, 3), board=board)
        (folder / "manifest.json").write_text(json.dumps({"models": ["qwen"], "cells": []}))
    return tmp_path


def along(run: Path) -> Robustness:
    (found,) = table_of(run)[0].robustness
    return found


def test_accuracies_are_those_of_the_boards_at_each_amount(run: Path) -> None:
    found = along(run)
    assert (found.dial, found.model, found.amounts, found.n_pairs) == ("flip", "qwen", AMOUNTS, 120)
    for label, right in RIGHT.items():
        assert [value.value for value in found.values[label]] == pytest.approx([each / 120 for each in right])
    by_noise = {board.settings.noise: board for board in table_of(run)[0].boards}
    for place, noise in enumerate((None, "flip=0.1", "flip=0.4")):
        row = next(row for row in by_noise[noise].rows if row.label == "dpo")
        assert found.values["dpo"][place].value == row.metrics["pairwise_accuracy"].value


def test_slopes_are_those_of_least_squares_and_differences_are_paired(run: Path) -> None:
    found = along(run)
    slopes = {label: np.polyfit(AMOUNTS, np.array(right) / 120, 1)[0] for label, right in RIGHT.items()}
    for label, slope in slopes.items():
        assert found.slopes[label].value == pytest.approx(slope)
        assert found.slopes[label].low < slope < found.slopes[label].high
    apart = found.differences["robust-dpo"]["dpo"]
    assert apart.value == pytest.approx(slopes["robust-dpo"] - slopes["dpo"])
    assert (apart.low, apart.high) == pytest.approx(
        [-end for end in (found.differences["dpo"]["robust-dpo"].high, found.differences["dpo"]["robust-dpo"].low)],
        abs=0.01,
    )


def test_the_interval_of_a_slope_is_as_wide_as_theory_says(run: Path) -> None:
    """Pairs of a prompt count together: the slope per prompt is a mean of independent ones, whose sd / sqrt(P) is its
    standard error."""
    found = along(run)
    weights = np.array(AMOUNTS) - np.mean(AMOUNTS)
    weights /= (weights**2).sum()
    per_pair = sum(
        weight * (margins(right, place) > 0)
        for place, (weight, right) in enumerate(zip(weights, RIGHT["dpo"], strict=True))
    )
    independent = np.std(per_pair, ddof=1) / np.sqrt(120)
    width = (found.slopes["dpo"].high - found.slopes["dpo"].low) / (2 * 1.96)
    assert 0.6 * independent < width < 1.6 * independent


def test_a_loss_without_a_result_somewhere_is_named_and_has_no_slope(run: Path) -> None:
    assert along(run).left_out == ("late",)
    assert set(along(run).slopes) == set(RIGHT)


def test_every_rendering_has_it_and_a_run_without_noise_has_nothing_of_it(run: Path) -> None:
    write(run)
    table = table_of(run)[0]
    texts = renders(table)
    (found,) = json.loads(texts["leaderboard.json"])["robustness"]
    assert found["losses"]["robust-dpo"]["slope_less_that_of"]["dpo"]["value"] > 0
    lines = [
        line for line in csv.DictReader(io.StringIO(texts["leaderboard.csv"])) if line["metric"].startswith("slope")
    ]
    assert [line["label"] for line in lines] == ["dpo", "robust-dpo"]
    markdown = texts["leaderboard.md"]
    assert "### qwen: own reward along noise flip" in markdown
    assert "| loss | 0 | 0.1 | 0.4 | slope | slope over dpo's |" in markdown
    assert "Without a result somewhere on the axis: late." in markdown
    assert "<h3>qwen: own reward along noise flip</h3>" in (run / "leaderboard.html").read_text()
    for folder in run.glob("at-*"):
        assert "robustness" not in json.loads(renders(table_of(folder)[0])["leaderboard.json"])


def test_where_true_quality_is_known_it_is_told_along_noise_too(tmp_path: Path, add_cell: Callable[..., None]) -> None:
    # a pair is annotated right where i < 90 of 120; without noise the loss follows all labels, at 0.4 it inverts 48
    annotated = np.where(np.arange(120) < 90, 1.0, -1.0)
    for amount, inverted in ((0.0, 0), (0.4, 48)):
        folder = tmp_path if amount == 0 else tmp_path / f"at-noise=flip={amount}"
        board = {**SETTINGS, "learning_rate": 0.001} | ({"noise": f"flip={amount}"} if amount else {})
        add_cell(folder, "dpo", np.where(np.arange(120) < inverted, -1.0, 1.0), board=board, truth=annotated)
        (folder / "manifest.json").write_text(json.dumps({"models": ["qwen"], "cells": []}))
    of_labels, of_truth = table_of(tmp_path)[0].robustness
    assert (of_labels.metric, of_truth.metric) == ("pairwise_accuracy", "pairwise_accuracy_true")
    assert [value.value for value in of_labels.values["dpo"]] == pytest.approx([1.0, 72 / 120])
    # of the inverted 48 all were annotated right: 90 right of 120, then 42
    assert [value.value for value in of_truth.values["dpo"]] == pytest.approx([90 / 120, 42 / 120])
    assert "own reward against true quality along noise flip" in renders(table_of(tmp_path)[0])["leaderboard.md"]
