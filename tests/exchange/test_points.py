"""Points along a run in folders that travel: verify finds each planted defect, merge and export keep them."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from harness.api import HarnessError
from harness.exchange.export import run_export
from harness.exchange.merge import merge
from harness.exchange.verify import verify
from harness.leaderboard import write
from harness.planning.run_file import make_run as run_of
from harness.run_folder.hashes import file_hash
from harness.run_folder.point_facts import PointFacts
from harness.run_folder.store import read_record, read_records, write_record, write_tables
from harness.statistics.summary import summarise

Make = Callable[..., Path]
SIMPO = "qwen--simpo--5ca962--seed0"
RUN = {"models": ["qwen"], "dataset": "made-up", "budget": "pairs=64", "scorer": "vllm", "evaluate_at": [0.5, 1]}
SPENT = {
    0.5: {"step": 2, "pairs": 32, "tokens": 2_000, "flops": 12_000_000, "seconds": 1.0},
    1.0: {"step": 4, "pairs": 64, "tokens": 5_000, "flops": 30_000_000, "seconds": 2.0},
}
"""Of a budget of 64 pairs, 16 a step; 1,000 parameters, six operations each."""


def halfway(rows: pd.DataFrame, responses: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return tables of SimPO, beta 2, with other log-probs and the rewards that they give."""
    number = np.arange(len(responses))
    responses = responses.assign(sum_logp=responses["sum_logp"] - number % 5 / 4)
    responses["reward"] = 2 * responses["sum_logp"] / responses["tokens"]
    known = responses.set_index("response_id")
    for side in ("chosen", "rejected"):
        taken = known.loc[rows[f"{side}_response_id"]]
        rows = rows.assign(
            **{f"{side}_sum_logp": taken["sum_logp"].to_numpy(), f"reward_{side}": taken["reward"].to_numpy()}
        )
    return rows, responses


def add_points(run: Path, complete: Callable[..., None]) -> Path:
    """Give the SimPO of a run points at 0.5 and 1, and let the manifest ask for them."""
    folder = run / "cells" / SIMPO
    record, points = read_record(folder), []
    end = record.rows(), record.responses()
    for at, (rows, responses) in ((0.5, halfway(*end)), (1.0, end)):
        metrics, _ = summarise(rows, responses, record.averaged)
        files = write_tables(folder / "points" / f"{at:g}", record.key, rows, responses)
        points.append(PointFacts.of({"fraction": at, "metrics": metrics, "files": files, **SPENT[at]}))
    write_record(folder, record.model_copy(update={"points": tuple(points)}), *end)
    complete(run, ("simpo",), of=run_of({**RUN, "plugins": "simpo"}))
    return run


@pytest.fixture
def pointed(make_run: Make, complete: Callable[..., None], tmp_path: Path) -> Path:
    """A whole run of SimPO with points."""
    return add_points(make_run(tmp_path / "run", "base", "longer-wins", "simpo", board=False), complete)


def only_problem(run: Path) -> str:
    problems = verify(run).problems
    assert len(problems) == 1, problems
    return problems[0]


def change_record(run: Path, change: Callable[[dict[str, Any]], None], rebuild: bool = True) -> None:
    """Change record.json, and make the leaderboards of it anew."""
    path = run / "cells" / SIMPO / "record.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    if rebuild:
        write(run)


def test_a_sound_run_with_points_is_verified(pointed: Path) -> None:
    found = verify(pointed)
    assert found.problems == ()
    assert "2 points along the runs of cells are as far as they say" in found.text()
    assert "10 files of 3 cells and 2 points have the sha256 that their record has" in found.text()


def test_a_changed_table_of_a_point_is_named(pointed: Path) -> None:
    path = pointed / "cells" / SIMPO / "points" / "0.5" / "rows.parquet"
    rows = pd.read_parquet(path)
    rows.loc[0, "reward_chosen"] += 1
    rows.to_parquet(path)
    problems = verify(pointed).problems
    assert any(f"cells/{SIMPO}/points/0.5/rows.parquet: got sha256:" in problem for problem in problems)
    assert all(SIMPO in problem or problem.startswith("leaderboard") for problem in problems)


def test_a_metric_of_a_point_that_its_rows_do_not_give_is_named(pointed: Path) -> None:
    change_record(pointed, lambda content: content["points"][0]["metrics"].update(pairwise_accuracy=0.99))
    assert f"cells/{SIMPO}/record.json: got pairwise_accuracy = 0.99, expected" in only_problem(pointed)


