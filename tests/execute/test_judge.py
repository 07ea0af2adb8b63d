"""`harness judge`: answers of a run's cells, compared or rated, a table per judge. The run is the committed one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from answered_run import ANSWERED, BASE, DPO, answered_run
from click.testing import CliRunner
from stub_endpoint import stub

from harness.api import Dataset, HarnessError
from harness.cli import cli
from harness.data.simulator.synthetic import Settings, make
from harness.judge.endpoint import KEY
from harness.run_folder.paths import GENERATIONS, JUDGEMENTS

Judge = Callable[..., str]


@pytest.fixture(scope="module")
def data() -> Dataset:
    return make(Settings(), 0)


@pytest.fixture
def run(data: Dataset, tmp_path: Path) -> Path:
    """The base gives each prompt's first response, DPO the second."""
    return answered_run(tmp_path / "run", data)


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Judge:
    """Run `harness judge ...` in this process and return what it prints; its error is raised."""
    monkeypatch.setenv("HARNESS_CACHE", str(tmp_path / "cache"))

    def call(*arguments: str | Path) -> str:
        done = CliRunner().invoke(cli, ["judge", *map(str, arguments), "--no-pictures"], standalone_mode=False)
        if done.exception is not None:
            raise done.exception
        return done.output

    return call


def judged(run: Path, cell: str) -> pd.DataFrame:
    (file,) = (run / "cells" / cell / JUDGEMENTS).iterdir()
    return pd.read_parquet(file)


def test_the_simulator_rates_every_answer_of_every_cell_with_its_true_quality(
    run: Path, data: Dataset, judge: Judge
) -> None:
    said = judge(run, "--judge", "simulator")
    for cell, which in ANSWERED.items():
        true = [prompt.responses[which].true_quality for prompt in data.listwise_test[:5]]
        table = judged(run, cell)
        assert table["rating"].tolist() == true
        assert table["preference"].isna().all()
        assert f"{cell}: mean rating {sum(true) / 5:.3f}" in said
    assert "simulator: 10 ratings of 2 cells; nothing to send" in said


