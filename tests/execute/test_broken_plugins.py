"""Losses that are broken, each in its way: each costs its own cell, or its own plugin, and is named with the reason.

What raises, leaves or detaches in `terms` of a plain loss is in test_run.py, what hangs in test_workers.py; what fails
at import is in test_manager.py.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from importlib.metadata import Distribution, EntryPoint
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.manager import losses, plugin_manager

BAD = """
import os, signal
from dataclasses import dataclass
from typing import ClassVar
from harness.api import Loss, Terms, hookimpl

def make(kind):
    @dataclass(frozen=True, kw_only=True)
    class Bad(Loss):
        name: ClassVar[str] = "bad-" + kind
        needs_reference = int(kind == "writes-reward")  # truthy and no bool: a record can be written all the same
        batch_coupled = kind in ("step", "detached", "writes-leaf")
        stateful = kind == "step"

        def prepare(self, pairs):
            if kind == "prepare":
                raise RuntimeError("no columns on purpose")
            return {}

        def terms(self, pairs):
            if kind == "segv":
                os.kill(os.getpid(), signal.SIGSEGV)
            if kind in ("writes", "writes-leaf"):
                pairs.chosen.token.mul_(3.0)
            if kind == "none":
                return None
            value = pairs.rejected.mean() - pairs.chosen.mean()
            if kind == "shape":
                value = value[:, None]
            return Terms.of(value.detach() if kind == "detached" else value)

        def step(self, pairs, state, rng):
            if kind == "step":
                raise RuntimeError("no step on purpose")
            return self(pairs), state

        def reward(self, response):
            if kind == "reward-shape":
                return response.sum[:, None]
            if kind == "reward-nan":
                return response.sum.where(response.sum > response.sum.median(), float("nan"))
            if kind == "writes-reward":
                return response.sum.sub_(response.ref_sum.zero_())
            return response.sum

    Bad.__qualname__ = Bad.__name__ = "Bad_" + kind.replace("-", "_")
    globals()[Bad.__name__] = Bad
    return Bad

KINDS = KINDS_HERE
LOSSES = [make(kind) for kind in KINDS]

@hookimpl
def harness_losses():
    return LOSSES
"""
REASONS = {
    "prepare": "RuntimeError: no columns on purpose",
    "segv": "was ended by SIGSEGV",
    "none": "TypeError",
    "shape": "gave shape (8, 1), expected one value per pair (8,)",
    "step": "RuntimeError: no step on purpose",
    "detached": "values without a gradient",
    "writes": "changed a tensor of the batch in place",
    "writes-leaf": "a leaf Variable that requires grad",
    "reward-shape": "reward gave shape",
    "reward-nan": "reward is not finite for",
}
"""By kind: what the record and the board say of it."""


@pytest.fixture(scope="module")
def ran(harness: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One run of every broken loss, the one that gets through first, and a sound one behind them; its records."""
    site = tmp_path_factory.mktemp("site")
    kinds = ("writes-reward", *REASONS)
    (site / "bad_losses.py").write_text(BAD.replace("KINDS_HERE", repr(kinds)))
    info = site / "bad_losses-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: bad-losses\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[harness]\nbad = bad_losses\n")
    folder = tmp_path_factory.mktemp("runs") / "broken"
    names = ",".join([*(f"bad-{kind}" for kind in kinds), "dpo"])
    settings = ("--models", "qwen", "--limit", "16", "--budget", "pairs=16", "--scorer", "transformers", "--quiet")
    done = harness("run", "--plugins", names, *settings, "--output-dir", str(folder), PYTHONPATH=str(site))
    assert done.returncode == 6, done.stdout + done.stderr
    found = [json.loads(path.read_text()) for path in folder.glob("cells/*/record.json")]
    records = {record["label"]: record for record in found}
    tables = {
        label: pd.read_parquet(folder / "cells" / record["key"] / "rows.parquet")
        for label, record in records.items()
        if record["status"] == "ok"
    }
    return {"records": records, "rows": tables, "board": (folder / "leaderboard.md").read_text()}


@pytest.mark.parametrize("kind", REASONS)
def test_a_broken_loss_is_a_failed_cell_with_its_reason(kind: str, ran: dict[str, Any]) -> None:
    record = ran["records"][f"bad-{kind}"]
    assert (record["status"], record["loss"]["plugin"]) == ("failed", "bad-losses")
    assert REASONS[kind] in record["reason"]
    assert f"bad-{kind}" in ran["board"]


