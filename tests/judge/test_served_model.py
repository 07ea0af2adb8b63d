"""Judges behind a real server: vLLM's, with a small pretrained model. `tox -e served`, about four minutes.

The model is far too small to judge. Its chat template shows it by examples how a judge replies, so that some of its
replies can be read; the others have to be counted.
"""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
from answered_run import BASE, DPO, answered_run
from waiting import HANGS

from harness.api import HarnessError, JudgeOptions, JudgeRequest, Message, Verdict
from harness.data.simulator.synthetic import Settings, make
from harness.judge.endpoint import KEY, TOO_LONG, harness_judges
from harness.judge.kept_replies import FILE
from harness.judge.wording import BY_TOKEN, GRADES
from harness.models.smollm2 import smollm2
from harness.run_folder.paths import JUDGEMENTS

pytestmark = pytest.mark.served
SECRET = "sk-a-key-that-no-file-may-have-0452"
START = 300
"""Seconds that the server has to start."""
PROMPTS = 8
PARALLEL = 4
TEMPLATE = Path(__file__).parent / "judge_template.jinja"
HIDE = "from harness.import_guard import guard_imports\nguard_imports()\n"


@dataclass(frozen=True, kw_only=True)
class Server:
    """A running server."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def metric(self, name: str) -> float:
        """Return the sum of one of the server's own counters or gauges."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=HANGS) as answer:
            lines = answer.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(f"vllm:{name}{{"))

    @property
    def answered(self) -> int:
        """How many requests it has answered since its start."""
        return int(self.metric("request_success_total"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    checkpoint = smollm2(folder / "cache", print).folder
    (folder / "sitecustomize.py").write_text(HIDE)  # vLLM starts Pythons of its own
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = f"--served-model-name small --dtype float32 --max-model-len 2048 --enforce-eager --port {port}"
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(checkpoint)]
    environment = {"PYTHONPATH": str(folder), "VLLM_API_KEY": SECRET, "VLLM_CPU_KVCACHE_SPACE": "1"}
    with (folder / "log").open("w") as log:
        started = subprocess.Popen(
            [*command, *options.split(), "--host", "127.0.0.1", "--chat-template", str(TEMPLATE)],
            env={**os.environ, **environment, "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"},
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            _wait_for(started, port, folder / "log")
            yield Server(port=port)
        finally:
            started.terminate()
            started.wait(HANGS)


def _wait_for(started: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + START
    while time.monotonic() < end and started.poll() is None:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
        except OSError:
            time.sleep(0.5)
        else:
            return
    raise AssertionError(f"the server did not start: {log.read_text()[-3000:]}")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return answered_run(tmp_path / "run", make(Settings(), 0), PROMPTS)


def judging(run: Path, name: str, *options: str) -> list[str]:
    command = [sys.executable, "-m", "harness", "judge", str(run), "--judge", name, "--parallel", str(PARALLEL)]
    return [*command, *options]


def environment(run: Path) -> dict[str, str]:
    return {**os.environ, KEY: SECRET, "HARNESS_CACHE": str(run.parent / "cache")}


def judge(run: Path, name: str, *options: str) -> str:
    done = subprocess.run(
        judging(run, name, *options), env=environment(run), capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def judged(run: Path, cell: str) -> pd.DataFrame:
    (file,) = (run / "cells" / cell / JUDGEMENTS).iterdir()
    return pd.read_parquet(file)


def require_no_key(folder: Path, *told: str) -> None:
    assert SECRET not in " ".join(told)
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert any(file.name == FILE for file in files)
    for file in files:
        assert SECRET.encode() not in file.read_bytes(), file


READABLE: dict[str, tuple[str, Callable[[float], bool]]] = {
    "openai": ("preference", lambda value: value in GRADES.values()),
    "openai-logprobs": ("preference", lambda value: 0 < value < 1),
    "openai-rating": ("rating", lambda value: value in range(1, 11)),
}


@pytest.mark.parametrize("manner", READABLE)
def test_each_manner_judges_every_answer_and_counts_what_it_cannot_read(server: Server, run: Path, manner: str) -> None:
    said = judge(run, f"{manner}:small@{server.url}", "--against", "base,chosen")
    expected = {BASE: 2 * PROMPTS, DPO: PROMPTS if manner == "openai-rating" else 4 * PROMPTS}
    column, possible = READABLE[manner]
    read = 0
    for cell, questions in expected.items():
        table = judged(run, cell)
        assert len(table) == questions
        known = table[column].notna()
        assert (known == (table["reason"] == "")).all()
        assert all(possible(value) for value in table.loc[known, column])
        read += int(known.sum())
        for reason, count in table["reason"].value_counts().drop("", errors="ignore").items():
            assert f"{count} of {questions}: {reason}" in said
    print(f"{manner}: {read} of {sum(expected.values())} replies could be read")
    assert read
    require_no_key(run.parent, said)


def test_requests_go_out_side_by_side_and_not_more_at_a_time_than_asked_for(server: Server, run: Path) -> None:
    seen: list[float] = []
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            seen.append(server.metric("num_requests_running") + server.metric("num_requests_waiting"))

    watching = threading.Thread(target=look)
    watching.start()
    judge(run, f"openai:small@{server.url}")
    over.set()
    watching.join()
    assert 1 < max(seen) <= PARALLEL


def test_a_killed_judging_run_starts_again_without_one_answered_request_sent_twice(server: Server, run: Path) -> None:
    questions = 2 * PROMPTS
    kept = run.parent / "cache" / "judges" / FILE
    command = judging(run, f"openai:small@{server.url}")
    with subprocess.Popen(command, env=environment(run), stdout=subprocess.DEVNULL) as killed:
        end = time.monotonic() + HANGS
        while _replies(kept) < 3 and time.monotonic() < end:
            time.sleep(0.02)
        killed.send_signal(signal.SIGKILL)
    had = _replies(kept)
    assert 3 <= had < questions
    while server.metric("num_requests_running"):  # what was on its way when it was killed
        time.sleep(0.1)
    before = server.answered
    said = judge(run, f"openai:small@{server.url}")
    assert f"{questions - had} requests to send" in said
    assert server.answered - before == questions - had
    assert len(judged(run, DPO)) == questions
    assert "nothing to send" in judge(run, f"openai:small@{server.url}")
    assert server.answered - before == questions - had
    require_no_key(run.parent, said)


def _replies(file: Path) -> int:
    if not file.exists():
        return 0
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as opened:
        try:
            return int(opened.execute("SELECT COUNT(*) FROM replies").fetchone()[0])
        except sqlite3.OperationalError:  # just being made
            return 0


QUESTION = JudgeRequest(
    prompt_id="p",
    context=(Message(role="user", content="Name a fruit."),),
    answers=("An apple.", "I do not know and do not care."),
)


def said(server: Server, name: str, request: JudgeRequest, model: str = "small") -> object:
    (source,) = (source for source in harness_judges() if source.name == name)
    opened = source.open(f"{model}@{server.url}", JudgeOptions(retries=0))
    try:
        (answer,) = opened.judge([request])
        return answer
    finally:
        opened.close()


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, SECRET)


@pytest.mark.usefixtures("key")
def test_log_probs_give_the_share_that_the_server_s_own_probabilities_have(server: Server) -> None:
    """Asked here without our client or our reading of its replies."""
    from harness.judge.wording import ASK_TOKEN, shown

    verdict = said(server, "openai-logprobs", QUESTION)
    turns = [("system", BY_TOKEN), ("user", f"{shown(QUESTION)}\n\n{ASK_TOKEN}")]
    body = {
        "model": "small",
        "messages": [{"role": role, "content": content} for role, content in turns],
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 20,
    }
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {SECRET}"}
    request = urllib.request.Request(f"{server.url}/chat/completions", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=HANGS) as answer:
        top = json.load(answer)["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
    odds = {digit: sum(math.exp(each["logprob"]) for each in top if each["token"].strip() == digit) for digit in "12"}
    assert isinstance(verdict, Verdict)
    assert odds["1"] + odds["2"] > 0.5
    assert verdict.preference == pytest.approx(odds["1"] / (odds["1"] + odds["2"]), abs=0.01)


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize("name", ["openai", "openai-logprobs"])
def test_what_the_model_says_without_being_shown_how_is_counted_and_never_guessed(server: Server, name: str) -> None:
    alone = JudgeRequest(
        prompt_id="p", context=(Message(role="user", content="Write about rain on your own."),), answers=("Rain.", "No")
    )
    verdict = said(server, name, alone)
    assert isinstance(verdict, Verdict)
    assert verdict.preference is None
    assert verdict.reason


@pytest.mark.usefixtures("key")
@pytest.mark.parametrize("name", READABLE)
def test_a_question_longer_than_the_model_s_context_window_is_counted_as_such(server: Server, name: str) -> None:
    answers = ("word " * 3000,) if name == "openai-rating" else ("word " * 3000, "word")
    long = JudgeRequest(prompt_id="p", context=QUESTION.context, answers=answers)
    assert said(server, name, long).reason == TOO_LONG


@pytest.mark.usefixtures("key")
def test_a_model_that_the_server_does_not_have_ends_judging(server: Server) -> None:
    with pytest.raises(HarnessError, match=r"got HTTP 404, expected an answer of 'other'"):
        said(server, "openai", QUESTION, model="other")


def test_without_the_server_s_key_judging_ends(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "sk-another")
    with pytest.raises(HarnessError, match=r"got HTTP 401.*check the URL, the model's name and the key") as raised:
        said(server, "openai", QUESTION)
    assert "sk-another" not in str(raised.value)
