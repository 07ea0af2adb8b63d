# ruff: noqa: E501  # a target a line
"""Input of any content is read, or refused by a `HarnessError` in words: never another exception.

50 cases a target in the suite; `tox -e fuzz` makes HARNESS_FUZZ of them.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from fuzz_inputs import DATA_ROWS, JSON, TEXT, changed, option_text, toml_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made_records import PLAIN
from pydantic import ValidationError

from harness.api import HarnessError, LoadOptions
from harness.data.sources import brought_by, load_any
from harness.exchange.merged_manifest import trials
from harness.exchange.untrusted import find_cells
from harness.execute.resolve import runs_of
from harness.judge.reply_body import reply_of
from harness.judge.wording import MANNERS
from harness.leaderboard.serve import find_runs, index
from harness.manager import datasets, losses, plugin_manager, resolver
from harness.planning.grid import select
from harness.run_folder.manifest import read_manifest
from harness.run_folder.noise_floor import read_noise
from harness.run_folder.store import as_text, read_record
from harness.run_folder.trained import read_trained
from harness.study.study_file import read_study

CASES = int(os.environ.get("HARNESS_FUZZ", "50"))
MANAGER = plugin_manager()
LOSSES, SOURCES, RESOLVE = sorted(losses(MANAGER)), datasets(MANAGER), resolver(MANAGER)
Target = Callable[[Any, Path], object]
fuzzed = settings(
    max_examples=CASES, deadline=None, database=None, derandomize=CASES <= 50,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
)  # fmt: skip


def in_file(name: str, read: Callable[[Path], object]) -> Target:
    """Return what writes its input into a file and reads it from there."""

    def target(content: str | bytes, folder: Path) -> object:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode(errors="surrogatepass"))
        return read(path)

    return target


def load(path: Path) -> object:
    for lenient in (False, True):
        try:
            data = load_any(str(path), LoadOptions(lenient=lenient, needs_test=False), SOURCES)
        except HarnessError:
            if lenient:
                raise
    for pair in data.train:
        assert pair.chosen
        assert pair.rejected
    return data


def run_option(name: str) -> Target:
    return lambda text, _: [run.decisive() for run in runs_of(None, {name: text})]


def board(path: Path) -> object:
    (path.parent / "cells").mkdir(exist_ok=True)
    (path.parent / "leaderboard.html").touch()
    return index(find_runs(path.parent))


def judged(body: str, _: Path) -> None:
    try:
        reply = reply_of(body)
    except ValidationError:  # what the endpoint says of it: not the JSON of an answer
        return
    for manner in MANNERS:
        manner.read(reply)


def dataset(text: str, _: Path) -> None:
    for run in runs_of(None, {"dataset": text}):
        if brought_by(run.dataset, SOURCES):
            SOURCES[brought_by(run.dataset, SOURCES)]


RECORD = changed(json.loads(as_text({**PLAIN, "points": [], "generation": None})))
MANIFEST = changed({"protocol": 1, "run": {}, "decisive": {}, "models": ["a"], "cells": [["a", "b", 0]],
                    "dataset": {"name": "d", "fingerprint": "f"}, "start_checkpoints": {"a": {"fingerprint": "f"}}})  # fmt: skip
NOISE = changed({"schema": 1, "protocol": 1, "metric": "m", "dataset_fingerprint": "f", "settings": {}, "runs": 2,
                 "seeds": 1, "smallest_margin": 0.1, "overall": {"sd": 0.1, "freedom": 3, "largest_difference": 0.2},
                 "cells": [{"model": "a", "label": "b", "sd": 0.1, "freedom": 3, "largest_difference": 0.2}]})  # fmt: skip
ANSWER = changed({"choices": [{"message": {"content": "VERDICT: 1 is better\nRATING: 7"}, "finish_reason": "stop",
                  "logprobs": {"content": [{"top_logprobs": [{"token": "1", "logprob": -0.1}]}]}}]})  # fmt: skip
STUDY = {"question": "q", "hypothesis": "h", "setting": "s", "run": {"plugins": "simpo,dpo"},
         "contrasts": [{"plus": ["simpo"], "minus": ["dpo"]}], "effects": [{"factors": ["loss"]}],
         "groups": [{"first": "a", "first_losses": ["simpo"], "second": "b", "second_losses": ["dpo"]}]}  # fmt: skip
RUN = {"plugins": "simpo,dpo", "models": ["qwen"], "seeds": [0, 1], "budget": "pairs=64", "noise": "flip=0.1",
       "select": "random:share=0.4", "learning-rate": [1e-3, 1e-4], "dataset": ["embedded"], "evaluate-at": [0.5, 1.0],
       "limit": 10, "columns": "prompt=a", "trials": 2}  # fmt: skip
SAVED = {"status": "ok", "reason": "", "start_fingerprint": "f", "spend": {"pairs": 1}, "points": [], "loss": {}}

TARGETS: Mapping[str, tuple[st.SearchStrategy[Any], Target]] = {
    "rows of jsonl": (DATA_ROWS.map(lambda rows: "\n".join(map(json.dumps, rows))), in_file("pairs.jsonl", load)),
    "rows of json": (DATA_ROWS.map(json.dumps) | JSON.map(json.dumps), in_file("pairs.json", load)),
    "bytes of jsonl": (st.binary() | TEXT, in_file("pairs.jsonl", load)),
    "bytes of csv": (st.binary() | TEXT | option_text("prompt", "chosen", "rejected", ",", '"', "\n"), in_file("pairs.csv", load)),
    "bytes of packed files": (st.binary(), in_file("pairs.jsonl.gz", load)),
    "bytes of parquet": (st.binary().map(lambda data: b"PAR1" + data + b"PAR1"), in_file("pairs.parquet", load)),
    "run files": (toml_of(RUN), in_file("run.toml", lambda path: runs_of(path, {}))),
    "--plugins": (option_text(*LOSSES, "all", "core", "beta", "base", "base.beta"), lambda text, _: select(text, LOSSES, RESOLVE)),
    "--noise": (option_text("flip", "near-ties", "longer-wins", "gaussian", "none"), run_option("noise")),
    "--select": (option_text("random", "dcrm", "share", "none"), run_option("select")),
    "--budget": (option_text("pairs", "tokens", "steps", "flops", "seconds"), run_option("budget")),
    "--dataset": (option_text("embedded", "annotator_noise", "prompt_bias", "org/name"), dataset),
    "study files": (toml_of(STUDY), in_file("study.toml", read_study)),
    "record.json": (RECORD, in_file("record.json", lambda path: read_record(path.parent))),
    "cells of others": (RECORD, in_file("cells/a/record.json", lambda path: find_cells(path.parents[2]))),
    "trained.json": (changed(SAVED), in_file("trained.json", lambda path: read_trained(path.parent))),
    "manifest.json": (MANIFEST, in_file("manifest.json", lambda path: read_manifest(path.parent))),
    "gate.json": (NOISE, in_file("gate.json", lambda path: read_noise(path.parent))),
    "leaderboard.json": (changed({"boards": [{"title": "a"}]}), in_file("leaderboard.json", board)),
    "trials.csv": (option_text("model", "loss", "trial", ",", "\n", "option.a", "1"), lambda text, _: trials([text])),
    "answers of judges": (ANSWER, judged),
}  # fmt: skip


@pytest.mark.parametrize("name", TARGETS)
def test_any_input_is_read_or_refused_in_words(name: str, tmp_path: Path) -> None:
    cases, target = TARGETS[name]

    @fuzzed
    @given(cases)
    def try_one(case: Any) -> None:
        with suppress(HarnessError):
            target(case, tmp_path)

    try_one()