def test_the_sound_loss_beside_them_is_trained_and_scored(ran: dict[str, Any]) -> None:
    assert {label for label, record in ran["records"].items() if record["status"] == "ok"} == {
        "dpo", "bad-writes-reward", "base", "longer-wins",
    }  # fmt: skip
    assert ran["records"]["dpo"]["spend"]["pairs"] == 16
    assert 0 <= ran["records"]["dpo"]["metrics"]["pairwise_accuracy"] <= 1


@pytest.mark.parametrize("label", ["dpo", "bad-writes-reward"])
def test_a_reward_that_writes_into_its_input_leaves_the_base_s_log_probs_alone(label: str, ran: dict[str, Any]) -> None:
    base, rows = ran["rows"]["base"], ran["rows"][label]
    for side in ("chosen", "rejected"):
        assert (base[f"{side}_sum_logp"] < -1).all()
        pd.testing.assert_series_equal(
            rows[f"ref_{side}_sum_logp"], base[f"{side}_sum_logp"], check_names=False, check_exact=True
        )
        assert (rows[f"{side}_sum_logp"] < -1).all()


def test_a_reward_that_writes_into_its_input_is_still_what_it_returned(ran: dict[str, Any]) -> None:
    rows = ran["rows"]["bad-writes-reward"]  # S - (R set to 0)
    pd.testing.assert_series_equal(rows["reward_chosen"], rows["chosen_sum_logp"], check_names=False)


def test_a_loss_that_trains_and_breaks_rules_is_marked_where_it_stands(ran: dict[str, Any]) -> None:
    failed = ran["records"]["bad-writes-reward"]["loss"]["fails"]
    assert {"traits are well formed", "inputs are left alone"} <= {*failed}
    assert "is documented" not in failed  # it says nothing of the loss's numbers
    assert f"bad-writes-reward fails: {', '.join(failed)}; " in ran["board"]
    assert "fails" not in ran["records"]["dpo"]["loss"]


SOUND = """
import math
from dataclasses import dataclass, field
from typing import ClassVar
from harness.api import HarnessError, Loss, Terms, hookimpl, wraps

@dataclass(frozen=True, kw_only=True)
class Mine(Loss):
    name: ClassVar[str] = "NAME"
    beta: float = 1.0
    BODY
    def terms(self, pairs): return Terms.of(-pairs.chosen.mean())
    def reward(self, response): return response.sum

@hookimpl
def harness_losses(): return [Mine]
"""
BODIES = {
    "constructor": ("def __post_init__(self): raise ZeroDivisionError('on purpose')", "ZeroDivisionError: on purpose"),
    "default": ("shape: list = field(default_factory=lambda: 1 / 0)", "ZeroDivisionError"),
    "hints": ("odd: 'NoSuchType' = 1", "NameError: name 'NoSuchType'"),
    "trait": ("needs_reference = property(lambda self: self.no_such_field)", "AttributeError"),
    "endless": ("base: Loss = wraps('endless')", "RecursionError"),
    "unsendable": ("rule: object = field(default_factory=lambda: (lambda x: x))", "pickle"),
}
"""By loss: what is wrong with it, and what is said. A worker process gets its losses pickled."""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], EntryPoint]:
    """Write a module and its distribution `<name>-dist` 1.2; return the entry point."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(name: str, body: str) -> EntryPoint:
        monkeypatch.delitem(sys.modules, f"broken_{name}", raising=False)
        (tmp_path / f"broken_{name}.py").write_text(SOUND.replace("NAME", name).replace("BODY", body))
        info = tmp_path / f"{name}_dist-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}-dist\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[harness]\n{name} = broken_{name}\n")
        (entry,) = Distribution.at(info).entry_points
        return entry

    return write


@pytest.mark.parametrize("name", BODIES)
def test_a_loss_that_fails_with_its_defaults_is_a_broken_plugin(
    name: str, install: Callable[[str, str], EntryPoint]
) -> None:
    body, reason = BODIES[name]
    manager = plugin_manager([install(name, body), install("works", "")])
    assert set(losses(manager)) == {"works"}
    assert manager.broken[name].startswith(f"plugin '{name}' of {name}-dist 1.2 failed: loss '{name}'")
    assert reason in manager.broken[name]


def test_a_loss_with_an_option_without_a_default_is_not_broken(install: Callable[[str, str], EntryPoint]) -> None:
    manager = plugin_manager([install("asks", "target: float")])
    assert list(losses(manager)) == ["asks"]
    assert manager.broken == {}
