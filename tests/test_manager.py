"""Plugins: found by entry point, failing alone, named with their owner."""

import pickle
import re
import sys
from collections.abc import Callable
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path

import pytest

from harness.api import HarnessError, JudgeOptions, LoadOptions
from harness.manager import Manager, datasets, judges, losses, owner_of, plugin_manager, resolver, scorers

LOSS = """
from dataclasses import dataclass
from typing import ClassVar
from harness.api import Loss, Terms, hookimpl

@dataclass(frozen=True, kw_only=True)
class Mine(Loss):
    name: ClassVar[str] = "{name}"
    beta: float = 1.0
    def terms(self, pairs): return Terms.of(-pairs.chosen.mean())
    def reward(self, response): return response.sum

@hookimpl
def harness_losses(): return [Mine]
"""

Install = Callable[[str, str], EntryPoint]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Write a module and the metadata of a distribution `<name>-dist` 1.2 that brings it; return its entry point."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, source: str) -> EntryPoint:
        module = f"outsider_{name}"
        monkeypatch.delitem(sys.modules, module, raising=False)
        (tmp_path / f"{module}.py").write_text(source)
        info = tmp_path / f"{name}_dist-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-dist\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[harness]\n{name} = {module}\n")
        (entry,) = Distribution.at(info).entry_points
        return entry

    return write


def test_the_seven_shipped_losses_are_found_with_their_owner() -> None:
    manager = plugin_manager()
    assert {"simpo", "cpo", "ipo", "alphapo", "gapo", "gappo", "dpo"} <= set(losses(manager))
    assert owner_of(manager, "gappo").distribution == "preference-harness"
    assert list(losses(manager)) == sorted(losses(manager))


def test_an_unknown_loss_has_no_owner() -> None:
    with pytest.raises(KeyError):
        owner_of(plugin_manager(), "nope")


