"""The page of `harness power`."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from harness.api import HarnessError
from harness.leaderboard.power import power_page

Add = Callable[..., None]
RNG = np.random.default_rng


def several_seeds(run: Path, add_cell: Add, models: tuple[str, ...] = ("qwen",)) -> None:
    for model in models:
        for k, label in enumerate(("a", "b", "c")):
            for seed in (0, 1, 2):
                margins = RNG(7).normal(size=240) + 0.3 * k + 0.4 * RNG([k, seed]).normal(size=240)
                add_cell(run, label, margins, model=model, seed=seed, prompts=80)


def test_pairs_are_prompts_times_the_pairs_a_prompt_and_fall_with_the_seeds(tmp_path: Path, add_cell: Add) -> None:
    several_seeds(tmp_path, add_cell)
    page = power_page(tmp_path, 0.05)
    assert "qwen: 240 pairs of 80 prompts, 3 losses, 3 comparisons, seeds 0, 1, 2" in page
    rows = {
        int(line.split()[0]): [int(n.replace(",", "")) for n in re.findall(r"([\d,]+) pairs", line)]
        for line in page.splitlines()
        if re.match(r"\s+\d+ .*pairs", line)
    }
    assert list(rows) == [3, 5, 10]
    assert all(numbers[0] <= numbers[1] and numbers[0] < numbers[2] for numbers in rows.values())
    assert rows[3][0] > rows[5][0] > rows[10][0]
    assert all(number % 3 == 0 for numbers in rows.values() for number in numbers)
    assert "With the pairs of this run: " in page


def test_one_seed_says_what_it_cannot_know(small_run: Path) -> None:
    page = power_page(small_run, 0.02)
    assert "over seeds unknown" in page
    assert "One seed: what seeds add is not known." in page
    assert "3 losses, 3 comparisons, seed 0" in page  # the diverged one is left out
    fewer = power_page(small_run, 0.04)
    pairs = [int(re.search(r"^ +1 +([\d,]+) pairs", one, re.M)[1].replace(",", "")) for one in (page, fewer)]  # type: ignore[index]  # the line is there
    assert pairs[0] == pytest.approx(4 * pairs[1], rel=0.02)  # half the difference takes four times the pairs


def test_every_model_and_all_of_them_have_a_section(tmp_path: Path, add_cell: Add) -> None:
    several_seeds(tmp_path, add_cell, ("qwen", "gemma"))
    page = power_page(tmp_path, 0.05, ranked_by="spearman")
    assert "in spearman" in page
    assert [name in page for name in ("\n\nqwen:", "\n\ngemma:", "\n\nall of gemma, qwen:")] == [True] * 3


def test_what_cannot_be_asked_is_refused(tmp_path: Path, small_run: Path, add_cell: Add) -> None:
    with pytest.raises(HarnessError, match="expected a number above 0"):
        power_page(small_run, 0.0)
    with pytest.raises(HarnessError, match="got --ranked-by brier, expected one of pairwise_accuracy"):
        power_page(small_run, 0.02, ranked_by="brier")
    add_cell(tmp_path / "one", "only", np.ones(40))
    with pytest.raises(HarnessError, match="fewer than two scored losses"):
        power_page(tmp_path / "one", 0.02)


def test_the_page_needs_no_torch(small_run: Path) -> None:
    program = (
        "import sys\n"
        "for name in ('torch', 'transformers', 'vllm', 'ray', 'datasets'): sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from harness.leaderboard.power import power_page\n"
        "print(power_page(Path(sys.argv[1]), 0.02))\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(small_run)], check=True, capture_output=True, text=True)
    assert "pairs" in done.stdout
