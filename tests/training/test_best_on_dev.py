"""`harness run --report best-on-dev`: every point is scored on dev as a run on dev would, and the best is reported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.exchange.merge import merge
from harness.exchange.verify import verify
from harness.leaderboard import write
from harness.run_folder.record import Record
from harness.run_folder.store import read_records

OPTIONS = (
    "run", "--plugins", "simpo,dpo", "--models", "qwen", "--limit", "24", "--budget", "pairs=32", "--scorer",
    "transformers", "--evaluate-at", "0.5,1", "--no-pictures",
)  # fmt: skip
LEARNED = "pairwise_accuracy@learned"


@pytest.fixture(scope="module")
def runs(harness: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Return the run that chooses, one that only scores on test, and one that only scores on dev."""
    folder = tmp_path_factory.mktemp("runs")
    more = {"chosen": ("--report", "best-on-dev"), "test": (), "dev": ("--evaluate-on", "dev")}
    for name, options in more.items():
        done = harness(*OPTIONS, *options, "--output-dir", str(folder / name))
        assert done.returncode == 0, done.stdout + done.stderr
    return {name: folder / name for name in more}


@pytest.fixture
def run(runs: dict[str, Path], tmp_path: Path) -> Path:
    """A copy to be changed."""
    return shutil.copytree(runs["chosen"], tmp_path / "run")


def losses(run: Path) -> list[Record]:
    return [record for record in read_records(run) if record.kind == "loss"]


def test_points_have_on_dev_what_a_run_on_dev_has_and_on_test_what_one_without_choosing_has(
    runs: dict[str, Path],
) -> None:
    for record, on_test, on_dev in zip(*(losses(runs[name]) for name in ("chosen", "test", "dev")), strict=True):
        for fraction in ("0.5", "1"):
            own = record.folder / "points" / fraction
            pairs = [(own / "dev", on_dev.folder), (own, on_test.folder)]
            for mine, other in pairs:
                for name in ("rows.parquet", "responses.parquet"):
                    there = pd.read_parquet(other / "points" / fraction / name)
                    pd.testing.assert_frame_equal(pd.read_parquet(mine / name), there, atol=1e-4, rtol=1e-5)
        assert [point.dev.metrics[LEARNED] for point in record.points if point.dev] == pytest.approx(
            [point.metrics[LEARNED] for point in on_dev.points]
        )


def test_the_board_of_its_own_has_the_test_numbers_of_the_point_that_is_best_on_dev(runs: dict[str, Path]) -> None:
    own, chosen = json.loads((runs["chosen"] / "leaderboard.json").read_text())["boards"]
    assert "best point on dev" in chosen["title"]
    assert "best point on dev" not in own["title"]
    rows = {row["label"]: row for row in chosen["rows"]}
    for record in losses(runs["chosen"]):
        by_dev = {point.dev.metrics[LEARNED]: point for point in record.points if point.dev}  # the last of equal ones
        point = by_dev[max(by_dev)]
        assert rows[record.label]["reported_at"] == [point.fraction]
        assert rows[record.label]["metrics"][LEARNED]["value"] == pytest.approx(point.metrics[LEARNED])
    assert rows["base"]["metrics"][LEARNED]["value"] == 0.5
    (said,) = (sentence for sentence in chosen["disclaimers"] if "best on the development split" in sentence)
    assert all(f"{label} at " in said for label in ("simpo", "dpo"))
    assert "--report best-on-dev" in (runs["chosen"] / "leaderboard.html").read_text()


def test_a_run_without_choosing_has_no_such_board(runs: dict[str, Path]) -> None:
    assert len(json.loads((runs["test"] / "leaderboard.json").read_text())["boards"]) == 1


def test_a_run_that_chose_is_verified_and_a_changed_value_on_dev_is_named(run: Path) -> None:
    assert verify(run).problems == ()
    record = losses(run)[0].folder / "record.json"
    text = json.loads(record.read_text())
    text["points"][0]["dev"]["metrics"][LEARNED] = 1.0
    record.write_text(json.dumps(text))
    assert any(f"{LEARNED} = 1," in problem for problem in verify(run).problems)


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_bytes(b"no table")])
def test_a_lost_or_broken_table_on_dev_is_named(change: Callable[[Path], Any], run: Path) -> None:
    change(losses(run)[0].folder / "points" / "0.5" / "dev" / "rows.parquet")
    assert any("0.5/dev" in problem for problem in verify(run).problems)


def test_a_merged_run_has_the_tables_on_dev(runs: dict[str, Path], run: Path, tmp_path: Path) -> None:
    for record in losses(run)[1:]:
        shutil.rmtree(record.folder)
    write(run)
    merge([run, runs["chosen"]], tmp_path / "merged")
    assert verify(tmp_path / "merged").problems == ()
    assert all(
        (record.folder / "points" / "0.5" / "dev" / "rows.parquet").is_file() for record in losses(tmp_path / "merged")
    )


def test_the_same_command_again_computes_nothing_and_another_choice_is_another_run(
    runs: dict[str, Path], harness: Callable[..., Any]
) -> None:
    again = harness(*OPTIONS, "--report", "best-on-dev", "--output-dir", str(runs["chosen"]))
    assert "2 have their result, 0 to compute" in again.stdout
    other = harness(*OPTIONS, "--output-dir", str(runs["chosen"]))
    assert other.returncode == 2
    assert "report was 'best-on-dev', now 'end'" in other.stderr
