"""`harness run --judge`: refused early, told of in the plan, asked at the end, and never twice."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner
from rewritten import rewrite
from stub_endpoint import stub

from harness.cli import cli
from harness.exchange.verify import verify
from harness.planning.run_file import make_run
from harness.planning.tuned_run import TrialRun, TunedRun
from harness.run_folder.paths import BOARD_JSON, JUDGEMENTS
from harness.run_folder.tables import write_judgements

COMMAND = (
    "run", "--plugins", "simpo", "--models", "qwen", "--limit", "24", "--budget", "pairs=32", "--scorer",
    "transformers", "--evaluate-at", "0.5,1", "--generate", "4", "--max-new-tokens", "16",
)  # fmt: skip
Run = Callable[..., str]


@pytest.fixture(scope="module")
def finished(harness: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose answers nobody has judged."""
    folder = tmp_path_factory.mktemp("judged") / "run"
    done = harness(*COMMAND, "--output-dir", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture
def judged(harness: Any, tmp_path: Path) -> Run:
    """Run the command with judges into a folder, with replies kept apart; return what it prints."""

    def call(folder: Path, *judges: str, code: int = 0) -> str:
        cache = tmp_path / "cache"
        named = [word for judge in judges for word in ("--judge", judge)]
        done = harness(*COMMAND, *named, "--output-dir", str(folder), HARNESS_CACHE=str(cache))
        assert done.returncode == code, done.stdout + done.stderr
        printed: str = done.stdout + done.stderr
        return printed

    return call


def tables(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run / "cells")): path.read_bytes() for path in run.glob(f"cells/**/{JUDGEMENTS}/*")}


def test_a_run_asks_its_judges_about_the_base_every_cell_and_every_point_and_a_second_time_nothing(
    run: Path, judged: Run
) -> None:
    with stub() as server:
        openai = f"openai:nano@{server.url}"
        said = judged(run, "simulator", openai)
        assert sum(server.asked.values()) == 16  # 4 prompts, in both orders, of the end and of the half
        there = tables(run)
        assert len(there) == 3 + 2  # nobody compares the base with itself
        again = judged(run, "simulator", openai)
        assert sum(server.asked.values()) == 16
    assert tables(run) == there
    assert "simulator: up to 12 ratings; nothing to send" in said
    assert f"{openai}: up to 16 comparisons; 16 requests to send" in said
    assert re.search(r"16 comparisons of 1 cells and 1 points; 16 requests to send", said)
    assert "12 ratings of 2 cells and 1 points, 3 of which are judged; nothing to send" in again
    half = pd.read_parquet(next(run.glob(f"cells/*simpo*/points/0.5/{JUDGEMENTS}/openai*")))
    assert sorted(half["order"]) == [0] * 4 + [1] * 4
    assert (half["against"] == "base").all()
    assert set(half["preference"]) == {0.75, 0.25}  # the stub always says that the first is better
    assert verify(run).problems == ()


def test_a_judge_changes_no_training_and_asked_later_it_leaves_the_same_files(
    run: Path, finished: Path, judged: Run, harness: Any
) -> None:
    judged(run, "simulator")
    later = shutil.copytree(finished, run.parent / "later")
    (later / BOARD_JSON).unlink()
    done = harness("judge", str(later), "--judge", "simulator", "--no-pictures")
    assert done.returncode == 0, done.stderr
    assert tables(later) == tables(run) != {}
    assert (later / BOARD_JSON).read_bytes() == (run / BOARD_JSON).read_bytes()
    for path in finished.glob("cells/**/*.parquet"):
        assert (run / path.relative_to(finished)).read_bytes() == path.read_bytes()


def test_a_judge_that_fails_costs_nothing_that_was_done_and_the_run_says_how_to_go_on(run: Path, judged: Run) -> None:
    with stub() as server:
        server.fault = "401"
        said = judged(run, "simulator", f"openai:nano@{server.url}", code=6)
        assert (run / BOARD_JSON).is_file()
        assert len(tables(run)) == 3
        command = re.search(r"to go on: harness (judge \S+ --judge \S+)", said)
        assert command, said
        server.fault = ""
        done = CliRunner().invoke(cli, [*command[1].split(), "--no-pictures"], standalone_mode=False)
        assert done.exception is None
    assert len(tables(run)) == 5


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--judge", "simulater"), r"got judge 'simulater', expected one of .*did you mean 'simulator'"),
        (("--judge", "openai:gpt"), "judge 'openai' cannot judge: got judge 'gpt', expected MODEL@URL"),
        (("--judge", "simulator", "--judge-repeats", "0"), "--judge-repeats got 0"),
        (("--judge", "simulator", "--generate", "0"), "got --judge without --generate, expected both"),
        (
            ("--judge", "openai:n@http://localhost:9/v1", "--max-requests", "15"),
            "got up to 16 requests to send, expected at most 15; raise --max-requests",
        ),
    ],
)
def test_what_no_judge_can_do_is_refused_before_anything_is_trained(
    words: tuple[str, ...], told: str, harness: Any, tmp_path: Path
) -> None:
    done = harness(*COMMAND, *words, "--quiet", "--output-dir", str(tmp_path / "run"))
    assert done.returncode == 2, done.stdout + done.stderr
    assert re.search(told, " ".join(done.stderr.split())), done.stderr
    assert not (tmp_path / "run").exists()


