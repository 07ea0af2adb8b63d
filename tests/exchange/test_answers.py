"""Answers, and what judges said of them, in folders that travel: what verify finds, what merge and export keep."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from judged_run import (
    BASE,
    SIMPO,
    Make,
    made,
    put,
    rebuild,
    table_of,
    verdicts,
)

from harness.api import HarnessError
from harness.exchange.export import run_export
from harness.exchange.merge import merge, run_merge
from harness.exchange.verify import verify
from harness.run_folder.store import read_record, write_record


@pytest.fixture
def answered(make_run: Make, tmp_path: Path) -> Path:
    """A run of SimPO whose base and loss answered, judged by `j`; longer-wins has no answers."""
    return made(make_run, tmp_path / "run")


def only_problem(run: Path) -> str:
    problems = verify(run).problems
    assert len(problems) == 1, problems
    return problems[0]


def test_a_sound_run_with_answers_and_a_judge_is_verified(answered: Path) -> None:
    found = verify(answered)
    assert found.problems == ()
    assert "12 answers are to the same prompts" in found.text()
    assert "12 questions to judges, in 1 tables, are about the answers beside them" in found.text()


def test_a_run_without_answers_has_no_line_about_them(whole_run: Path) -> None:
    assert "answers" not in verify(whole_run).text()


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("kl_log_ratio", 9.0, "got another kl_log_ratio of 1 answers (prompt0) than their rows give"),
        ("length", 6.0, "got another length of 1 answers"),
        ("cut", 0.0, "got another cut of 1 answers"),
        ("distinct_2", 0.9, "got another distinct_2 of 1 answers"),
        ("longest_loop", 4.0, "got another longest_loop of 1 answers"),
        ("finish", "gone", "got finish other than stop, length"),
        ("prompt_id", "prompt7", "got 6 answers, expected 2 to each of the first 3 held-out prompts in order"),
        ("seed", 77, f"got other prompts or seeds than {BASE}"),
        ("sum_logp", 1.0, "got a log-prob above 0"),
        ("kl_low_variance", -1.0, "got a kl_low_variance below 0"),
    ],
)
def test_an_answer_whose_numbers_do_not_follow_is_named(answered: Path, column: str, value: object, words: str) -> None:
    path = answered / "cells" / SIMPO / "generations.parquet"
    table = pd.read_parquet(path)
    table.loc[0, column] = value
    table.to_parquet(path, index=False)
    problems = [problem for problem in verify(answered).problems if words in problem]
    assert len(problems) == 1
    assert problems[0].startswith(f"cells/{SIMPO}/generations.parquet: ")


def change_generation(run: Path, **changed: Any) -> None:
    path = run / "cells" / SIMPO / "record.json"
    content = json.loads(path.read_text())
    content["generation"] |= changed
    path.write_text(json.dumps(content))


def test_a_mean_of_a_record_that_its_answers_do_not_give_is_named(answered: Path) -> None:
    metrics = json.loads((answered / "cells" / SIMPO / "record.json").read_text())["generation"]["metrics"]
    change_generation(answered, metrics=metrics | {"kl_log_ratio": 1.5})
    words = f"cells/{SIMPO}/record.json: got kl_log_ratio = 1.5 of answers, expected 2 as their table gives"
    assert any(words in problem for problem in verify(answered).problems)


def test_a_kl_of_tempered_samples_is_named(answered: Path) -> None:
    change_generation(answered, temperature=0.5)
    assert any("got another kl_log_ratio of 6 answers" in problem for problem in verify(answered).problems)


def test_answers_that_are_gone_or_were_not_asked_for_are_named(answered: Path) -> None:
    (answered / "cells" / BASE / "generations.parquet").unlink()
    problems = verify(answered).problems
    assert any(f"cells/{BASE}/generations.parquet: got no table, expected one" in problem for problem in problems)
    shutil.copy(answered / "cells" / SIMPO / "generations.parquet", answered / "cells" / "qwen--longer-wins--a8d386")
    assert any("got a table, expected none as record.json says" in problem for problem in verify(answered).problems)


def other_orders(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["order"] == 0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda table: table.assign(text="an answer"), "got the columns text, expected prompt_id, sample"),
        (lambda table: table.assign(judge="k"), "got the judges k, expected the one that the file is named after"),
        (lambda table: table.assign(preference=1.5), "got a preference outside 0 to 1 in 12 rows"),
        (lambda table: table.assign(preference=np.nan), "got a row with neither a value nor a reason"),
        (lambda table: table.assign(reason="why"), "got a row with neither a value nor a reason, or with both"),
        (lambda table: table.assign(prompt_id="prompt7"), "or about an answer that generations.parquet does not have"),
        (lambda table: pd.concat([table, table]), "got a question twice"),
        (lambda table: table.assign(against="dpo"), "got against, order or repeat outside"),
        (lambda table: table.assign(rating=3.0), "got ratings beside preferences"),
        (other_orders, "got one order only of 6 comparisons"),
        (lambda table: table.assign(preference=np.nan, reason="x" * 101), "got a reason of more than 100 characters"),
        (lambda table: table.assign(preference=np.nan, reason="no sk-abcdefgh123"), "characters, or a key"),
        (lambda table: table.drop(columns="reason"), "got no column reason"),
    ],
)
def test_a_judge_s_table_that_cannot_be_is_named(
    answered: Path, change: Callable[[pd.DataFrame], pd.DataFrame], words: str
) -> None:
    put(table_of(answered), change(verdicts("j")))
    problem = only_problem(answered)
    assert f"cells/{SIMPO}/judgements/j.parquet: " in problem
    assert words in problem


def test_ratings_that_are_infinite_or_have_no_value_and_no_reason_are_named(answered: Path) -> None:
    rated = verdicts("j", against="").query("order == 0").assign(preference=np.nan, rating=4.0)
    put(table_of(answered), rated)
    rebuild(answered)
    assert verify(answered).problems == ()
    put(table_of(answered), rated.assign(rating=1.0, reason="fits no rule"))  # the judge's lowest
    rebuild(answered)
    assert verify(answered).problems == ()
    put(table_of(answered), rated.assign(rating=np.inf))
    assert "got an infinite rating in 6 rows" in only_problem(answered)
    put(table_of(answered), rated.assign(rating=np.nan))
    assert "got a row with neither a value nor a reason" in only_problem(answered)


def test_verdicts_about_other_answers_and_files_that_are_no_judge_s_are_named(answered: Path) -> None:
    put(table_of(answered), verdicts("j"), about="sha256:0")
    assert "got verdicts about other answers than those in generations.parquet beside it" in only_problem(answered)
    put(table_of(answered), verdicts("j"))
    (table_of(answered).parent / "notes.txt").write_text("hello")
    assert "notes.txt: got a file that is no judge's table about answers" in only_problem(answered)


def judged(run: Path) -> dict[str, pd.DataFrame]:
    return {path.stem: pd.read_parquet(path) for path in (run / "cells" / SIMPO / "judgements").iterdir()}


def test_copies_of_a_cell_judged_by_different_judges_keep_both(answered: Path, make_run: Make, tmp_path: Path) -> None:
    other = made(make_run, tmp_path / "other", judge="k", preference=0.25)
    merge([answered, other], tmp_path / "merged")
    assert verify(tmp_path / "merged").problems == ()
    found = judged(tmp_path / "merged")
    pd.testing.assert_frame_equal(found["j"], verdicts("j"), check_dtype=False)
    pd.testing.assert_frame_equal(found["k"], verdicts("k", preference=0.25), check_dtype=False)


def test_the_same_judge_s_tables_become_one_and_each_question_is_kept_once(
    answered: Path, make_run: Make, tmp_path: Path
) -> None:
    other = made(make_run, tmp_path / "other")
    put(table_of(other), pd.concat([verdicts("j"), verdicts("j", against="chosen")]))
    rebuild(other)
    merge([answered, other], tmp_path / "merged")
    assert verify(tmp_path / "merged").problems == ()
    assert judged(tmp_path / "merged")["j"]["against"].value_counts().to_dict() == {"base": 12, "chosen": 12}


def test_a_judge_that_said_two_things_about_one_question_is_refused_with_both_files_named(
    answered: Path, make_run: Make, tmp_path: Path
) -> None:
    other = made(make_run, tmp_path / "other", preference=0.25)
    words = rf"got two answers of one judge to 12 questions, first prompt0: {re.escape(str(table_of(answered)))} / "
    with pytest.raises(HarnessError, match=words + r".*; expected the same; delete the file"):
        merge([answered, other], tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_verdicts_about_answers_that_are_not_kept_stay_behind_and_are_counted(
    answered: Path, make_run: Make, tmp_path: Path
) -> None:
    """Another machine may sample other answers from the same weights."""
    other = made(make_run, tmp_path / "other", judge="k")
    path = other / "cells" / SIMPO / "generations.parquet"
    pd.read_parquet(path).assign(text="another answer").to_parquet(path, index=False)
    record = read_record(path.parent)
    write_record(path.parent, record, record.rows(), record.responses())
    put(table_of(other, "k"), verdicts("k"))
    rebuild(other)
    text, code = run_merge([answered, other], tmp_path / "merged")
    assert code == 0, text
    assert "left out: 1 tables of judges about other answers than those that are kept" in text
    assert set(judged(tmp_path / "merged")) == {"j"}


def test_an_export_for_the_hub_has_what_judges_said(answered: Path, tmp_path: Path) -> None:
    run_export(answered, "hf", tmp_path / "hub")
    table = pd.read_parquet(tmp_path / "hub" / "data" / "judgements.parquet")
    assert table["preference"].tolist() == [0.75] * 12
    assert set(table["cell"]) == {SIMPO}
    assert (table["fraction"] == 1).all()
    assert "config_name: judgements" in (tmp_path / "hub" / "README.md").read_text(encoding="utf-8")