def test_rewards_of_a_point_that_the_loss_does_not_give_are_named(pointed: Path) -> None:
    folder = pointed / "cells" / SIMPO
    record = read_record(folder)
    rows, responses = (pd.read_parquet(folder / "points" / "0.5" / f"{name}.parquet") for name in ("rows", "responses"))
    for side in ("chosen", "rejected"):  # all twice as large: no metric of ranks changes
        rows[f"reward_{side}"] *= 2
    responses["reward"] *= 2
    metrics, _ = summarise(rows, responses, record.averaged)
    files = write_tables(folder / "points" / "0.5", record.key, rows, responses)
    change_record(pointed, lambda content: content["points"][0].update(files=files, metrics=metrics))
    assert f"cells/{SIMPO}/points/0.5/responses.parquet: got another reward than simpo gives" in only_problem(pointed)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda points: points[0].update(step=3, pairs=48), "got step 3 at 0.5, expected 2"),
        (lambda points: points[0].update(pairs=33), "got 33 pairs at step 2, expected 16 for each"),
        (lambda points: points[1].update(tokens=4_999), "got tokens 4999 at the end, expected 5000 as in spend"),
        (lambda points: points[0].update(fraction=0.6), "got points at [0.6, 1.0], expected [0.5, 1.0]"),
        (lambda points: points.clear(), "got points at [], expected [0.5, 1.0]"),
    ],
)
def test_points_that_are_not_as_far_as_they_say_are_named(
    change: Callable[[list[dict[str, Any]]], None], words: str, pointed: Path
) -> None:
    change_record(pointed, lambda content: change(content["points"]), rebuild=False)
    problems = [problem for problem in verify(pointed).problems if words in problem]
    assert len(problems) == 1
    assert problems[0].startswith(f"cells/{SIMPO}/record.json: ")


def test_a_file_that_lies_with_the_points_and_is_none_of_theirs_is_named(pointed: Path) -> None:
    shutil.copytree(pointed / "cells" / SIMPO / "points" / "0.5", pointed / "cells" / SIMPO / "points" / "0.7")
    problems = verify(pointed).problems
    assert [problem.partition(",")[0] for problem in problems] == [
        f"cells/{SIMPO}/points: got 0.7/responses.parquet",
        f"cells/{SIMPO}/points: got 0.7/rows.parquet",
    ]


def test_a_merged_run_has_the_points_of_all(
    pointed: Path, make_run: Make, complete: Callable[..., None], tmp_path: Path
) -> None:
    other = add_points(make_run(tmp_path / "other", "base", "longer-wins", "simpo", board=False), complete)
    merge([pointed, other], tmp_path / "merged")
    assert verify(tmp_path / "merged").problems == ()
    (record,) = (record for record in read_records(tmp_path / "merged") if record.label == "simpo")
    for point in record.points:
        assert {name: file_hash(record.at(point).folder / name) for name in point.files} == point.files


def test_runs_with_other_points_are_not_merged(pointed: Path, make_run: Make, tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", "base", "longer-wins", "ipo")
    with pytest.raises(HarnessError, match=r"cannot be merged: got points.* 'none' in other and '0\.5, 1' in run"):
        merge([pointed, other], tmp_path / "merged")


def test_exports_have_the_points_beside_the_end(pointed: Path, tmp_path: Path) -> None:
    run_export(pointed, "csv", tmp_path / "run.csv")
    with open(tmp_path / "run.csv", encoding="utf-8") as file:
        lines = [line for line in csv.DictReader(file) if line["metric"] == "pairwise_accuracy"]
    assert [line["fraction"] for line in lines if line["label"] == "simpo"] == ["1.0", "0.5"]
    assert {line["fraction"] for line in lines if line["label"] == "base"} == {""}
    run_export(pointed, "hf", tmp_path / "hub")
    rows = pd.read_parquet(tmp_path / "hub" / "data" / "rows.parquet")
    points = pd.read_parquet(tmp_path / "hub" / "data" / "points_rows.parquet")
    assert "fraction" not in rows
    own = rows[rows["label"] == "simpo"].reset_index(drop=True)
    end = points[points["fraction"] == 1].drop(columns="fraction").reset_index(drop=True)
    assert end.equals(own)
    assert len(points) == 2 * len(own)
    assert "config_name: points_rows" in (tmp_path / "hub" / "README.md").read_text(encoding="utf-8")
