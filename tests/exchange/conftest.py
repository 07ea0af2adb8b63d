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
from harness.planning.grid import cell_key, identity
from harness.planning.run_file import Run
from harness.planning.run_file import make_run as run_of
from harness.planning.trials import chosen, outcomes, trials_csv
from harness.planning.tuned_run import TrialRun, TunedRun
from harness.run_folder.manifest import write_manifest
from harness.run_folder.store import read_records, write_record
from harness.statistics.summary import summarise

PAIRS, PROMPTS = 24, 8
SHIFT: Mapping[str, int] = {"base": 1, "simpo": 2, "dpo(beta=0.2)": 3, "ipo": 4, "longer-wins": 0}
"""How the log-probs of a system's responses are mixed, by label."""
BASELINES = ("base", "longer-wins")
OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "simpo": {"beta": 2.0, "gamma": 0.5},
    "dpo": {"beta": 0.2, "label_smoothing": 0.0},
    "ipo": {"tau": 0.1, "reduction": "mean"},
}
"""All options of a loss, by its name; DPO's beta is given in its label."""
TAGS: Mapping[str, tuple[str, ...]] = {
    "simpo": ("pairwise", "averaged"),
    "dpo": ("pairwise", "summed"),
    "ipo": ("pairwise", "averaged"),
}
TUNED: Mapping[str, Mapping[str, float]] = {"simpo": {"beta": 3.0}, "ipo": {"tau": 0.3}}
"""What every trial of a loss sampled besides the learning rate."""
RUN: Mapping[str, Any] = {"models": ["qwen"], "dataset": "made-up", "budget": "pairs=64", "scorer": "vllm"}
"""What every run asks for."""
BOARD = run_of(dict(RUN)).decisive().as_json()
TOKENS, PARAMETERS = 5_000, 1_000
"""What training visited, and the size of the model: six operations each, and two for a reference."""


def sums(shift: int) -> np.ndarray:
    """Return a log-prob for each of the 2 * PAIRS responses: multiples of 1/4, different for each shift."""
    return -5.0 - ((np.arange(2 * PAIRS) * (2 * shift + 1)) % 17) / 4


