"""What a run makes of chat templates: those that are brought, the day that they print, tokens that have changed."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import real_layouts
from real_templates import CHATML
from transformers import AutoTokenizer

from harness.execute.resolve import resolve
from harness.planning.run_file import make_run
from harness.planning.tuned_run import TrialRun

SMALL = ("--plugins", "simpo", "--limit", "16", "--budget", "pairs=16", "--scorer", "transformers")
BROKEN = {
    "missing": (None, "cannot be read"),
    "syntax": ("{% for message in messages %}{{ message.content }", "is broken (TemplateSyntaxError"),
    "refusing": ("{{ raise_exception('not for you') }}", "not for you"),
    "no template": ("You are a helpful assistant.", "does not render a user's turn"),
    "drops answers": ("{{ messages[0]['content'] }}", "does not render an assistant's turn"),
}


def of_losses(folder: Path) -> list[dict[str, Any]]:
    records = [json.loads(path.read_text()) for path in sorted(folder.glob("cells/*/record.json"))]
    assert records
    return records


@pytest.mark.parametrize("kind", list(BROKEN))
def test_a_file_that_is_no_template_is_one_line_before_anything_runs(kind: str, harness: Any, tmp_path: Path) -> None:
    text, words = BROKEN[kind]
    if text is not None:
        (tmp_path / "chat.jinja").write_text(text)
    done = harness("run", *SMALL, "--chat-template", "chat.jinja" if text is None else str(tmp_path / "chat.jinja"))
    assert done.returncode == 2
    (said,) = done.stderr.splitlines()
    assert said.startswith("Error: --chat-template got ")
    assert words in said


def test_a_template_is_known_by_its_content_wherever_it_lies(tmp_path: Path) -> None:
    one, copy, other = (tmp_path / name for name in ("one.jinja", "copy.jinja", "other.jinja"))
    one.write_text(CHATML)
    copy.write_text(CHATML)
    other.write_text(CHATML + "{# another #}")
    values = {"plugins": "simpo", "limit": 16, "budget": "pairs=16"}
    folders = [
        resolve(make_run(values | given), None, False).folder
        for given in ({}, *({"chat_template": str(path)} for path in (one, copy, other)))
    ]
    assert folders[1] == folders[2]
    assert len(set(folders)) == 3
    assert "chat_template" not in make_run(values).decisive().as_json()
    resolved = resolve(make_run(values | {"chat_template": str(one)}), None, False)
    assert resolved.chat_template == CHATML
    assert TrialRun.of(resolved.run).decisive().chat_template == resolved.run.decisive().chat_template


def test_a_base_model_without_a_template_runs_with_the_one_that_is_given(harness: Any, tmp_path: Path) -> None:
    model, file = real_layouts.make("phi-3", tmp_path / "phi"), tmp_path / "chat.jinja"
    (model / "chat_template.jinja").unlink()
    file.write_text(
        "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + eos_token }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    command = ("run", *SMALL, "--models", str(model), "--output-dir", str(tmp_path / "run"))
    without = harness(*command)
    assert without.returncode != 0
    assert "has no chat template" in without.stderr
    assert "--chat-template FILE" in without.stderr
    assert not (tmp_path / "run").exists()
    done = harness(*command, "--chat-template", str(file), "--keep-checkpoints")
    assert done.returncode == 0, done.stdout + done.stderr
    (kept,) = (tmp_path / "run").glob("cells/*/weights")
    assert AutoTokenizer.from_pretrained(kept).chat_template == file.read_text()  # it was trained on texts of this one
    for record in of_losses(tmp_path / "run"):
        assert len(record["board"]["chat_template"]) == 16
        assert "template_day" not in record["dataset"]
        moved = record["dataset"]["seams_moved"]  # the space after the colon goes to the response
        assert 0 < moved <= 16
        assert f"{moved} of 16 train pairs: the chat template has other tokens" in done.stdout
        assert f"in {moved} training pairs the responses have the end of the prompt" in done.stdout.replace("\n", " ")
    assert harness("verify", str(tmp_path / "run")).returncode == 0


@pytest.fixture(scope="module")
def dated(harness: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model whose template prints the date, and its run."""
    folder = tmp_path_factory.mktemp("dated")
    model = real_layouts.make("llama-3", folder / "llama")
    done = harness("run", *SMALL, "--models", str(model), "--output-dir", str(folder / "run"))
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_day_that_a_template_prints_stands_in_the_record(dated: Path) -> None:
    assert {record["dataset"]["template_day"] for record in of_losses(dated / "run")} == {"2024-07-26"}


def test_other_tokens_in_an_old_folder_are_refused_before_training(dated: Path, harness: Any, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(dated / "run", folder)
    for path in folder.glob("cells/*/record.json"):  # as if made when templates printed the day of the run
        record = json.loads(path.read_text())
        del record["dataset"]["template_day"]
        path.write_text(json.dumps(record | {"tokens_fingerprint": "0" * 16 + "-" + "1" * 16}))
    done = harness(
        "run", *SMALL, "--plugins", "simpo,dpo", "--models", str(dated / "llama"), "--output-dir", str(folder)
    )
    assert done.returncode != 0
    said = next(line for line in done.stderr.splitlines() if "other tokens" in line)
    assert "template_day was None, now '2024-07-26'" in said
    assert "name another --output-dir" in said
    assert not list(folder.glob("cells/*dpo*/trained.json"))


def test_rows_that_are_cut_are_counted_on_screen(dated: Path, harness: Any, tmp_path: Path) -> None:
    done = harness(
        "run", *SMALL, "--models", str(dated / "llama"), "--output-dir", str(tmp_path / "run"),
        "--max-length", "40", "--max-prompt", "20",
    )  # fmt: skip
    cut = of_losses(tmp_path / "run")[0]["dataset"]
    assert cut["truncated_pairs"] == 16
    assert "16 of 16 train pairs are cut: --max-length 40" in (done.stdout + done.stderr).replace("\n", " ")


def test_data_longer_than_the_context_window_are_refused_before_training(harness: Any, tmp_path: Path) -> None:
    model = real_layouts.make("gpt-2", tmp_path / "gpt2")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"n_positions": 64}))
    done = harness("run", *SMALL, "--models", str(model), "--output-dir", str(tmp_path / "run"), "--max-length", "200")
    assert done.returncode != 0
    assert "--max-length" in done.stderr
    assert "64" in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("run/cells/*/trained.json"))


@pytest.mark.parametrize("variable", ["HARNESS_CACHE", "HOME"])
def test_a_cache_that_cannot_be_written_is_refused_by_name(variable: str, harness: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    further = {} if variable == "HARNESS_CACHE" else {"HARNESS_CACHE": "", "XDG_CACHE_HOME": ""}
    place = {variable: str(tmp_path / "file" / "in it")}
    done = harness("run", *SMALL, "--output-dir", str(tmp_path / "run"), **further, **place)
    assert done.returncode == 2
    (said,) = done.stderr.splitlines()
    assert "the cache cannot be written" in said
    assert "HARNESS_CACHE=" in said
    assert not (tmp_path / "run").exists()
