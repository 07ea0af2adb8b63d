"""Accuracy by subset on boards: values counted with pandas, intervals of scipy, and every rendering."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rewritten import rewrite
from scipy.stats import binomtest

from harness.leaderboard import csv as csv_board
from harness.leaderboard import json as json_board
from harness.leaderboard import markdown
from harness.leaderboard.page import html
from harness.leaderboard.page.manifest_facts import ManifestFacts
from harness.leaderboard.table import Row, Table, build
from harness.run_folder.store import read_records

Add = Callable[..., None]
PAIRS = 90
NAMES = np.array(["easy", "hard", ""], dtype=object)[np.arange(PAIRS) % 3]
RIGHT = {"good": 80, "fair": 45, "base": 50, "longer-wins": 30}
OWN, LEARNED = "pairwise_accuracy", "pairwise_accuracy@learned"


def margins(right: int, seed: int = 0) -> np.ndarray:
    """Margins of which so many are above 0, spread over the pairs."""
    order = np.random.default_rng(seed).permutation(PAIRS)
    return np.where(order < right, 1.0, -1.0)


def name_subsets(run: Path, names: Sequence[str]) -> None:
    for path in run.glob("cells/*/rows.parquet"):
        rewrite(path, pd.read_parquet(path).assign(subset=list(names)))


@pytest.fixture
def run(tmp_path: Path, add_cell: Add) -> Path:
    """One pair a prompt, 30 pairs in each of two subsets, 30 in none."""
    for label, right in RIGHT.items():
        add_cell(tmp_path, label, np.zeros(PAIRS) if label == "base" else margins(right), prompts=PAIRS)
    name_subsets(tmp_path, NAMES)
    return tmp_path


def table_of(run: Path, **options: object) -> Table:
    return build(read_records(run), resamples=200, **options)  # type: ignore[arg-type]  # options of build


def row_of(table: Table, label: str) -> Row:
    return next(row for row in table.boards[0].rows if row.label == label)


def counted(right: int, seed: int = 0) -> dict[str, int]:
    """Right pairs in each subset, by pandas."""
    names = pd.Series(NAMES).replace("", "no subset")
    return {str(name): int(number) for name, number in pd.Series(margins(right, seed) > 0).groupby(names).sum().items()}


@pytest.mark.parametrize("label", ["good", "fair", "longer-wins"])
def test_each_row_has_the_share_of_each_subset_with_the_exact_interval(label: str, run: Path) -> None:
    found = row_of(table_of(run), label).subsets
    for name, right in counted(RIGHT[label]).items():
        estimate, exact = found[name][OWN], binomtest(right, 30).proportion_ci(method="exact")
        assert (estimate.value, estimate.n) == (pytest.approx(right / 30), 30)
        assert (estimate.low, estimate.high) == pytest.approx((exact.low, exact.high))


def test_subsets_stand_in_alphabetical_order_with_their_pairs_and_those_of_none_last(run: Path) -> None:
    assert list(table_of(run).boards[0].subset_pairs.items()) == [("easy", 30), ("hard", 30), ("no subset", 30)]


def test_the_base_has_one_half_relative_to_itself_and_no_reward_of_its_own(run: Path) -> None:
    base = row_of(table_of(run), "base").subsets["easy"]
    assert (base[LEARNED].value, base[LEARNED].n) == (0.5, 30)
    assert np.isnan(base[LEARNED].low)
    assert OWN not in base


def test_over_seeds_the_share_is_the_mean_and_the_interval_wider(tmp_path: Path, add_cell: Add) -> None:
    for seed in (0, 1, 2):
        add_cell(tmp_path, "good", margins(60 + 5 * seed, seed), prompts=PAIRS, seed=seed)
    name_subsets(tmp_path, NAMES)
    estimate = row_of(table_of(tmp_path), "good").subsets["hard"][OWN]
    shares = [counted(60 + 5 * seed, seed)["hard"] / 30 for seed in (0, 1, 2)]
    assert estimate.value == pytest.approx(np.mean(shares))
    # Student's t with 2 degrees of freedom on the seeds alone
    assert estimate.high - estimate.value > min(4.303 * np.std(shares, ddof=1) / 3**0.5, 1 - estimate.value) - 1e-9


def test_over_models_each_weighs_the_same(tmp_path: Path, add_cell: Add) -> None:
    for seed, model in enumerate(("qwen", "gemma")):
        add_cell(tmp_path, "good", margins(60, seed), prompts=PAIRS, model=model)
    name_subsets(tmp_path, NAMES)
    table = table_of(tmp_path)
    over_all = next(board for board in table.boards if board.model == "all").rows[0]
    shares = [counted(60, seed)["easy"] / 30 for seed in (0, 1)]
    assert over_all.subsets["easy"][OWN].value == pytest.approx(np.mean(shares))


def test_the_ranked_accuracy_comes_first_and_another_metric_adds_none(run: Path) -> None:
    by_mean = row_of(table_of(run, ranked_by="pairwise_accuracy@mean"), "good").subsets["easy"]
    assert list(by_mean) == ["pairwise_accuracy@mean", LEARNED, OWN]
    by_brier = row_of(table_of(run, ranked_by="spearman"), "good").subsets["easy"]
    assert list(by_brier) == [LEARNED, OWN]


def test_a_name_for_each_row_is_no_subset_and_the_board_says_so(run: Path) -> None:
    name_subsets(run, [f"id{number}" for number in range(PAIRS)])
    board = table_of(run).boards[0]
    assert not board.subset_pairs
    assert not any(row.subsets for row in board.rows)
    assert "The data have 90 subsets, more than 40: accuracy by subset is not listed." in board.disclaimers
    name_subsets(run, [f"part{number % 40}" for number in range(PAIRS)])
    assert len(table_of(run).boards[0].subset_pairs) == 40


@pytest.mark.parametrize("names", [None, [""] * PAIRS])
def test_data_without_subsets_say_nothing_of_them(names: list[str] | None, tmp_path: Path, add_cell: Add) -> None:
    add_cell(tmp_path, "good", margins(80), prompts=PAIRS)
    if names:
        name_subsets(tmp_path, names)
    table = table_of(tmp_path)
    texts = [json_board.render(table), csv_board.render(table), markdown.render(table), page(table)]
    assert not any("subset" in text for text in texts)


def page(table: Table) -> str:
    return html.render(table, manifest=ManifestFacts())


def test_every_rendering_has_every_share(run: Path) -> None:
    table = table_of(run)
    right = counted(RIGHT["good"])["hard"]
    exact = binomtest(right, 30).proportion_ci(method="exact")
    shown = f"{right / 30:.3f} [{exact.low:.3f}, {exact.high:.3f}]"

    rows = {row["label"]: row for row in json.loads(json_board.render(table))["boards"][0]["rows"]}
    assert rows["good"]["subsets"]["hard"][OWN]["value"] == pytest.approx(right / 30)
    assert rows["good"]["subsets"]["hard"][OWN]["n"] == 30

    lines = {(line["label"], line["metric"]): line for line in csv.DictReader(io.StringIO(csv_board.render(table)))}
    assert float(lines["good", f"{OWN}[hard]"]["low"]) == pytest.approx(exact.low)
    assert lines["good", f"{OWN}[hard]"]["n"] == "30"

    text = markdown.render(table)
    assert "| loss | easy (30) | hard (30) | no subset (30) |" in text
    assert shown in text
    assert f'{right / 30:.3f} <span class="range">[{exact.low:.3f}, {exact.high:.3f}]' in page(table)


def test_names_of_subsets_cannot_break_a_page_or_a_table(run: Path) -> None:
    name_subsets(run, ["<b>|x" if name == "easy" else name for name in NAMES])
    table = table_of(run)
    assert "<b>" not in page(table)
    assert "&lt;b&gt;|x (30)" in page(table)
    assert r"\<b\>\|x (30)" in markdown.render(table)
