"""What a board ranks by can be compared, gated and planned for: one list of metrics for all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_cells import add_cell

from harness.api import HarnessError
from harness.compare.comparison import compare
from harness.compare.verdict import Status, gate
from harness.leaderboard.power import power_page
from harness.run_folder.store import read_records
from harness.statistics.metrics import METRICS

JUDGED = [name for name, metric in METRICS.items() if metric.direction != "none"]
RANKED = [name for name, metric in METRICS.items() if metric.direction == "higher"]
UNKNOWN_HERE = {"pairwise_accuracy_true", "spearman_true", "pairwise_accuracy_lenbalanced"}
"""Metrics of data that these runs do not have: true qualities, length-balanced pairs."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """BASE and NEW: two losses each, 120 pairs of 20 prompts, listwise data, noise of their own."""
    rng = np.random.default_rng(0)
    folders = tuple(tmp_path_factory.mktemp(name) / "run" for name in ("base", "new"))
    for shift, folder in enumerate(folders):
        for label in ("one", "two"):
            add_cell(folder, label, rng.normal(size=120) + 0.2 * shift, prompts=20)
    return folders


@pytest.mark.parametrize("metric", JUDGED)
def test_a_metric_is_compared_and_gated_wherever_the_records_have_it(metric: str, runs: tuple[Path, Path]) -> None:
    before, after = ({record.label: record.metrics[metric] for record in read_records(folder)} for folder in runs)
    assert (before["one"] is None) == (metric.partition("@")[0] in UNKNOWN_HERE)
    if before["one"] is None:
        with pytest.raises(HarnessError, match="has no value in any cell"):
            compare(*runs, metric, resamples=200)
        return
    comparison = compare(*runs, metric, resamples=200)
    for difference in comparison.cells:
        expected = np.subtract(after[difference.cell.label], before[difference.cell.label])
        assert difference.value == pytest.approx(expected, abs=1e-9)
    assert gate(compare(runs[0], runs[0], metric, resamples=200), margin=0.01).status is Status.PASS


@pytest.mark.parametrize("metric", RANKED)
def test_pairs_and_seeds_are_planned_for_in_every_metric_that_ranks(metric: str, runs: tuple[Path, Path]) -> None:
    if metric.partition("@")[0] in UNKNOWN_HERE:
        with pytest.raises(HarnessError, match="fewer than two scored losses"):
            power_page(runs[0], 0.05, metric)
    else:
        assert "20 prompts, 2 losses, 1 comparison" in power_page(runs[0], 0.05, metric)
