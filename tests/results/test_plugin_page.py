"""docs/write-a-plugin.md: its module installed as a distribution, and its commands run."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "write-a-plugin.md").read_text(encoding="utf-8")
LITTLE = ("--models", "qwen", "--budget", "pairs=32", "--max-new-tokens", "8", "--quiet")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the distribution of the page, as pip would install it."""
    folder = tmp_path_factory.mktemp("site")
    (folder / "my_plugin.py").write_text("\n\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)))
    info = folder / "my_plugin-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-plugin\nVersion: 1.0\n")
    (entry,) = re.findall(r"```toml\n\[project.entry-points.harness\]\n(.*?)```", PAGE, re.DOTALL)
    (info / "entry_points.txt").write_text("[harness]\n" + entry.replace('"', ""))
    return folder


@pytest.fixture(scope="module")
def ran(site: Path, harness: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The folders of the page's runs, its commands as they stand with less to do."""
    folders = []
    for command in re.findall(r"^harness (run .*)$", PAGE, re.MULTILINE):
        folders.append(tmp_path_factory.mktemp("runs") / "run")
        done = harness(*command.split(), *LITTLE, "--output-dir", str(folders[-1]), PYTHONPATH=str(site))
        assert done.returncode == 0, done.stdout + done.stderr
        assert "failed" not in done.stdout
    return folders


def test_the_data_set_of_the_page_is_what_it_says(site: Path, harness: Any) -> None:
    told = harness("data", "describe", "sums", PYTHONPATH=str(site))
    assert told.returncode == 0, told.stderr
    assert re.search(r"train +64", told.stdout)
    assert "every rejected answer is wrong" in told.stdout


def test_the_scorer_of_the_page_gives_the_log_probs_of_the_shipped_one(ran: list[Path]) -> None:
    rows = {}
    for folder in ran:
        (path,) = folder.glob("cells/qwen--base--*/record.json")
        record = json.loads(path.read_text())
        assert record["dataset"]["name"] == "sums"
        rows[record["scorer"]["name"]] = pd.read_parquet(folder / "cells" / record["key"] / "rows.parquet")
    assert set(rows) == {"plain", "transformers"}
    for side in ("chosen_sum_logp", "rejected_sum_logp"):
        pd.testing.assert_series_equal(rows["plain"][side], rows["transformers"][side], atol=1e-3, rtol=0)


def test_the_judge_of_the_page_counts_the_words_of_every_answer(ran: list[Path]) -> None:
    folder = ran[1]
    tables = list(folder.glob("cells/*/judgements/*.parquet"))
    assert len(tables) == 3  # simpo, dpo and the base
    for table in tables:
        answers = pd.read_parquet(table.parents[1] / "generations.parquet").set_index(["prompt_id", "sample"])
        ratings = pd.read_parquet(table)
        assert len(ratings) == 8
        words = answers["text"].str.split().str.len()
        for line in ratings.itertuples():
            assert line.rating == -words[line.prompt_id, line.sample]
