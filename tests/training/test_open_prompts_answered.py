"""`harness run --generate --prompts FILE`: answers to other prompts than held-out ones, second turns included."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from click.testing import CliRunner
from stub_endpoint import Stub, stub
from transformers import AutoModelForCausalLM, AutoTokenizer

from harness.api import HarnessError
from harness.cli import cli
from harness.exchange.verify import verify
from harness.run_folder.record import Record
from harness.run_folder.store import read_records

PROMPTS = (
    {"question_id": 81, "turns": ["Name a fruit.", "Name another."]},
    {"question_id": 82, "prompt": "Say hello.", "output": " Hello there. "},
    {"question_id": 83, "prompt": "Left out, because two are asked for."},
)
SAMPLES = 2
COMMAND = (
    "run", "--plugins", "simpo", "--models", "qwen", "--limit", "24", "--budget", "pairs=16", "--scorer",
    "transformers", "--generate", "2", "--samples", str(SAMPLES), "--max-new-tokens", "12",
)  # fmt: skip


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("asked") / "mine.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in PROMPTS))
    return path


@pytest.fixture(scope="module")
def run(harness: Any, asked: Path) -> Path:
    folder = asked.parent / "run"
    done = harness(*COMMAND, "--prompts", str(asked), "--output-dir", str(folder))
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"Answers   2 to each of the first 3 prompts of {asked}" in done.stdout
    return folder


def of(run: Path, label: str) -> Record:
    return next(record for record in read_records(run) if record.label == label)


def answers(run: Path, label: str) -> pd.DataFrame:
    return pd.read_parquet(of(run, label).folder / "generations.parquet")


def test_the_first_prompts_are_answered_and_second_turns_behind_them(run: Path, asked: Path) -> None:
    for label in ("base", "simpo"):
        table = answers(run, label)
        assert table["prompt_id"].tolist() == ["81", "81", "82", "82", "81/2", "81/2"]
        assert table["sample"].tolist() == [0, 1] * 3
        assert table["rouge_l"].isna().tolist() == [True, True, False, False, True, True]
        facts = of(run, label).generation
        assert facts is not None
        assert facts.asked is not None
        assert (facts.prompts, facts.asked.name, facts.asked.source) == (2, "mine", str(asked))
    assert any("answers are to 3 prompts of" in note for note in of(run, "base").dataset.notes)


def test_a_second_turn_has_the_model_s_own_first_answer_before_it(run: Path, cache: Path) -> None:
    """The base's log-probs, made again from the whole conversation by transformers alone."""
    fingerprint = of(run, "base").model.fingerprint
    (start,) = (path.parent for path in cache.glob("*/start.json") if fingerprint in path.read_text())
    tokenizer, model = AutoTokenizer.from_pretrained(start), AutoModelForCausalLM.from_pretrained(start)
    table = answers(run, "base").set_index(["prompt_id", "sample"])
    for sample in range(SAMPLES):
        turns = [("user", "Name a fruit."), ("assistant", table.loc[("81", sample), "text"]), ("user", "Name another.")]
        messages = [{"role": role, "content": content} for role, content in turns]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
        said = list(table.loc[("81/2", sample), "tokens"])
        with torch.no_grad():
            logits = model(torch.tensor([[*prompt, *said]])).logits[0, len(prompt) - 1 : -1]
        logps = logits.log_softmax(-1).gather(1, torch.tensor(said)[:, None]).sum()
        assert float(logps) == pytest.approx(table.loc[("81/2", sample), "sum_logp"], abs=1e-3)


def test_the_run_is_verified_and_a_missing_second_turn_is_named(run: Path) -> None:
    assert verify(run).problems == ()
    path = of(run, "simpo").folder / "generations.parquet"
    whole = path.read_bytes()
    pd.read_parquet(path).iloc[:-1].to_parquet(path)
    try:
        assert any("got other prompts or seeds than" in problem for problem in verify(run).problems)
    finally:
        path.write_bytes(whole)


@pytest.fixture
def judge(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Callable[..., str]:
    monkeypatch.setenv("HARNESS_CACHE", str(cache))

    def call(*arguments: str | Path) -> str:
        done = CliRunner().invoke(cli, ["judge", *map(str, arguments), "--no-pictures"], standalone_mode=False)
        if done.exception is not None:
            raise done.exception
        return done.output

    return call


def shown(server: Stub, last: str) -> list[str]:
    """What the judge was shown of the conversations that end with this turn."""
    return [text for text in server.asked if f"<user>\n{last}\n</user>\n</conversation>" in text]


def test_a_judge_of_single_answers_sees_each_second_turn_behind_the_cell_s_own_first_answer(
    run: Path, judge: Callable[..., str]
) -> None:
    with stub() as server:
        server.reply = "Fine.\nRATING: 8"
        judge(run, "--judge", f"openai-rating:nano@{server.url}", "--against", "chosen")
        seconds = shown(server, "Name another.")
    for label in ("base", "simpo"):
        for said in answers(run, label).query("prompt_id == '81'")["text"]:
            assert any(f"<assistant>\n{said}\n</assistant>" in text for text in seconds)
    (path,) = (of(run, "base").folder / "judgements").glob("openai-rating*")
    rated = pd.read_parquet(path).query("against == 'chosen'")
    assert rated["prompt_id"].tolist() == ["82"]  # the one prompt that brings an answer
    assert verify(run).problems == ()


def test_second_turns_are_not_compared_and_the_answers_that_prompts_bring_are_rivals(
    run: Path, judge: Callable[..., str]
) -> None:
    with stub() as server:
        judge(run, "--judge", f"openai:nano@{server.url}", "--against", "base,chosen")
        assert shown(server, "Name another.") == []
        seen = shown(server, "Say hello.")
    for answer in ("<answer-1>\nHello there.\n</answer-1>", "<answer-2>\nHello there.\n</answer-2>"):
        assert any(answer in text for text in seen)
    (path,) = (of(run, "simpo").folder / "judgements").glob("openai-nano*")
    counts = pd.read_parquet(path).groupby(["prompt_id", "against"]).size().to_dict()
    assert counts == {("81", "base"): 4, ("82", "base"): 4, ("82", "chosen"): 4}


def test_a_judge_that_needs_tasks_is_refused(run: Path, judge: Callable[..., str]) -> None:
    with pytest.raises(HarnessError, match="judge 'simulator' cannot judge answers"):
        judge(run, "--judge", "simulator")


def test_other_prompts_are_another_run(harness: Any, run: Path, asked: Path) -> None:
    done = harness(*COMMAND, "--output-dir", str(run))
    assert done.returncode == 2
    assert f"prompts was '{asked}', now None" in done.stderr
    text = asked.read_text()
    asked.write_text(text.replace("Name a fruit.", "Name a tree."))
    done = harness(*COMMAND, "--prompts", str(asked), "--output-dir", str(run))
    asked.write_text(text)
    assert done.returncode == 2
    assert f"the prompts in {asked} have changed" in done.stderr
    done = harness("run", "--prompts", str(asked), "--dry-run")
    assert done.returncode == 2
    assert "got --prompts without --generate, expected both" in done.stderr
