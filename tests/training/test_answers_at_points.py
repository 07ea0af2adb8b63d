"""`harness run --generate --evaluate-at`: every point answers what the end answers, also after a killed run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.exchange.export import run_export
from harness.exchange.merge import merge
from harness.exchange.verify import verify
from harness.run_folder.hashes import file_hash
from harness.run_folder.record import Record
from harness.run_folder.store import read_records

COMMAND = (
    "run", "--plugins", "simpo", "--models", "qwen", "--limit", "24", "--budget", "pairs=32", "--scorer",
    "transformers", "--evaluate-at", "0.5,1", "--generate", "4", "--samples", "2", "--max-new-tokens", "16",
)  # fmt: skip
Run = Callable[[Path], str]
ASKED = ["prompt_id", "sample", "seed"]


@pytest.fixture(scope="module")
def again(harness: Any) -> Run:
    """Run the command into a folder and return what it prints."""

    def call(folder: Path) -> str:
        done = harness(*COMMAND, "--output-dir", str(folder))
        assert done.returncode == 0, done.stdout + done.stderr
        printed: str = done.stdout
        return printed

    return call


@pytest.fixture(scope="module")
def finished(again: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("points") / "run"
    again(folder)
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy to be changed."""
    return shutil.copytree(finished, tmp_path / "run")


def of(run: Path, label: str) -> Record:
    return next(record for record in read_records(run) if record.label == label)


def test_a_point_answers_the_prompts_of_the_end_by_the_same_seeds_from_its_own_weights(finished: Path) -> None:
    cell, base = of(finished, "simpo"), of(finished, "base")
    half = pd.read_parquet(cell.folder / "points" / "0.5" / "generations.parquet")
    end, start = (pd.read_parquet(record.folder / "generations.parquet") for record in (cell, base))
    assert len(half) == 8
    assert half[ASKED].equals(end[ASKED])
    assert half[ASKED].equals(start[ASKED])
    for other in (end, start):
        assert (half["sum_logp"] != other["sum_logp"]).all()
    assert not (cell.folder / "points" / "1" / "generations.parquet").exists()


def test_a_point_has_the_means_of_its_own_answers_and_the_hash_of_their_table(finished: Path) -> None:
    cell = of(finished, "simpo")
    half, end = cell.points
    assert half.generation is not None
    table = pd.read_parquet(cell.folder / "points" / "0.5" / "generations.parquet")
    assert half.generation.metrics["length"] == pytest.approx(table["tokens"].map(len).mean())
    assert half.generation.metrics["kl_log_ratio"] == pytest.approx((table["sum_logp"] - table["ref_sum_logp"]).mean())
    assert set(half.files) == {"rows.parquet", "responses.parquet", "generations.parquet"}
    assert set(end.files) == {"rows.parquet", "responses.parquet"}
    assert end.generation == cell.generation
    assert cell.at(half).generation == half.generation
    assert verify(finished).problems == ()


def test_a_run_without_answers_has_no_key_of_them(harness: Any, tmp_path: Path) -> None:
    done = harness(*COMMAND[: COMMAND.index("--generate")], "--output-dir", str(tmp_path / "run"))
    assert done.returncode == 0, done.stdout + done.stderr
    content = json.loads((of(tmp_path / "run", "simpo").folder / "record.json").read_text())
    assert "generation" not in content
    assert all("generation" not in point for point in content["points"])


def test_a_cell_that_was_killed_among_its_points_is_answered_again_and_the_base_is_not(
    run: Path, finished: Path, again: Run
) -> None:
    cell, base = of(run, "simpo").folder, of(run, "base").folder
    half = cell / "points" / "0.5" / "generations.parquet"
    half.write_bytes(half.read_bytes()[:100])
    for folder in (cell, half.parent):
        (folder / "judgements").mkdir()
    (cell / "record.json").unlink()
    answered = (base / "generations.parquet").stat().st_mtime_ns
    again(run)
    assert file_hash(half) == of(finished, "simpo").points[0].files["generations.parquet"]
    assert not (half.parent / "judgements").exists()
    assert (cell / "judgements").exists()  # about the answers that it has again
    assert (base / "generations.parquet").stat().st_mtime_ns == answered
    assert verify(run).problems == ()


@pytest.mark.parametrize("unfinished", [True, False])
@pytest.mark.parametrize(("label", "place"), [("base", "."), ("simpo", "."), ("simpo", "points/0.5")])
def test_answers_that_are_not_those_of_their_record_are_named_by_whatever_reads_them(
    label: str, place: str, unfinished: bool, run: Path, harness: Any
) -> None:
    path = of(run, label).folder / place / "generations.parquet"
    pd.read_parquet(path).assign(text="something else").to_parquet(path, index=False)
    if unfinished:
        (of(run, "longer-wins").folder / "record.json").unlink()
    commands = (COMMAND, ("judge", str(run), "--judge", "simulator"), ("leaderboard", str(run)))
    for command in commands[: 1 if unfinished else 3]:
        done = harness(*command, *(("--output-dir", str(run)) if command == COMMAND else ()))
        assert done.returncode == 2
        assert f"{path.resolve()}: got other bytes than its record knows by their sha256" in done.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda points: points[0].pop("generation"), "got no answers at 0.5, expected answers with prompts 4, samples"),
        (lambda points: points[0]["generation"].update(top_p=0.9), "got answers with prompts 4, samples 2, temperatu"),
        (lambda points: points[1].pop("generation"), "got another generation at the end than the record has"),
        (lambda points: points[0]["files"].pop("generations.parquet"), "expected them with generations.parquet"),
    ],
)
def test_points_whose_answers_are_not_as_the_record_says_are_named(
    change: Callable[[list[dict[str, Any]]], None], words: str, run: Path
) -> None:
    path = of(run, "simpo").folder / "record.json"
    content = json.loads(path.read_text())
    change(content["points"])
    path.write_text(json.dumps(content))
    assert any(words in problem for problem in verify(run).problems), verify(run).text()


def test_a_changed_answer_of_a_point_is_found(run: Path) -> None:
    point = of(run, "simpo").folder / "points" / "0.5"
    pd.read_parquet(point / "generations.parquet").assign(text="x").to_parquet(point / "generations.parquet")
    assert any("points/0.5/generations.parquet: got sha256:" in problem for problem in verify(run).problems)


def test_merged_runs_and_exports_have_the_answers_of_points(run: Path, finished: Path, tmp_path: Path) -> None:
    merge([finished, run], tmp_path / "merged")
    assert verify(tmp_path / "merged").problems == ()
    (record,) = (record for record in read_records(tmp_path / "merged") if record.label == "simpo")
    for point in record.points:
        assert {name: file_hash(record.at(point).folder / name) for name in point.files} == point.files
    run_export(run, "hf", tmp_path / "hub")
    own = pd.read_parquet(tmp_path / "hub" / "data" / "generations.parquet")
    points = pd.read_parquet(tmp_path / "hub" / "data" / "points_generations.parquet")
    assert own.groupby("label")["text"].count().to_dict() == {"base": 8, "simpo": 8}
    assert points.groupby("fraction")["text"].count().to_dict() == {0.5: 8, 1.0: 8}
    assert points[points["fraction"] == 1]["text"].tolist() == own[own["label"] == "simpo"]["text"].tolist()
    card = (tmp_path / "hub" / "README.md").read_text(encoding="utf-8")
    assert "config_name: points_generations" in card
    assert "No prompt and no response of the data is in here" in card
