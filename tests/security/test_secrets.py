"""Keys and passwords that a run meets stand in none of its files, on no screen and in no error."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.api import HarnessError
from harness.plugin_tools.listing import doctor_page
from harness.run_folder.shown import environment, for_the_terminal, reason_of, without_secrets

SECRETS = {
    "HF_TOKEN": "hf_aTokenThatNoFileMayHave0001",
    "OPENAI_API_KEY": "sk-a-key-that-no-file-may-have-0002",
    "VLLM_API_KEY": "plain-key-that-no-file-may-have-0003",
    "HARNESS_PASSWORD": "password-that-no-file-may-have-0004",
    "HF_ENDPOINT": "http://someone:secret-that-no-file-may-have-0005@127.0.0.1:9",
}
HIDDEN = ("0001", "0002", "0003", "0004", "0005")
"""What each secret ends with, and nothing else."""

LEAKY = """
import os
from dataclasses import dataclass
from typing import ClassVar

import harness
from harness.api import Loss, PairLogps, ResponseLogps, Terms


@dataclass(frozen=True, kw_only=True)
class Leaky(Loss):
    name: ClassVar[str] = "leaky"

    def terms(self, pairs: PairLogps) -> Terms:
        raise RuntimeError("401 for " + os.environ["OPENAI_API_KEY"] + " at " + os.environ["HF_ENDPOINT"])

    def reward(self, response: ResponseLogps):
        return response.sum


if __name__ == "__main__":
    settings = dict(models="qwen", budget="pairs=32", limit=48, scorer="transformers", pictures=False)
    harness.run(losses=[Leaky(), "simpo"], output_dir={run!r}, **settings)
"""
"""A loss whose failure has the key in its message and in its traceback."""


def told(text: str) -> list[str]:
    """Return which secrets a text gives away."""
    return [end for end in HIDDEN if re.search(rf"may-?have-?{end}", text, re.IGNORECASE)]


@pytest.fixture
def with_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("with_secrets")
def test_variables_are_recorded_without_those_that_hold_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VLLM_PROXY", "http://me:secret-that-no-file-may-have-0005@proxy:80/")
    recorded = environment(("VLLM_", "HARNESS_", "HF_"))
    assert recorded["VLLM_PROXY"] == "http://...@proxy:80/"
    assert recorded["HF_ENDPOINT"] == "http://...@127.0.0.1:9"
    assert not recorded.keys() & {"VLLM_API_KEY", "HARNESS_PASSWORD", "HF_TOKEN"}


@pytest.mark.usefixtures("with_secrets")
@pytest.mark.parametrize(
    "text",
    [
        *SECRETS.values(),
        "401 for https://u:secret-that-no-file-may-have-0005@host/x?page=1",
        "u:p@ss-that-no-file-may-have-0005@host".join(["got https://", "/"]),
        "GET https://host/x?page=1&access_token=that-no-file-may-have-0001&b=2",
        "Bearer hf_anotherTokenThatNoFileMayHave0001",
    ],
)
def test_no_reason_has_a_secret_and_the_rest_of_it_stays(text: str) -> None:
    for error in (HarnessError(f"before {text} behind"), ValueError(f"before {text} behind")):
        reason = reason_of(error)
        assert not told(reason), reason
        assert "before " in reason
        assert reason.endswith(" behind")


def test_text_without_a_secret_is_left_as_it_is() -> None:
    for text in ("my-model@http://localhost:8000/v1", "org/name@revision", "a task-force", "sk-learn", "?a=1"):
        assert without_secrets(text) == text


def test_a_run_with_secrets_around_it_leaves_them_in_no_file_and_says_none(harness: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    plugin = tmp_path / "leaky.py"  # a failure whose message and traceback have the key
    plugin.write_text(LEAKY.format(run=str(run)))
    done = subprocess.run(
        [sys.executable, str(plugin)],
        env={**os.environ, **SECRETS, "HARNESS_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True, check=False, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert not told(done.stdout + done.stderr)
    files = [path for path in run.rglob("*") if path.is_file()]
    assert {"manifest.json", "run.toml", "record.json", "leaderboard.html"} <= {path.name for path in files}
    assert [(path.name, told(path.read_bytes().decode(errors="replace"))) for path in files] == [
        (path.name, []) for path in files
    ]
    said = harness("leaderboard", str(run), **SECRETS)
    assert not told(said.stdout + said.stderr)
    for file in ("leaderboard.json", "logs/qwen.log"):
        assert "RuntimeError: 401 for sk-... at http://...@127.0.0.1:9" in (run / file).read_text()


def test_the_doctor_and_errors_show_no_password(harness: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    (line,) = [line for line in for_the_terminal(doctor_page()).splitlines() if "127.0.0.1:9" in line]
    assert "http://...@127.0.0.1:9 does not answer" in line
    assert not told(line)
    done = harness("data", "describe", "https://u:p-that-no-file-may-have-0005@host/pairs.jsonl", HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert done.stderr.startswith("Error: ")
    assert not told(done.stdout + done.stderr)
