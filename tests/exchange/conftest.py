"""Run folders of made-up cells, whole: records, tables, manifest and leaderboards, written as the harness does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from made_records import made_manifest, made_record

from harness.leaderboard import write
from harness.planning.trials import chosen, outcomes, trials_csv
from harness.run_folder.manifest import write_manifest
from harness.run_folder.store import read_records, write_record
from harness.statistics.metrics import summarise

PAIRS, PROMPTS = 24, 8
SHIFT: Mapping[str, int] = {"base": 1, "simpo": 2, "dpo(beta=0.2)": 3, "ipo": 4, "longer-wins": 0}
"""How the log-probs of a system's responses are mixed, by label."""
BOARD = {"protocol": 1, "dataset": "made-up", "preset": "nano", "budget": "pairs=64", "adapter": "full"} | {
    "learning_rate": 1e-3,
    "batch_pairs": 16,
    "dtype": "float32",
    "scorer": "vllm",
    "evaluated_on": "test",
    "control": "none",
    "limit": None,
}


def sums(shift: int) -> np.ndarray:
    """Return a log-prob for each of the 2 * PAIRS responses: multiples of 1/4, different for each shift."""
    return -5.0 - ((np.arange(2 * PAIRS) * (2 * shift + 1)) % 17) / 4


def tables(label: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return rows and responses: pair i has the responses 2i (chosen) and 2i + 1, of prompt i % PROMPTS."""
    number, base = np.arange(2 * PAIRS), sums(SHIFT["base"])
    nothing, characters = np.full(2 * PAIRS, np.nan), 40 + number % 11
    own = sums(SHIFT[label]) if SHIFT[label] else nothing
    reward = {"base": nothing, "longer-wins": characters.astype(float)}.get(label, 2.0 * own)
    responses = pd.DataFrame(
        {
            "prompt_id": [f"prompt{i // 2 % PROMPTS}" for i in number],
            "response_id": [f"response{i:02d}" for i in number],
            "split": "test",
            "sum_logp": own,
            "tokens": 5 + number % 3,
            "ref_sum_logp": base if SHIFT[label] else nothing,
            "reward": reward,
            "score": (1 - number % 2) + number / 100,
            "true_quality": np.nan,
            "characters": characters,
            "listwise": True,
        }
    )
    rows = pd.DataFrame({"pair_id": [f"pair{i:02d}" for i in range(PAIRS)], "split": "test"})
    for side, index in (("chosen", np.arange(0, 2 * PAIRS, 2)), ("rejected", np.arange(1, 2 * PAIRS, 2))):
        taken = responses.iloc[index].reset_index(drop=True)
        rows["prompt_id"] = taken["prompt_id"]
        rows[f"score_{side}"], rows[f"true_{side}"] = taken["score"], np.nan
        for name in ("sum_logp", "tokens", "characters", "response_id"):
            rows[f"{side}_{name}"] = taken[name]
        rows[f"ref_{side}_sum_logp"], rows[f"reward_{side}"] = taken["ref_sum_logp"], taken["reward"]
    return rows.assign(gap=rows["score_chosen"] - rows["score_rejected"]), responses


def key_of(label: str, seed: int = 0) -> str:
    """Return the folder of a cell."""
    name = f"qwen--{label.replace('(', '_').replace(')', '').replace(' ', '_')}--abc123"
    return name if label in ("base", "longer-wins") else f"{name}--seed{seed}"


def add_cell(
    run: Path,
    label: str,
    found: tuple[pd.DataFrame, pd.DataFrame] | None,
    /,
    seed: int = 0,
    **changed: Any,
) -> None:
    """Write a cell with these tables; without any it failed. `changed` overrides fields of the record."""
    reference = label in ("base", "longer-wins")
    fields = {
        "protocol": 1,
        "status": "ok" if found else "failed",
        "reason": "" if found else "out of memory",
        "kind": "reference" if reference else "loss",
        "label": label,
        "key": key_of(label, seed),
        "loss": {"name": label.partition("(")[0], "options": {"beta": 0.2}},
        "model": {"name": "qwen", "preset": "nano", "id": "nano-qwen", "fingerprint": "start"},
        "dataset": {"name": "made-up", "fingerprint": "data", "train_pairs": 64, "test_pairs": PAIRS},
        "tokens_fingerprint": "tokens",
        "seed": None if reference else seed,
        "board": BOARD,
        "spend": {} if reference else {"pairs": 64, "seconds": 2.0},
        "scorer": {"name": "vllm", "version": "0.29", "parity_max_abs_nats": 1e-5},
        "environment": {"harness": "0.1.0"},
        "metrics": {},
    }
    if found:
        metrics, reasons = summarise(*found)
        fields |= {"metrics": metrics, "metric_reasons": reasons}
    folder = run / "cells" / changed.get("key", key_of(label, seed))
    write_record(folder, made_record(fields | changed), *(found or (None, None)))


def complete(run: Path, labels: tuple[str, ...], /, board: bool = True, **facts: Any) -> None:
    """Write the manifest and, if asked, the leaderboards."""
    losses = [label for label in labels if label not in ("base", "longer-wins")]
    asked = {"cells": [[label, "qwen", 0] for label in losses], "models": ["qwen"]}
    made = {
        "protocol": 1,
        "harness": "0.1.0",
        "run": {
            "plugins": "simpo",
            "models": ["qwen"],
            "seeds": [0],
            "preset": "nano",
            "ranked_by": "pairwise_accuracy",
        },
        "dataset": {"name": "made-up", "fingerprint": "data"},
        "plugins": {label.partition("(")[0]: ["test", "1"] for label in losses},
        "cpus": 2,
    }
    write_manifest(run, made_manifest(made | asked | facts))
    if board:
        write(run)


def make_run(run: Path, *labels: str, board: bool = True, changed: Mapping[str, Any] | None = None) -> Path:
    """Write a whole run of these systems; `changed` overrides fields of every record."""
    for label in labels:
        add_cell(run, label, tables(label), **(changed or {}))
    complete(run, labels, board)
    return run


def add_tuned(run: Path, *labels: str, trials: int = 2) -> Path:
    """Write what `harness run --trials 2` adds to a run of these losses: all trials, and the last of each as chosen."""
    untuned = {name: value for name, value in BOARD.items() if name != "learning_rate"}
    searched = untuned | {"trial_learning_rates": [0.00025, 0.004], "tuning_seed": 0}
    tuned = {"board": searched | {"trials": trials, "tuned_by": "pairwise_accuracy"}}
    for folder, changed in ((run / "tuning", {"board": searched | {"evaluated_on": "dev"}}),
                            (run / f"tuned-{trials}", tuned)):  # fmt: skip
        add_cell(folder, "base", on_split(tables("base"), changed["board"]["evaluated_on"]), **changed)
    for label in labels:
        facts = {"system": label, "options": {"beta": 0.3}}
        for number in range(trials):
            trial = facts | {"number": number, "trials": None, "dev": None}
            fields = {"label": f"{label} trial {number}", "key": key_of(f"{label} trial {number}"), "tuning": trial}
            fields |= {"learning_rate": 0.001 * (number + 1), "loss": {"name": label, "options": {"beta": 0.3}}}
            fields |= {"board": searched | {"evaluated_on": "dev"}}
            add_cell(run / "tuning", label, on_split(tables(label), "dev"), **fields)
        fields |= {"label": label, "key": key_of(label), "tuning": trial | {"trials": trials, "dev": 0.75}}
        add_cell(run / f"tuned-{trials}", label, tables(label), **fields | tuned)
    search = {"trials": trials, "sampler": "Sobol", "space": {label: {"beta": [0.1, 1.0, "log"]} for label in labels}}
    asked = json.loads((run / "manifest.json").read_text())["run"] | {"trials": trials}
    complete(run, labels, board=False, search=search, run=asked)
    complete(run / f"tuned-{trials}", labels, board=False, search=search, run=asked)
    cells = [[f"{label} trial {number}", "qwen", 0] for label in labels for number in range(trials)]
    complete(run / "tuning", labels, board=False, search=search, run=asked | {"trials": 0}, cells=cells)
    write_trials(run)
    return run


def write_trials(run: Path) -> str:
    """Write trials.csv as the harness does, and return it."""
    found = outcomes(read_records(run / "tuning"), "pairwise_accuracy")
    text = trials_csv(found, chosen(found, 2), "pairwise_accuracy")
    (run / "tuning" / "trials.csv").write_text(text)
    return text


def on_split(found: tuple[pd.DataFrame, pd.DataFrame], split: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables, as if their pairs were of this split."""
    rows, responses = found
    return rows.assign(split=split), responses.assign(split=split)


@pytest.fixture(name="add_tuned")
def add_tuned_fixture() -> Callable[..., Path]:
    """`add_tuned(run, *labels, trials=)`."""
    return add_tuned


@pytest.fixture(name="make_run")
def make_run_fixture() -> Callable[..., Path]:
    """`make_run(folder, *labels, board=, changed=)`."""
    return make_run


@pytest.fixture(name="add_cell")
def add_cell_fixture() -> Callable[..., None]:
    """`add_cell(run, label, tables or None, seed, **changed)`."""
    return add_cell


@pytest.fixture(name="tables")
def tables_fixture() -> Callable[[str], tuple[pd.DataFrame, pd.DataFrame]]:
    """`tables(label)`: rows and responses of a system."""
    return tables


@pytest.fixture(name="complete")
def complete_fixture() -> Callable[..., None]:
    """`complete(run, labels, board, **facts of the manifest)`."""
    return complete


@pytest.fixture(scope="session")
def whole_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is in order. Read it, copy it, do not write to it."""
    return make_run(tmp_path_factory.mktemp("whole") / "run", "base", "dpo(beta=0.2)", "simpo")


@pytest.fixture(scope="session")
def other_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the same settings and another loss, made on another machine."""
    run = tmp_path_factory.mktemp("other") / "run"
    for label in ("base", "ipo"):
        add_cell(run, label, tables(label), environment={"device": "another"})
    complete(run, ("ipo",), cpus=64)
    return run


@pytest.fixture
def run(whole_run: Path, tmp_path: Path) -> Path:
    """A copy of `whole_run` to spoil."""
    shutil.copytree(whole_run, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def edit() -> Callable[..., None]:
    """`edit(cell folder, **fields)` overwrites top-level fields of its record; a field given as None is taken out."""

    def change(folder: Path, **fields: Any) -> None:
        path = folder / "record.json"
        record = json.loads(path.read_text()) | fields
        path.write_text(json.dumps({name: value for name, value in record.items() if value is not None}))

    return change


BLOCKED = """
import sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "vllm", "ray", "datasets"):
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Blocked())
"""


@pytest.fixture
def without_torch() -> str:
    """The head of a program in which torch, transformers, vllm, ray and datasets cannot be imported."""
    return BLOCKED