def test_the_simulator_is_refused_where_the_data_have_no_tasks(harness: Any, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for split in ("train", "test"):
        rows = "\n".join(
            f'{{"prompt": "{split} {number}?", "chosen": "Yes {number}.", "rejected": "No."}}' for number in range(16)
        )
        (tmp_path / "data" / f"{split}.jsonl").write_text(rows)
    words = ("--dataset", str(tmp_path / "data"), "--judge", "simulator", "--output-dir", str(tmp_path / "run"))
    done = harness(*COMMAND, *words)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "got prompts without tasks, expected made data" in " ".join(done.stderr.split())
    assert not (tmp_path / "run").exists()


def test_judges_decide_nothing_come_back_from_a_run_file_and_judge_no_trial() -> None:
    plain, judged = (make_run({"generate": 4, "trials": 2} | more) for more in ({}, {"judge": ["simulator"] * 2}))
    assert judged.judge == ("simulator",)
    assert judged.short_hash() == plain.short_hash()
    assert judged.decisive() == plain.decisive()
    assert 'judge = ["simulator"]\n' in judged.as_toml()
    assert TrialRun.of(judged).judge == ()
    assert TunedRun.of(judged).judge == ("simulator",)


def test_what_a_judge_is_asked_at_most_grows_with_repeats_samples_and_tokens(harness: Any, tmp_path: Path) -> None:
    judge = ("--judge", "openai:n@http://localhost:9/v1", "--judge-repeats", "3", "--dry-run")
    few, long = (
        harness(*COMMAND, "--samples", "2", *judge, "--max-new-tokens", tokens, "--output-dir", str(tmp_path / "run"))
        for tokens in ("100", "200")
    )
    (less,), (more,) = (
        re.findall(r"96 comparisons; 96 requests to send, about ([\d,]+)", each.stdout) for each in (few, long)
    )
    # two answers in each request, each 100 tokens longer
    assert int(more.replace(",", "")) - int(less.replace(",", "")) == 96 * 2 * 100


def test_an_endpoint_that_is_down_ends_judging_and_does_not_become_rows(tmp_path: Path) -> None:
    from harness.api import HarnessError, JudgeOptions, JudgeRequest, Message
    from harness.judge.endpoint import GIVEN_UP, harness_judges

    with stub() as server:
        gone = server.url
    requests = [
        JudgeRequest(prompt_id=str(number), context=(Message(role="user", content="?"),), answers=(str(number), "no"))
        for number in range(50)
    ]
    judge = harness_judges()[0].open(f"nano@{gone}", JudgeOptions(parallel=2, retries=0, cache=tmp_path))
    for few in (requests, requests[:3]):
        with pytest.raises(HarnessError, match=f"got no answer to {min(GIVEN_UP, len(few))} requests in a row.* is up"):
            judge.judge(few)
    judge.close()


def test_a_table_is_made_anew_where_an_answer_is_another_or_a_question_failed(run: Path, judged: Run) -> None:
    with stub() as server:
        openai = f"openai:nano@{server.url}"
        judged(run, openai)
        place = next(run.glob(f"cells/*simpo*/{JUDGEMENTS}/openai*"))
        table = pd.read_parquet(place)
        failed = table.assign(preference=table["preference"].where(table.index > 0), reason="")
        failed.attrs = table.attrs
        write_judgements(place, failed)
        judged(run, openai)
        assert pd.read_parquet(place)["preference"].notna().all()
        assert sum(server.asked.values()) == 16
        answers = place.parents[1] / "generations.parquet"
        changed = pd.read_parquet(answers)
        changed.loc[0, "text"] = "another answer"
        rewrite(answers, changed)
        judged(run, openai)
        assert sum(server.asked.values()) == 16 + 2
