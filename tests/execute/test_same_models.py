"""Local models are known by their content: where they lie, and how the path is written, decides nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import real_layouts

from harness.api import HarnessError
from harness.execute.resolve import resolve
from harness.planning.run_file import make_run
from harness.run_folder.board_key import LOCAL_MODEL

SMALL = ("--budget", "pairs=8", "--batch-pairs", "4", "--limit", "16", "--scorer", "transformers", "--quiet")


def resolved(output: Path | None = None, **options: Any) -> Any:
    return resolve(make_run({"plugins": "dpo", "budget": "pairs=16", **options}), output, False)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return real_layouts.make("sharded", tmp_path_factory.mktemp("here") / "mine")


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_spelling_of_a_path_and_every_copy_is_one_model_and_one_run(model: Path, in_folder: Path) -> None:
    (in_folder / "link").symlink_to(model)
    copy = Path(shutil.copytree(model, in_folder / "there" / "yours"))
    spellings = [str(model), f"{model}/", os.path.relpath(model), f"./{os.path.relpath(model)}//", "link", str(copy)]
    runs = [resolved(models=(spelling,)) for spelling in spellings]
    assert len({run.folder for run in runs}) == 1
    assert len({run.grid[0].key for run in runs}) == 1
    together = resolved(models=tuple(spellings))
    assert [cell.model for cell in together.grid] == [runs[0].grid[0].model]
    assert together.run.models == (str(model),)  # the first of them


def test_two_folders_of_one_last_name_are_two_models(model: Path, in_folder: Path) -> None:
    for place, seed in (("a", 0), ("b", 1)):
        real_layouts.make("sharded", in_folder / place / "x", seed)
    first, second = resolved(models=("a/x", "b/x")).grid
    assert first.model != second.model
    assert first.key.partition("--")[0] != second.key.partition("--")[0]


def test_a_local_start_is_known_by_its_content_too(model: Path, in_folder: Path) -> None:
    copy = Path(shutil.copytree(model, in_folder / "yours"))
    keys = [resolved(preset="paper", start=str(place), batch_pairs=8).run.decisive() for place in (model, copy)]
    assert keys[0] == keys[1]
    assert LOCAL_MODEL.fullmatch(str(keys[0].start))


def test_a_folder_that_knows_its_model_by_a_path_goes_on_with_it(model: Path, in_folder: Path) -> None:
    old = make_run({"plugins": "dpo", "budget": "pairs=16", "models": (str(model),)})
    folder = in_folder / "runs" / old.short_hash()
    folder.mkdir(parents=True)
    content = {"run": old.as_json(), "decisive": old.decisive().as_json(), "models": [str(model)]}
    (folder / "manifest.json").write_text(json.dumps(content))
    found = resolved(models=(str(model),))
    assert (found.folder.resolve(), found.grid[0].model) == (folder, str(model))


def test_what_is_no_model_is_refused_before_the_data_are_read(in_folder: Path) -> None:
    with pytest.raises(HarnessError, match="--models got 'nowhere', expected qwen"):
        resolved(models=("nowhere",), dataset="neither")


def test_two_copies_give_runs_that_merge_compare_and_gate_and_the_board_says_where_they_lay(
    model: Path, in_folder: Path, harness: Callable[..., Any]
) -> None:
    copy = shutil.copytree(model, in_folder / "there" / "yours")
    runs = [str(in_folder / name) for name in ("one", "two")]
    for run, place, plugins in zip(runs, (model, copy), ("simpo,dpo", "dpo,cpo"), strict=True):
        done = harness("run", "--plugins", plugins, "--models", str(place), *SMALL, "--output-dir", run)
        assert done.returncode == 0, done.stdout + done.stderr

    merged = harness("merge", *runs, "--into", str(in_folder / "both"))
    assert merged.returncode == 0, merged.stdout + merged.stderr
    for folder in (*runs, str(in_folder / "both")):
        verified = harness("verify", folder)
        assert verified.returncode == 0, verified.stdout
    (board,) = json.loads((in_folder / "both" / "leaderboard.json").read_text())["boards"]
    assert {row["loss"] for row in board["rows"]} == {"simpo", "dpo", "cpo", "base", "longer-wins"}
    assert f"{board['model']} is the model in {model}." in (in_folder / "both" / "leaderboard.md").read_text()
    assert str(model) in (in_folder / "both" / "run.toml").read_text()

    compared = harness("compare", *runs)
    assert compared.returncode == 0, compared.stdout + compared.stderr
    gated = harness("gate", *runs, "--margin", "0.5")
    assert gated.returncode in (0, 3, 4), gated.stdout + gated.stderr

    page = (in_folder / "one" / "leaderboard.html").read_text(encoding="utf-8")
    assert f"--models {model}" in page  # a command that finds it again
    again = harness("run", "--plugins", "simpo,dpo,cpo", "--models", str(copy), *SMALL, "--output-dir", runs[0])
    assert again.returncode == 0, again.stdout + again.stderr
    assert harness("verify", runs[0]).returncode == 0