BROKEN = {
    "raises_at_import": ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
    "leaves_at_import": ("raise SystemExit('bye')", "SystemExit: bye"),
    "is_no_python": ("def", "SyntaxError"),
    "raises_in_its_hook": (
        "from harness.api import hookimpl\n@hookimpl\ndef harness_losses(): raise RuntimeError('too bad')",
        "RuntimeError: too bad",
    ),
    "raises_in_another_hook": (
        LOSS.format(name="other") + "@hookimpl\ndef harness_scorers(): return 1 / 0",
        "ZeroDivisionError: division by zero",
    ),
    "answers_none": ("from harness.api import hookimpl\n@hookimpl\ndef harness_losses(): pass", "returned None"),
    "answers_with_no_loss": (
        "from harness.api import hookimpl\n@hookimpl\ndef harness_losses(): return [dict]",
        "expected subclasses of harness.api.Loss",
    ),
    "answers_with_no_data_set": (
        "from harness.api import hookimpl\n@hookimpl\ndef harness_datasets(): return ['uf']",
        "expected harness.api.DatasetSource",
    ),
    "answers_with_no_judge": (
        "from harness.api import hookimpl\n@hookimpl\ndef harness_judges(): return ['gpt']",
        "expected harness.api.JudgeSource",
    ),
    "answers_with_no_selector": (
        "from harness.api import hookimpl, DatasetSource\n@hookimpl\ndef harness_selectors(): return [DatasetSource]",
        "expected subclasses of harness.api.Selector",
    ),
    "lacks_select": (
        "from harness.api import Selector, hookimpl\nclass Mine(Selector): name = 'mine'\n"
        "@hookimpl\ndef harness_selectors(): return [Mine]",
        "Mine, which does not define select",
    ),
    "lacks_reward": (
        LOSS.format(name="half").replace("    def reward(self, response): return response.sum\n", ""),
        "Mine, which does not define reward",
    ),
    "has_no_name": (LOSS.replace("name: ClassVar", "title: ClassVar"), "has no name"),
    "misspells_the_hook": (
        "from harness.api import hookimpl\n@hookimpl\ndef harness_loses(): return []",
        "unknown hook 'harness_loses'",
    ),
    "has_no_hook": ("answer = 42", "which has no hook, expected harness_losses, harness_datasets, harness_scorers"),
    "forgets_to_mark_its_hook": (
        LOSS.format(name="unmarked").replace("@hookimpl\n", ""),
        "which has no hook, expected harness_losses",
    ),
    "asks_for_too_much": (
        "from harness.api import hookimpl\n@hookimpl\ndef harness_losses(model): return []",
        "PluginValidationError",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_plugin_that_fails_is_named_with_its_distribution_and_costs_only_itself(name: str, install: Install) -> None:
    source, reason = BROKEN[name]
    manager = plugin_manager([install(name, source), install("works", LOSS.format(name="works"))])
    assert set(losses(manager)) == {"works"}
    assert set(manager.broken) == {name}
    assert manager.broken[name].startswith(f"plugin '{name}' of {name}-dist 1.2 failed: ")
    assert reason in manager.broken[name]
    assert datasets(manager) == {}
    assert scorers(manager) == {}
    assert judges(manager) == {}


SOURCE = """
from harness.api import DatasetSource, JudgeSource, ScorerSource, hookimpl

def no(*given): return None

@hookimpl
def harness_datasets(): return [DatasetSource(name="uf", load=no)]

@hookimpl
def harness_scorers(): return [ScorerSource(name="mine", version=no, why_not=no, open=no)]

@hookimpl
def harness_judges(): return [JudgeSource(name="strict", asks="pairs", identity=no, why_not=no, open=no)]
"""


def test_two_plugins_that_claim_a_name_cost_that_name_alone_and_are_both_named(install: Install) -> None:
    sources = {"one": "same", "two": "same", "works": "works"}
    manager = plugin_manager([install(name, LOSS.format(name=loss)) for name, loss in sources.items()])
    assert list(losses(manager)) == ["works"]
    said = manager.broken["loss same"]
    assert said == (
        "several plugins bring a loss called 'same': one-dist:one and two-dist:two, expected one; "
        "uninstall or rename the others"
    )
    assert resolver(manager)("works", {}).name == "works"
    with pytest.raises(HarnessError, match=re.escape(said)):
        resolver(manager)("same", {})


def test_a_data_set_scorer_or_judge_of_two_plugins_is_unusable_and_names_both(install: Install) -> None:
    manager = plugin_manager([install("one", SOURCE), install("two", SOURCE)])
    with pytest.raises(HarnessError, match=r"a data set called 'uf': one-dist:one and two-dist:two"):
        datasets(manager)["uf"].load(LoadOptions())
    scorer = pickle.loads(pickle.dumps(scorers(manager)["mine"]))
    assert "a scorer called 'mine': one-dist:one and two-dist:two" in scorer.why_not()
    judge = pickle.loads(pickle.dumps(judges(manager)["strict"]))
    assert "a judge called 'strict': one-dist:one and two-dist:two" in judge.why_not("")
    with pytest.raises(HarnessError, match="a judge called 'strict'"):
        judge.open("", JudgeOptions())
    assert set(manager.broken) == {"data set uf", "scorer mine", "judge strict"}


def test_the_shipped_judges_are_found_and_say_what_they_are_asked_about() -> None:
    asks = {name: judge.asks for name, judge in judges(plugin_manager()).items()}
    assert asks == {
        "simulator": "answers",
        "openai": "pairs",
        "openai-logprobs": "pairs",
        "openai-rating": "answers",
        "reward-model": "answers",
    }


@pytest.mark.parametrize("name", ["all", "core", "base", "longer-wins"])
def test_a_loss_that_takes_a_name_of_ours_is_refused_in_one_line_with_its_distribution(
    name: str, install: Install
) -> None:
    manager = plugin_manager([install("thief", LOSS.format(name=name)), install("works", LOSS.format(name="works"))])
    assert set(losses(manager)) == {"works"}
    message = manager.broken["thief"]
    assert message.startswith(
        f"plugin 'thief' of thief-dist 1.2 failed: HarnessError: got a loss called '{name}', a name"
    )
    assert message.endswith("; choose another")
    assert "\n" not in message


def test_two_entry_points_of_one_module_are_one_plugin(install: Install) -> None:
    entry = install("works", LOSS.format(name="works"))
    manager = plugin_manager([entry, EntryPoint(name="again", value=entry.value, group="harness")])
    assert set(losses(manager)) == {"works"}
    assert manager.broken == {}


def shipped() -> Manager:
    return plugin_manager()


def test_the_resolver_builds_a_loss_and_the_one_it_wraps() -> None:
    resolve = resolver(shipped())
    loss = resolve("gappo", {"base": "dpo", "base.beta": "0.3", "clip_max": "none"})
    assert loss.options() == {
        "base": "dpo",
        "base.beta": 0.3,
        "base.label_smoothing": 0.0,
        "normalise": "dataset_mean",
        "clip_max": None,
        "power": 1.0,
    }
    assert resolve("gappo", {}).options()["base"] == "simpo"


def test_the_resolver_names_the_losses_there_are_and_the_nearest() -> None:
    with pytest.raises(HarnessError, match=r"got loss 'simpoo', expected one of .*gappo.* \(did you mean 'simpo'\?\)"):
        resolver(shipped())("simpoo", {})


def test_the_resolver_names_an_unknown_base(install: Install) -> None:
    with pytest.raises(HarnessError, match=r"got loss 'nope', expected one of"):
        resolver(shipped())("gappo", {"base": "nope"})


def test_the_resolver_tells_why_a_loss_that_is_installed_is_not_there(install: Install) -> None:
    manager = plugin_manager([install("mine", "raise RuntimeError('too bad')")])
    with pytest.raises(HarnessError, match=r"got loss 'mine'.*plugin 'mine' of mine-dist 1.2 failed: RuntimeError"):
        resolver(manager)("mine", {})
