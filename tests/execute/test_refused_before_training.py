"""What a run refuses, it refuses before anything is trained: models, paths, what is not installed."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import shutil
from pathlib import Path
from typing import Any

import brought_checkpoints as made
import model_folders
import pytest

from harness.api import HarnessError
from harness.data.sources import load
from harness.execute.campaign import locked
from harness.execute.preflight import check_model, local_names
from harness.planning.run_file import make_run


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.write_start(tmp_path_factory.mktemp("models") / "start")


def with_template(start: Path, folder: Path, template: str | None) -> Path:
    """Return a copy of a checkpoint whose tokenizer has another chat template, or none."""
    shutil.copytree(start, folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    config["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def test_one_model_of_two_that_is_refused_keeps_the_run_from_training_the_other(
    start: Path, harness: Any, tmp_path: Path
) -> None:
    data = made.write_data(tmp_path / "data")
    strict = with_template(start, tmp_path / "strict", "{{ raise_exception('never this') }}")
    done = harness(
        "run", "--plugins", "simpo", "--models", f"{start},{strict}", "--dataset", str(data), "--budget", "pairs=8",
        "--batch-pairs", "8", "--scorer", "transformers", "--output-dir", str(tmp_path / "run"),
    )  # fmt: skip
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("never this") == 1
    assert "] trained" not in done.stdout
    assert not (tmp_path / "run" / "cells").exists()
    assert not (tmp_path / "run" / "leaderboard.json").exists()


def test_what_a_trial_says_of_the_data_is_said_once(start: Path, harness: Any, tmp_path: Path) -> None:
    done = harness(
        "run", "--plugins", "simpo", "--models", str(start), "--dataset", str(made.write_data(tmp_path / "data")),
        "--budget", "pairs=8", "--batch-pairs", "8", "--scorer", "transformers", "--max-length", "24", "--max-prompt",
        "12", "--output-dir", str(tmp_path / "run"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("train pairs are cut") == 1
    assert done.stdout.count("trying whether transformers takes the model") == 1


@pytest.mark.parametrize("template", [None, ""])
def test_a_model_without_a_chat_template_is_refused_in_the_plan(
    start: Path, tmp_path: Path, template: str | None
) -> None:
    bare = str(with_template(start, tmp_path / "bare", template))
    with pytest.raises(HarnessError, match=r"bare' has no chat template, expected one; give one as --chat-template"):
        local_names(make_run({"models": (bare,)}))
    assert local_names(make_run({"models": (bare,), "chat_template": "mine.jinja"})).keys() == {bare}
    assert local_names(make_run({"models": (str(start),)})).keys() == {str(start)}


def test_an_optimiser_without_torchao_is_refused_in_the_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torchao" else find(name))
    with pytest.raises(HarnessError, match=r"adamw-8bit needs torchao, which is not installed; run: pip install 'pref"):
        local_names(make_run({"optimizer": "adamw-8bit"}))
    assert local_names(make_run({})) == {}


def test_adapters_without_peft_are_refused_in_the_plan(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = str(model_folders.adapter(start, tmp_path / "adapter"))
    check_model(adapter)
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "peft" else find(name))
    with pytest.raises(HarnessError, match=r"adapter', a LoRA adapter, needs peft, which is not installed; run: pip"):
        check_model(adapter)
    with pytest.raises(HarnessError, match=r"--adapter lora needs peft, which is not installed; run: pip"):
        local_names(make_run({"adapter": "lora"}))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bitsandbytes" else find(name))
    with pytest.raises(HarnessError, match=r"qlora needs bitsandbytes, .* pip install 'preference-harness\[q"):
        local_names(make_run({"adapter": "qlora:r=8"}))


def test_layers_that_a_model_does_not_have_get_no_adapter_and_nothing_is_trained(
    start: Path, harness: Any, tmp_path: Path
) -> None:
    done = harness(
        "run", "--plugins", "simpo", "--models", str(start), "--dataset", str(made.write_data(tmp_path / "data")),
        "--adapter", "lora:targets=q_proj+c_attn", "--budget", "pairs=8", "--batch-pairs", "8", "--scorer",
        "transformers", "--output-dir", str(tmp_path / "run"),
    )  # fmt: skip
    assert done.returncode == 2, done.stdout + done.stderr
    assert "--adapter got targets=c_attn, expected linear layers of model" in done.stderr
    assert "] trained" not in done.stdout


@pytest.mark.parametrize("path", ["./no/such/folder", "/no/such/folder", "~/no-such-folder-here", "no-such.gguf"])
def test_a_path_that_leads_nowhere_is_said_to(path: str) -> None:
    with pytest.raises(HarnessError, match="; there is no such folder or file, looked for from /"):
        check_model(path)


@pytest.mark.parametrize("path", ["missing.jsonl", "./no/such/folder", "no/such/file.parquet"])
def test_data_that_are_not_there_are_said_not_to_be(path: str) -> None:
    with pytest.raises(HarnessError, match="and there is no such file or folder, expected one of"):
        load(path, made_options(), {})


def made_options() -> Any:
    from harness.api import LoadOptions

    return LoadOptions()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder in which nobody can make one")
def test_a_run_folder_that_cannot_be_made_is_refused_in_one_line() -> None:
    said = r"--output-dir got /proc/self/x/run, which cannot be made \(.+\); name"
    with pytest.raises(HarnessError, match=said), locked(Path("/proc/self/x/run")):
        pass


@pytest.mark.parametrize(
    ("number", "words"),
    [(errno.ENOLCK, "is on a file system without locks"), (errno.EWOULDBLOCK, "is being computed by another process")],
)
def test_a_file_system_without_locks_is_not_taken_for_another_run(
    number: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: Any, how: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("harness.execute.campaign.fcntl.flock", refuse)
    with pytest.raises(HarnessError, match=words), locked(tmp_path / "run"):
        pass
