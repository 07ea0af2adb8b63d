"""harness verify: a sound run passes; each planted defect is found, by its file, and nothing else is."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.api import HarnessError
from harness.compare.repeats import calibrate
from harness.exchange.verify import run_verify, verify
from harness.leaderboard import write
from harness.run_folder.manifest import known_manifest
from harness.run_folder.noise_floor import render_noise
from harness.run_folder.paths import NOISE_FLOOR

SIMPO, BASE = "qwen--simpo--5ca962--seed0", "qwen--base--5ac4d2"


@pytest.fixture
def boardless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the leaderboards, the slow part, where the test is about something else."""
    monkeypatch.setattr("harness.exchange.verify.check_boards", lambda run: [])


def only_problem(run: Path) -> str:
    problems = verify(run).problems
    assert len(problems) == 1, problems
    return problems[0]


def rewrite(run: Path, cell: str, name: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Change a table and let the record say its new hash, as somebody who means to deceive would."""
    from harness.run_folder.hashes import file_hash

    path = run / "cells" / cell / name
    change(pd.read_parquet(path)).to_parquet(path, index=False)
    record = json.loads((path.parent / "record.json").read_text())
    record["files"][name] = file_hash(path)
    (path.parent / "record.json").write_text(json.dumps(record))


def test_a_sound_run_is_verified_and_what_was_checked_is_counted(whole_run: Path) -> None:
    text, code = run_verify(whole_run)
    assert code == 0, text
    assert "4 records are of this protocol and complete, 4 of them of scored cells" in text
    assert "8 files of 4 cells have the sha256 that their record has" in text  # two tables per cell
    assert "rows.parquet (96 rows) and responses.parquet (192 rows) of 4 cells agree" in text  # 4 * 24, 4 * 48
    assert "leaderboard.json, leaderboard.md, leaderboard.csv as the records give, byte for byte" in text
    assert "Not checked: that the log-probs come from the training" in text
    assert run_verify(whole_run) == (text, code)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="expected a run folder"):
        verify(tmp_path)


def test_a_flipped_byte_is_found_by_its_hash(run: Path) -> None:
    path = run / "cells" / SIMPO / "train.parquet"
    path.write_bytes(b"step log")
    assert f"cells/{SIMPO}/train.parquet: got sha256:" in only_problem(run)
    path.unlink()
    rows = run / "cells" / SIMPO / "rows.parquet"
    rows.write_bytes(rows.read_bytes()[:-1] + b"X")
    text, code = run_verify(run)
    assert code == 3
    assert f"cells/{SIMPO}/rows.parquet: got sha256:" in text
    assert "not rebuilt: first the cells must be sound" in text


@pytest.mark.usefixtures("boardless")
def test_records_without_hashes_are_verified_without_them_and_that_is_said(run: Path, edit: Any) -> None:
    for folder in (run / "cells").iterdir():
        edit(folder, files=None)
    text, code = run_verify(run)
    assert code == 0
    assert "no hashes to compare" in text
    assert "note: 4 records have no hashes" in text


@pytest.mark.usefixtures("boardless")
def test_a_metric_that_its_rows_do_not_give_is_named_with_both_values(run: Path, edit: Any) -> None:
    metrics = json.loads((run / "cells" / SIMPO / "record.json").read_text())["metrics"]
    accuracy = metrics["pairwise_accuracy"]
    edit(run / "cells" / SIMPO, metrics=metrics | {"pairwise_accuracy": accuracy + 1e-6})
    problem = only_problem(run)
    assert problem.startswith(f"cells/{SIMPO}/record.json: got pairwise_accuracy = {accuracy + 1e-6:.12g}, expected")
    edit(run / "cells" / SIMPO, metrics=metrics | {"pairwise_accuracy": accuracy + 1e-12})
    assert verify(run).exit_code == 0  # within the tolerance that the text states
    edit(run / "cells" / SIMPO, metrics=metrics | {"pairwise_accuracy": None})
    assert "got pairwise_accuracy = nan" in only_problem(run)


@pytest.mark.usefixtures("boardless")
def test_metrics_that_only_one_side_knows_are_said_and_no_problem(run: Path, edit: Any) -> None:
    for folder in (run / "cells").iterdir():
        metrics = json.loads((folder / "record.json").read_text())["metrics"]
        del metrics["brier"]
        edit(folder, metrics=metrics | {"charm": 0.9})
    text, code = run_verify(run)
    assert code == 0
    assert "does not know: charm" in text
    assert "records lack metrics this harness has, of which the board is made: brier" in text


@pytest.mark.usefixtures("boardless")
def test_a_reward_that_the_two_tables_state_differently_is_found(run: Path) -> None:
    def flip(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(reward_chosen=rows["reward_chosen"].where(rows.index != 3, 99.0))

    rewrite(run, SIMPO, "rows.parquet", flip)
    problems = verify(run).problems
    assert problems[0] == (
        f"cells/{SIMPO}/responses.parquet: got another reward than reward_chosen in rows.parquet for 1 pairs (pair03), "
        "expected the same; copy the cell's folder anew"
    )
    assert any("record.json: got" in problem for problem in problems[1:])  # the metrics no longer follow


@pytest.mark.usefixtures("boardless")
def test_a_pair_left_out_is_found_by_the_count_and_by_the_other_cells(run: Path) -> None:
    rewrite(run, SIMPO, "rows.parquet", lambda rows: rows.iloc[:-1])
    problems = "\n".join(verify(run).problems)
    assert f"cells/{SIMPO}/rows.parquet: got 23 pairs, expected 24 as record.json says" in problems
    assert "rows more and" in problems


@pytest.mark.usefixtures("boardless")
def test_other_data_under_the_same_ids_is_found(run: Path) -> None:
    rewrite(
        run, SIMPO, "responses.parquet", lambda table: table.assign(score=table["score"] + (table.index == 0) * 0.001)
    )
    assert any(f"cells/{SIMPO}/responses.parquet: got another score in 1 rows" in each for each in verify(run).problems)


@pytest.mark.usefixtures("boardless")
def test_other_token_counts_of_one_model_are_found(run: Path) -> None:
    def longer(table: pd.DataFrame) -> pd.DataFrame:
        names = [name for name in table.columns if name.endswith("tokens")]
        return table.assign(**{name: table[name] + 1 for name in names})

    for name in ("rows.parquet", "responses.parquet"):
        rewrite(run, SIMPO, name, longer)
    found = [problem for problem in verify(run).problems if "tokens in" in problem]
    assert len(found) == 3  # chosen_tokens, rejected_tokens, tokens


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("rows.parquet", lambda t: t.drop(columns="gap"), "got no column gap"),
        ("rows.parquet", lambda t: t.assign(gap="wide"), "got column gap of type"),
        ("rows.parquet", lambda t: t.assign(gap=t["gap"] + 1), "24 gaps that are not score_chosen - score_rejected"),
        ("rows.parquet", lambda t: t.assign(split="train"), "got pairs of train, expected test"),
        ("responses.parquet", lambda t: t.iloc[1:], "got no chosen response of 1 pairs (pair00), expected all"),
        ("responses.parquet", lambda t: t.assign(sum_logp=0.5), "expected a log-prob, at most 0"),
        ("responses.parquet", lambda t: t.assign(reward=float("inf")), "got an infinite reward"),
        ("responses.parquet", lambda t: t.assign(response_id="one"), "rows twice"),
    ],
)
def test_a_table_that_cannot_be_is_named(run: Path, name: str, change: Any, said: str) -> None:
    rewrite(run, SIMPO, name, change)
    verdict = verify(run)
    assert verdict.exit_code == 3
    assert any(said in problem and f"{SIMPO}/{name}" in problem for problem in verdict.problems), verdict.problems


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"protocol": 2}, "got protocol 2, expected 1"),
        ({"status": "splendid"}, "got status = 'splendid', expected one of ok, diverged, failed"),
        ({"key": "elsewhere"}, "got key = 'elsewhere', expected the folder's name"),
        ({"model": "qwen"}, "got model = 'qwen', expected an object"),
        ({"seed": "zero"}, "got seed = 'zero', expected a whole number"),
        ({"metrics": {"brier": "good"}}, "got metrics.brier = 'good', expected a number or null"),
    ],
)
def test_a_record_that_cannot_be_is_named(run: Path, edit: Any, fields: dict[str, Any], said: str) -> None:
    edit(run / "cells" / SIMPO, **fields)
    assert said in only_problem(run)


def test_a_record_that_is_no_json_and_a_link_out_of_the_folder_are_problems(run: Path) -> None:
    (run / "cells" / SIMPO / "record.json").write_text("{")
    table = run / "cells" / BASE / "rows.parquet"
    table.unlink()
    table.symlink_to("/etc/hostname")
    found = verify(run).problems
    assert len(found) == 2
    assert f"cells/{BASE}: got a link (rows.parquet)" in found[0]
    assert "expected JSON" in found[1]


@pytest.mark.usefixtures("boardless")
@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "got Expecting property name"),
        ("[]", "got a list"),
        ('{"models": 5}', "got models = 5"),
        ('{"decisive": 3}', "got decisive = 3"),
        ('{"dataset": "x"}', "got dataset = 'x'"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_a_problem_and_keeps_no_cell_from_being_checked(
    run: Path, edit: Any, text: str, said: str
) -> None:
    (run / "manifest.json").write_text(text)
    assert only_problem(run).startswith(f"manifest.json: {said}")
    edit(run / "cells" / SIMPO, label="ipo")
    assert any(problem.startswith(f"cells/{SIMPO}/record.json: got label 'ipo'") for problem in verify(run).problems)


@pytest.mark.usefixtures("boardless")
def test_a_cell_of_other_data_or_tokens_does_not_belong(run: Path, edit: Any) -> None:
    edit(run / "cells" / SIMPO, tokens_fingerprint="others")
    assert any("got tokens_fingerprint 'others', expected 'tokens'" in each for each in verify(run).problems)


def test_a_leaderboard_that_was_touched_up_is_found_and_one_by_another_metric_is_not(run: Path) -> None:
    from harness.leaderboard import write

    board = run / "leaderboard.json"
    board.write_text(board.read_text().replace('"rank": 1', '"rank": 2', 1))
    problem = only_problem(run)
    assert problem.startswith("leaderboard.json: got other bytes than the records give (line ")
    assert '"rank": 2, instead of "rank": 1,' in problem
    write(run, "spearman")
    assert verify(run).exit_code == 0


def test_cells_that_came_to_nothing_or_are_not_done_are_no_problem(
    run: Path, add_cell: Callable[..., None], complete: Callable[..., None]
) -> None:
    add_cell(run, "ipo", None)
    (run / "cells" / "qwen--cpo--1").mkdir()
    complete(run, ("simpo", "dpo(beta=0.2)", "ipo"))
    text, code = run_verify(run)
    assert code == 0, text
    assert "5 records are of this protocol and complete, 4 of them" in text
    assert "1 cell folders without record.json are not done" in text


@pytest.mark.usefixtures("boardless")
def test_runs_inside_the_run_are_said_to_be_left_to_themselves(run: Path) -> None:
    (run / "tuned-4" / "cells").mkdir(parents=True)
    assert "tuned-4: not looked into" in run_verify(run)[0]


def test_runs_are_verified_where_torch_is_not_installed(run: Path, without_torch: str) -> None:
    program = without_torch + (
        "from pathlib import Path\n"
        "from harness.exchange.export import run_export\n"
        "from harness.exchange.verify import run_verify\n"
        "run = Path(sys.argv[1])\n"
        "assert run_verify(run)[1] == 0\n"
        "for form in ('csv', 'lm-eval', 'hf'): run_export(run, form, run.parent / form)\n"
    )
    subprocess.run([sys.executable, "-c", program, str(run)], check=True)
    assert (run.parent / "hf" / "README.md").is_file()


def test_boards_made_with_a_noise_floor_are_verified_with_it(run: Path) -> None:
    """The second run is the first with other log-probs, as another seed would give them: two repeats give a floor."""
    again = run.parent / "again"
    shutil.copytree(run, again)
    for cell in (again / "cells").glob("*seed0"):
        rewrite(again, cell.name, "rows.parquet", lambda rows: rows.assign(chosen_sum_logp=rows["chosen_sum_logp"] - 3))
    floor = calibrate([run, again], known_manifest(run).ranked_by)
    (run / NOISE_FLOOR).write_text(render_noise(replace(floor, seeds_differ=True)))
    assert "leaderboard.json: got other bytes than the records give" in "\n".join(verify(run).problems)
    write(run)
    text, code = run_verify(run)
    assert code == 0, text
    assert "training noise as measured from 2 runs" in (run / "leaderboard.md").read_text()
    (run / NOISE_FLOOR).unlink()
    assert "leaderboard.json: got other bytes than the records give" in "\n".join(verify(run).problems)
