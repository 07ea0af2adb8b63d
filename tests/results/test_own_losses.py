"""Losses that a script or a notebook defines: trained in workers, resumed, and told apart by their source."""

from __future__ import annotations

import hashlib
import importlib.util
import inspect
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pytest
from results.conftest import LOSS, RUN, SHELL, SMALL, Script
from waiting import has_no_writer, until

import harness
from harness.api import HarnessError, Loss, PairLogps, ResponseLogps, Terms
from harness.execute.loss_source import source_hash
from harness.execute.own_losses import selected
from harness.manager import losses, plugin_manager
from harness.planning.grid import System, cells

CELLS = "cells/*/record.json"


def records(folder: Path) -> dict[str, dict[str, Any]]:
    found = [json.loads(path.read_text()) for path in folder.glob(CELLS)]
    return {record["label"]: record for record in found}


def written_at(folder: Path) -> dict[str, int]:
    """When the record of each trained cell was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob(CELLS) if "--seed" in path.parent.name}


def test_a_script_run_twice_computes_nothing_and_edited_trains_the_edited_loss_alone(
    own_run: Path, script: Script, tmp_path: Path
) -> None:
    shutil.copytree(own_run, tmp_path / "run")
    first, before = records(tmp_path / "run"), written_at(tmp_path / "run")
    assert "every cell has its record: nothing to compute" in script(LOSS + RUN).stdout
    assert written_at(tmp_path / "run") == before

    printed = script(LOSS.replace("return beta * gap", "return 0.5 * beta * gap") + RUN).stdout
    after = written_at(tmp_path / "run")
    assert {key: after[key] for key in before} == before  # what was there is there still
    (old,) = [label for label in first if label.startswith("my-loss")]
    (new,) = set(records(tmp_path / "run")) - set(first)
    assert new.startswith("my-loss@")
    assert new.endswith("(beta=3)")
    assert old in printed  # both stand on the board
    assert new in printed
    logs = [harness.load_run(tmp_path / "run").frame("steps").query("label == @label") for label in (old, new)]
    assert list(logs[0]["step_loss"]) != list(logs[1]["step_loss"])


def test_the_record_says_where_the_loss_is_from_and_verify_takes_it_for_one_that_is_not_installed(
    own_run: Path, tmp_path: Path, harness: Any
) -> None:
    (record,) = [each for label, each in records(own_run).items() if label.startswith("my-loss@")]
    source = record["loss"]["source"]
    assert record["label"] == f"my-loss@{source[:8]}(beta=3)"
    assert record["loss"] == {
        "name": "my-loss",
        "options": {"beta": 3.0},
        "needs_reference": False,
        "tags": ["pairwise", "averaged"],
        "fails": ["numbers that are not finite are refused"],
        "plugin": "defined in __main__",
        "version": f"source sha256 {source}",
        "source": source,
    }
    assert len(source) == 64
    assert "source" not in records(own_run)["dpo"]["loss"]
    verified = harness("verify", str(own_run))
    assert verified.returncode == 0, verified.stdout
    assert f"not checked: rewards of {record['label']}: defined in Python" in verified.stdout
    exported = harness("export", str(own_run), "--format", "csv", "--output", str(tmp_path / "out.csv"))
    assert exported.returncode == 0, exported.stderr
    assert record["label"] in (tmp_path / "out.csv").read_text()
    again = harness("run", str(own_run / "run.toml"), "--dry-run")
    assert again.returncode == 2
    assert "was defined in Python and is not installed" in again.stderr


def test_a_killed_script_goes_on_where_it_was(script: Script, tmp_path: Path, environment: dict[str, str]) -> None:
    folder, text = tmp_path / "run", LOSS + RUN.replace('"dpo"', '"dpo", "simpo", "ipo"')
    (tmp_path / "mine.py").write_text(text)
    path = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
    started = subprocess.Popen(
        [sys.executable, "mine.py"],
        cwd=tmp_path,
        env={**environment, "PYTHONPATH": path},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    trained = until(lambda: list(folder.glob("cells/my-loss*/trained.json")) or list(folder.glob(CELLS))
                    or list(folder.glob("cells/*my-loss*/trained.json")), "a trained cell")  # fmt: skip
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    until(lambda: has_no_writer(folder), "the worker to end with its run")
    if trained[0].name == "trained.json" and trained[0].exists():
        kept = trained[0].read_text()
        script(text)
        assert trained[0].read_text() == kept  # it was scored, not trained again
    else:
        script(text)
    assert {label.partition("@")[0] for label in records(folder)} == {
        "my-loss", "dpo", "simpo", "ipo", "base", "longer-wins",
    }  # fmt: skip
    assert all(record["status"] == "ok" for record in records(folder).values())


def test_a_loss_of_a_notebook_works_around_and_inside_others(script: Script, tmp_path: Path) -> None:
    wrapping = "from harness_plugins.gappo import GapPO\n" + RUN.replace("MyLoss(beta=3)", "GapPO(base=MyLoss(beta=3))")
    script(f"CELLS = {[LOSS, wrapping]!r}\n{SHELL}", "cells.py")
    (record,) = [each for each in records(tmp_path / "run").values() if each["loss"]["name"] == "gappo"]
    assert record["status"] == "ok"
    assert record["label"] == f"gappo(base=my-loss@{record['loss']['source'][:8]},base.beta=3)"
    assert record["loss"]["options"]["base"] == "my-loss"


def loaded(folder: Path, text: str, name: str) -> ModuleType:
    """Return the module with this text, which lies in `folder`."""
    path = folder / f"{name}.py"
    path.write_text(text)
    # bytecode is kept by the second and the size: an edit within one second may have both as before
    Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ("- SHIFT))", "- SHIFT - 0.1))", True),
        ("beta: float = 2.0", "beta: float = 2.5", True),
        ("length_normalised = True", "length_normalised = False", True),
        ("return beta * gap", "return gap * beta", True),  # a function that it calls
        ("SHIFT = 0.0", "SHIFT = 0.1", True),  # a constant that it reads
        ("def unused(", "scaled = partial(scaled, beta=1.0)\n\n\ndef unused(", True),
        ("    beta: float = 2.0", "    scale = SHIFT\n    beta: float = 2.0", True),
        ("SHIFT = 0.0\n", "SHIFT = 0.0\nmean = chosen = reward = [object()]\n", False),  # names of its attributes alone
        ("    return gap\n", "    return 2 * gap\n", False),  # what it does not use
        ("import harness\n", "import harness\n\n# a note\n", False),
    ],
)
def test_an_edit_is_another_loss_where_the_loss_uses_what_was_edited(
    before: str, after: str, changes: bool, tmp_path: Path
) -> None:
    text = f"from functools import partial\n{LOSS}"
    assert before in text
    plain = source_hash(loaded(tmp_path, text, "edited_loss").MyLoss)
    assert plain == source_hash(loaded(tmp_path, text, "edited_loss").MyLoss)
    edited = source_hash(loaded(tmp_path, text.replace(before, after), "edited_loss").MyLoss)
    assert (edited != plain) == changes


def test_an_edit_of_a_base_class_or_of_a_module_of_the_project_is_another_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = (
        "import helpers_of_a_loss\nfrom parent_of_a_loss import MyLoss\n\n\nclass Child(MyLoss):\n"
        "    name = 'child'\n\n    def reward(self, response):\n"
        "        return helpers_of_a_loss.twice(response.sum)\n"
    )
    helpers = "def twice(x):\n    return 2 * x\n"

    def hashed(parent: str, helper: str) -> str:
        loaded(tmp_path, parent, "parent_of_a_loss")
        loaded(tmp_path, helper, "helpers_of_a_loss")
        return source_hash(loaded(tmp_path, child, "child_of_a_loss").Child)

    plain = hashed(LOSS, helpers)
    assert plain == hashed(LOSS, helpers)
    assert plain != hashed(LOSS.replace("beta * gap", "gap * beta"), helpers)
    assert plain != hashed(LOSS, helpers.replace("2 * x", "x + x"))


def test_a_constant_that_the_class_keeps_is_part_of_the_hash(tmp_path: Path) -> None:
    kept = LOSS.replace("    beta: float", "    scale = SHIFT\n    beta: float")
    plain = source_hash(loaded(tmp_path, kept.replace("- SHIFT)", "- self.scale)"), "keeping_loss").MyLoss)
    edited = kept.replace("- SHIFT)", "- self.scale)").replace("SHIFT = 0.0", "SHIFT = 0.1")
    assert source_hash(loaded(tmp_path, edited, "keeping_loss").MyLoss) != plain


def test_the_hash_of_a_loss_that_uses_nothing_of_its_own_is_that_of_its_text_and_its_constants() -> None:
    here = f"{Plain.__module__}.Plain"
    parts = {here: inspect.getsource(Plain), f"{here}.name": "'plain'", f"{here}.power": "None"}
    parts |= {f"{here}.strength": "1.0", f"{here}.words": "'a'"}
    whole = "\0".join(f"{name}\0{text}" for name, text in sorted(parts.items()))
    assert source_hash(Plain) == hashlib.sha256(whole.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Plain(Loss):
    name: ClassVar[str] = "plain"
    strength: float = 1.0
    power: float | None = None
    words: str = "a"

    def terms(self, pairs: PairLogps) -> Terms:
        return Terms.of(pairs.rejected.mean() - pairs.chosen.mean())

    def reward(self, response: ResponseLogps) -> Any:
        return response.sum


def test_an_installed_loss_given_as_an_instance_is_what_the_command_line_calls_it() -> None:
    manager = plugin_manager()
    known = losses(manager)
    simpo, gappo, ipo = known["simpo"], known["gappo"], known["ipo"]
    given = ["dpo", simpo(beta=2.5), simpo(), gappo(base=ipo(tau=0.1)), "all"]  # type: ignore[call-arg]
    text, own = selected(given, manager)
    assert own == ()
    assert text.startswith("dpo,simpo:beta=2.5,simpo,gappo:base=ipo")
    assert text.endswith(",all")


def test_options_that_are_not_the_defaults_are_named_and_read_back() -> None:
    text, own = selected([Plain(strength=0.1, power=3)], plugin_manager())
    assert text == f"plain@{own[0].source[:8]}:power=3,strength=0.1"


def test_what_cannot_be_told_apart_or_read_back_is_refused() -> None:
    @dataclass(frozen=True, kw_only=True)
    class SimPO(Plain):
        name: ClassVar[str] = "simpo"

        def reward(self, response: ResponseLogps) -> Any:
            return response.sum

    @dataclass(frozen=True, kw_only=True)
    class Other(Plain):
        def reward(self, response: ResponseLogps) -> Any:
            return response.sum

    @dataclass(frozen=True, kw_only=True)
    class Base(Plain):
        name: ClassVar[str] = "base"

    space: dict[str, Any] = {"Plain": Plain, "__name__": "__main__"}
    exec("class Typed(Plain):\n    name = 'typed'\n    def reward(self, response):\n        return 0\n", space)
    for given, message in [
        ([SimPO()], "expected a name that is not taken: harness_plugins.simpo has a loss of that name"),
        ([Plain(), Other()], "got a loss 'plain' defined in"),
        ([Base()], "got loss Base with the name 'base', expected lower-case letters"),
        ([Plain(words="a,b=c")], "which can be written as option=value and read back"),
        ([space["Typed"]()], "whose source is not there, expected a class in a file or in a cell of a notebook"),
    ]:
        with pytest.raises(HarnessError, match=message.replace("(", r"\(")):
            selected(given, plugin_manager())
    with pytest.raises(HarnessError, match="a class is called: SimPO"):
        harness.run([Plain])  # type: ignore[list-item]


def test_a_setting_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="got key 'learning-rat'"):
        harness.run("dpo", learning_rat=1.0, output_dir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_python_and_the_command_line_find_each_other_s_cells(script: Script, tmp_path: Path, harness: Any) -> None:
    loss = "from harness_plugins.simpo import SimPO\nimport harness\n"
    script(f"{loss}harness.run(losses=[SimPO(beta=3.0)], {SMALL})\n")
    options = ("--models", "qwen", "--limit", "48", "--budget", "pairs=32", "--scorer", "transformers")
    done = harness("run", "--plugins", "simpo:beta=3", *options, "--output-dir", str(tmp_path / "run"))
    assert "every cell has its record: nothing to compute" in done.stdout


def test_two_sources_are_two_cells_where_the_name_of_the_folder_has_no_room_for_them() -> None:
    systems = [System(loss=Plain(), label="plain", source=digit * 64) for digit in "ab"]
    keys = [cell.key for cell in cells(["m" * 90], [*systems, System(loss=Plain(), label="plain")], [0])]
    assert len(set(keys)) == 3
    assert len({key[:80] for key in keys}) == 1


def test_an_edit_behind_a_partial_or_inside_an_object_is_another_loss(tmp_path: Path) -> None:
    held = "class Scale:\n    def __init__(self, by):\n        self.by = by\n\n    def __call__(self, x):\n"
    held += "        return self.by * x\n\n\nby = Scale(1.0)\n"
    uses = {"partial": ("partial(scaled, beta=1.0)", ""), "object": ("by", held)}
    for name, (value, before) in uses.items():
        text = (
            f"from functools import partial\n{LOSS.replace('scaled(pairs', 'helper(pairs')}{before}\nhelper = {value}\n"
        )
        plain = source_hash(loaded(tmp_path, text, "holding_loss").MyLoss)
        for old, new in (("beta * gap", "gap * beta"), ("by * x", "x * by"), ("Scale(1.0)", "Scale(2.0)")):
            edited = source_hash(loaded(tmp_path, text.replace(old, new), "holding_loss").MyLoss)
            assert (edited != plain) == (name == ("partial" if "beta" in old else "object")), (name, old)