def test_an_endpoint_compares_each_answer_with_the_base_in_both_orders(
    run: Path, data: Dataset, judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(KEY, "sk-a-key-that-no-file-may-have")
    with stub() as server:
        name = f"openai:nano@{server.url}"
        plan = judge(run, "--judge", name, "--repeats", "2", "--dry-run")
        assert not server.asked
        assert "20 comparisons of 1 cells; 20 requests to send" in plan
        said = judge(run, "--judge", name, "--repeats", "2")
        assert sum(server.asked.values()) == 20
        assert "nothing to send" in judge(run, "--judge", name, "--repeats", "2")
        assert sum(server.asked.values()) == 20
        seen = set(server.asked)
    assert f"{DPO}: preferred to base 0.500" in said  # the stub always says that the first is better
    table = judged(run, DPO)
    assert table.groupby("order")["preference"].unique().to_dict() == {0: [0.75], 1: [0.25]}
    assert table.groupby(["prompt_id", "order", "repeat"]).size().tolist() == [1] * 20
    assert (table["against"] == "base").all()
    first = data.listwise_test[0]
    own, other = first.responses[1].text, first.responses[0].text
    assert any(f"<answer-1>\n{own}\n</answer-1>\n<answer-2>\n{other}\n" in text for text in seen)
    assert any(f"<answer-1>\n{other}\n</answer-1>\n<answer-2>\n{own}\n" in text for text in seen)
    for file in (file for file in run.parent.rglob("*") if file.is_file()):
        assert b"sk-a-key-that-no-file-may-have" not in file.read_bytes(), file


def chosen_of(data: Dataset) -> dict[str, str]:
    """The chosen response of each prompt's first test pair."""
    return {pair.prompt_id: pair.chosen for pair in reversed(data.test)}


def test_every_cell_and_the_base_too_is_compared_with_the_chosen_response_in_both_orders(
    run: Path, data: Dataset, judge: Judge
) -> None:
    with stub() as server:
        said = judge(run, "--judge", f"openai:nano@{server.url}", "--against", "base,chosen")
        seen = set(server.asked)
    assert "30 comparisons of 2 cells" in said
    assert f"{DPO}: preferred to base 0.500, preferred to chosen 0.500" in said
    assert judged(run, BASE)["against"].tolist() == ["chosen"] * 10
    assert judged(run, DPO)["against"].value_counts().to_dict() == {"base": 10, "chosen": 10}
    chosen = chosen_of(data)
    for cell, which in ANSWERED.items():
        table = judged(run, cell)
        rows = table[table["against"] == "chosen"]
        assert rows.groupby("order")["preference"].unique().to_dict() == {0: [0.75], 1: [0.25]}
        for prompt in data.listwise_test[:5]:
            own, other = prompt.responses[which].text, chosen[prompt.prompt_id]
            for first, second in ((own, other), (other, own)):
                shown = f"<answer-1>\n{first}\n</answer-1>\n<answer-2>\n{second}\n</answer-2>"
                assert any(shown in text for text in seen)


def test_a_judge_that_rates_rates_the_chosen_responses_once_beside_the_answers_of_the_base(
    run: Path, data: Dataset, judge: Judge
) -> None:
    said = judge(run, "--judge", "simulator", "--against", "chosen")
    truth = {pair.prompt_id: pair.true_chosen for pair in reversed(data.test)}
    table = judged(run, BASE)
    rows = table[table["against"] == "chosen"]
    assert dict(zip(rows["prompt_id"], rows["rating"], strict=True)) == {
        prompt.prompt_id: truth[prompt.prompt_id] for prompt in data.listwise_test[:5]
    }
    assert (rows["sample"] == 0).all()
    assert (rows["order"] == 0).all()
    assert len(table) == 10
    assert judged(run, DPO)["against"].tolist() == [""] * 5
    assert f"mean rating of the chosen responses {rows['rating'].mean():.3f}" in said


def test_what_a_judge_said_against_one_rival_stays_when_it_is_asked_against_the_other(run: Path, judge: Judge) -> None:
    with stub() as server:
        name = f"openai:nano@{server.url}"
        judge(run, "--judge", name)
        judge(run, "--judge", name, "--against", "chosen")
        assert judged(run, DPO)["against"].value_counts().to_dict() == {"base": 10, "chosen": 10}
        file = run / "cells" / DPO / GENERATIONS
        pd.read_parquet(file).assign(text="another answer").to_parquet(file)
        judge(run, "--judge", name, "--against", "chosen")
    assert judged(run, DPO)["against"].tolist() == ["chosen"] * 10  # the others were about other answers


def test_faults_are_rows_with_a_reason_and_are_told_by_count(
    run: Path, judge: Judge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(KEY, raising=False)
    with stub() as server:
        server.reply = "I cannot decide."
        said = judge(run, "--judge", f"openai:nano@{server.url}")
    assert "preferred to base nan; 10 of 10: no verdict in the reply" in said
    table = judged(run, DPO)
    assert table["preference"].isna().all()
    assert set(table["reason"]) == {"no verdict in the reply"}


def test_more_requests_than_allowed_are_refused_before_any_is_sent(run: Path, judge: Judge) -> None:
    with stub() as server:
        with pytest.raises(HarnessError, match="got 10 requests to send, expected at most 9; raise --max-requests"):
            judge(run, "--judge", f"openai:nano@{server.url}", "--max-requests", "9")
        assert not server.asked


def test_mistakes_are_told_in_one_line(run: Path, judge: Judge) -> None:
    with pytest.raises(HarnessError, match=r"got judge 'simulater', expected one of .*did you mean 'simulator'"):
        judge(run, "--judge", "simulater")
    with pytest.raises(HarnessError, match="judge 'openai' cannot judge: got judge 'gpt', expected MODEL@URL"):
        judge(run, "--judge", "openai:gpt")
    with pytest.raises(HarnessError, match=r"got --repeats 0, expected 1 or more"):
        judge(run, "--judge", "simulator", "--repeats", "0")
    with pytest.raises(HarnessError, match="got --against bass, expected base, chosen or both, as base,chosen"):
        judge(run, "--judge", "simulator", "--against", "bass")
    (run / "cells" / BASE / GENERATIONS).unlink()
    with pytest.raises(HarnessError, match=r"got no answers of the base of qwen .* run it with --generate"):
        judge(run, "--judge", "simulator")
    (run / "cells" / DPO / GENERATIONS).unlink()
    with pytest.raises(HarnessError, match=r"got no answers \(generations.parquet\)"):
        judge(run, "--judge", "simulator")


def test_a_prompt_that_the_data_do_not_have_is_refused(run: Path, judge: Judge) -> None:
    file = run / "cells" / DPO / GENERATIONS
    pd.read_parquet(file).assign(prompt_id="elsewhere").to_parquet(file)
    with pytest.raises(HarnessError, match=r"got prompt elsewhere, which the run's data do not have"):
        judge(run, "--judge", "simulator")