def reward_of(name: str, options: Mapping[str, Any], own: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Return the reward of each response as the papers of the three losses have it."""
    ratio = own - sums(SHIFT["base"])
    rewards = {"simpo": own / tokens, "dpo": ratio, "ipo": ratio / tokens}
    return np.asarray(rewards[name] * options.get("beta", options.get("tau")))


def tables(label: str, **options: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return rows and responses: pair i has the responses 2i (chosen) and 2i + 1, of prompt i % PROMPTS."""
    number, base, name = np.arange(2 * PAIRS), sums(SHIFT["base"]), label.partition("(")[0]
    nothing, characters = np.full(2 * PAIRS, np.nan), 40 + number % 11
    own, tokens = sums(SHIFT[label]) if SHIFT[label] else nothing, 5 + number % 3
    reward = {"base": nothing, "longer-wins": characters.astype(float)}.get(label)
    if reward is None:
        reward = reward_of(name, {**OPTIONS[name], **options}, own, tokens)
    responses = pd.DataFrame(
        {
            "prompt_id": [f"prompt{i // 2 % PROMPTS}" for i in number],
            "response_id": [f"response{i:02d}" for i in number],
            "split": "test",
            "sum_logp": own,
            "tokens": tokens,
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


def key_of(label: str, seed: int = 0, rate: float | None = None, **sampled: float) -> str:
    """Return the folder of a cell; `rate` and `sampled`: the learning rate and the options of a tuned one."""
    if label in BASELINES:
        return cell_key("qwen", label, label, None)
    name = label.partition("(")[0].partition(" ")[0]
    return cell_key("qwen", label, identity(name, {**OPTIONS[name], **sampled}, rate), seed)


def add_cell(
    run: Path,
    label: str,
    found: tuple[pd.DataFrame, pd.DataFrame] | None,
    /,
    seed: int = 0,
    **changed: Any,
) -> None:
    """Write a cell with these tables; without any it failed. `changed` overrides fields of the record."""
    reference, name = label in BASELINES, label.partition("(")[0]
    start = {"id": "nano-qwen", "revision": "0123456789abcdef", "parameters": PARAMETERS, "fingerprint": "start"}
    each = PARAMETERS * (6 if name == "simpo" else 8)
    spend = {"pairs": 64, "tokens": TOKENS, "steps": 4, "flops": each * TOKENS, "seconds": 2.0, "epochs": 1.0}
    fields = {
        "protocol": 1,
        "status": "ok" if found else "failed",
        "reason": "" if found else "out of memory",
        "kind": "reference" if reference else "loss",
        "label": label,
        "key": key_of(label, seed),
        "loss": {"name": name, "options": OPTIONS.get(name, {}), "tags": TAGS.get(name, ())},
        "model": {"name": "qwen", "preset": "nano"} | (start if found else {}),
        "dataset": {"name": "made-up", "fingerprint": "data", "train_pairs": 64, "test_pairs": PAIRS},
        "tokens_fingerprint": "tokens",
        "seed": None if reference else seed,
        "board": BOARD,
        "spend": {} if reference or not found else spend,
        "scorer": {"name": "vllm", "version": "0.29", "parity_max_abs_nats": 1e-5},
        "environment": {"harness": "0.1.0"},
        "metrics": {},
    }
    if not reference:
        fields |= {"learning_rate": BOARD["learning_rate"]} | ({"start_fingerprint": "start"} if found else {})
    if found:
        metrics, reasons = summarise(*found, made_record(fields | changed).averaged)
        fields |= {"metrics": metrics, "metric_reasons": reasons}
    folder = run / "cells" / changed.get("key", key_of(label, seed))
    write_record(folder, made_record(fields | changed), *(found or (None, None)))


def spec(label: str) -> str:
    """Return what --plugins calls the system of this label."""
    name, _, options = label.partition("(")
    return f"{name}:{options.removesuffix(')')}" if options else name


def asked(labels: tuple[str, ...], kind: type[Run] = Run, **options: Any) -> Run:
    """Return the run that asks for these systems."""
    losses = [label for label in labels if label not in BASELINES]
    run = run_of({**RUN, "plugins": ",".join(map(spec, losses)) or "simpo", **options})
    return run if kind is Run else kind.of(run)  # type: ignore[attr-defined]  # both others have it


def complete(run: Path, labels: tuple[str, ...], /, board: bool = True, of: Run | None = None, **facts: Any) -> None:
    """Write the manifest, the run file and, if asked, the leaderboards; `of`: another run than `asked(labels)`."""
    losses = [label for label in labels if label not in BASELINES]
    of = of or asked(labels)
    made = {
        "protocol": 1,
        "harness": "0.1.0",
        "run": of.as_json(),
        "decisive": of.decisive().as_json(),
        "scorer": "vllm",
        "models": ["qwen"],
        "cells": [[label, "qwen", seed] for label in losses for seed in of.seeds],
        "dataset": {"name": "made-up", "fingerprint": "data"},
        "start_checkpoints": {"qwen": {"fingerprint": "start", "tokens_fingerprint": "tokens"}},
        "plugins": {label.partition("(")[0]: ["test", "1"] for label in losses},
        "cpus": 2,
    }
    write_manifest(run, made_manifest(made | facts))
    (run / "run.toml").write_text(of.as_toml())
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
    runs = {kind: asked(labels, kind, trials=trials) for kind in (Run, TrialRun, TunedRun)}
    tuning, tuned = run / "tuning", run / f"tuned-{trials}"
    for folder, kind, split in ((tuning, TrialRun, "dev"), (tuned, TunedRun, "test")):
        for label in BASELINES:
            add_cell(folder, label, on_split(tables(label), split), board=runs[kind].decisive().as_json())
    for label in labels:
        sampled = TUNED[label]
        for number in range(trials):
            rate = 0.001 * (number + 1)
            trial = {"system": label, "options": sampled, "number": number, "trials": None, "dev": None}
            loss = {"name": label, "options": {**OPTIONS[label], **sampled}}
            fields = {"learning_rate": rate, "loss": loss, "board": runs[TrialRun].decisive().as_json()}
            fields |= {"label": f"{label} trial {number}", "tuning": trial}
            fields |= {"key": key_of(f"{label} trial {number}", rate=rate, **sampled)}
            add_cell(tuning, label, on_split(tables(label, **sampled), "dev"), **fields)
        fields |= {"label": label, "key": key_of(label, rate=rate, **sampled)}
        fields |= {"tuning": trial | {"trials": trials, "dev": 0.75}, "board": runs[TunedRun].decisive().as_json()}
        add_cell(tuned, label, tables(label, **sampled), **fields)
    search = {"trials": trials, "sampler": "Sobol", "space": {label: {"beta": [0.1, 1.0, "log"]} for label in labels}}
    complete(run, labels, board=False, search=search, of=runs[Run])
    complete(tuned, labels, board=False, search=search, of=runs[TunedRun])
    cells = [[f"{label} trial {number}", "qwen", 0] for label in labels for number in range(trials)]
    complete(tuning, labels, board=False, search=search, of=runs[TrialRun], cells=cells)
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
    return make_run(tmp_path_factory.mktemp("whole") / "run", *BASELINES, "dpo(beta=0.2)", "simpo")


@pytest.fixture(scope="session")
def other_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the same settings and another loss, made on another machine."""
    run = tmp_path_factory.mktemp("other") / "run"
    for label in (*BASELINES, "ipo"):
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
