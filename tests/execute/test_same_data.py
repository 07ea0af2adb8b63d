"""Data are known by their content: where they lie, and how the path is written, decides nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.api import HarnessError
from harness.execute.preflight import check_folder
from harness.execute.resolve import resolve
from harness.planning.run_file import Run, make_run
from harness.run_folder.hashes import unsealed
from harness.run_folder.manifest import read_manifest

SMALL = ("--models", "qwen", "--budget", "pairs=16", "--batch-pairs", "8", "--scorer", "transformers", "--quiet")
WORDS = ("river", "stone", "cloud", "ember", "field", "glass", "harbour", "island")


def write_data(folder: Path, train: int = 64) -> Path:
    """A folder with a train and a test split."""
    folder.mkdir(parents=True)
    for split, count in (("train", train), ("test", 24)):
        lines = [
            {
                "prompt": f"What of the {WORDS[index % 8]} in {split} {index}?",
                "chosen": f"The {WORDS[index % 8]} is near, and {WORDS[(index + 3) % 8]} lies beside it.",
                "rejected": f"No {WORDS[(index + 1) % 8]} here.",
            }
            for index in range(count)
        ]
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return folder


def resolved(run: Run, output: Path | None = None) -> Any:
    return resolve(run, output, False)


@pytest.fixture
def two_copies(tmp_path: Path) -> tuple[Path, Path]:
    one = write_data(tmp_path / "here" / "mine")
    return one, Path(shutil.copytree(one, tmp_path / "there" / "yours"))


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_another_spelling_of_a_path_is_the_same_run(two_copies: tuple[Path, Path], in_folder: Path) -> None:
    one, two = two_copies
    (in_folder / "link").symlink_to(one)
    spellings = [str(one), f"{one}/", os.path.relpath(one), f"./{os.path.relpath(one)}//", "link", str(two)]
    folders = {resolved(make_run({"dataset": spelling, "budget": "pairs=16"})).folder for spelling in spellings}
    assert len(folders) == 1
    other = write_data(in_folder / "other" / "mine", train=65)
    assert resolved(make_run({"dataset": str(other), "budget": "pairs=16"})).folder not in folders


def test_a_board_has_the_name_of_data_that_have_one_and_else_their_content(two_copies: tuple[Path, Path]) -> None:
    one, _ = two_copies
    run = resolved(make_run({"dataset": str(one), "budget": "pairs=16"})).run
    named = resolved(make_run({"budget": "pairs=16", "limit": 64})).run
    fingerprint = resolved(run).dataset.fingerprint
    assert (run.decisive().dataset, named.decisive().dataset) == (f"content:{fingerprint}", "embedded")
    assert run.dataset == str(one)  # run.toml and the manifest say where it was


def test_two_copies_of_the_same_bytes_give_runs_that_merge_compare_and_gate(
    two_copies: tuple[Path, Path], in_folder: Path, harness: Callable[..., Any]
) -> None:
    runs = [str(in_folder / name) for name in ("one", "two")]
    for run, data, plugins in zip(runs, two_copies, ("simpo,dpo", "simpo,cpo"), strict=True):
        done = harness("run", "--plugins", plugins, "--dataset", str(data), *SMALL, "--output-dir", run)
        assert done.returncode == 0, done.stdout + done.stderr

    merged = harness("merge", *runs, "--into", str(in_folder / "both"))
    assert merged.returncode == 0, merged.stdout + merged.stderr
    for folder in (*runs, str(in_folder / "both")):
        verified = harness("verify", folder)
        assert verified.returncode == 0, verified.stdout
    assert len(json.loads((in_folder / "both" / "leaderboard.json").read_text())["boards"]) == 1

    compared = harness("compare", *runs)
    assert compared.returncode == 0, compared.stdout + compared.stderr
    gated = harness("gate", *runs, "--margin", "0.5")
    assert gated.returncode in (0, 4), gated.stdout + gated.stderr

    # the page's command finds the data again, and the same folder goes on with the other copy
    page = (in_folder / "one" / "leaderboard.html").read_text(encoding="utf-8")
    assert f"--dataset {two_copies[0]}" in page
    again = harness(
        "run", "--plugins", "simpo,dpo,cpo", "--dataset", str(two_copies[1]), *SMALL, "--output-dir", runs[0]
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert harness("verify", runs[0]).returncode == 0


def write_test_set(folder: Path) -> Path:
    """A test split of two subsets; the longer response is the chosen one in 9 of 12 pairs of one, in 3 of the other."""
    folder.mkdir(parents=True)
    lines = []
    for index in range(24):
        part, longer = ("plain", index < 9) if index < 12 else ("tricky", index < 15)
        sides = [f"The {WORDS[index % 8]} is near.", f"The {WORDS[index % 8]} is near, and there is more of it."]
        chosen, rejected = reversed(sides) if longer else sides
        lines.append({"prompt": f"Where is it, {index}?", "chosen": chosen, "rejected": rejected, "subset": part})
    (folder / "test.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    return folder


def test_runs_on_two_copies_of_another_sets_test_data_stand_together(
    two_copies: tuple[Path, Path], in_folder: Path, harness: Callable[..., Any]
) -> None:
    one = write_test_set(in_folder / "tests" / "other")
    tests = one, Path(shutil.copytree(one, in_folder / "elsewhere" / "other"))
    runs = [str(in_folder / name) for name in ("one", "two")]
    for run, test, plugins in zip(runs, tests, ("simpo,dpo", "simpo"), strict=True):
        data = ("--dataset", str(two_copies[0]), "--test", str(test))
        done = harness("run", "--plugins", plugins, *data, *SMALL, "--output-dir", run)
        assert done.returncode == 0, done.stdout + done.stderr
    assert harness("merge", *runs, "--into", str(in_folder / "both")).returncode == 0
    assert harness("compare", *runs).returncode == 0

    for folder in (*runs, str(in_folder / "both")):
        assert harness("verify", folder).returncode == 0
        board = json.loads((Path(folder) / "leaderboard.json").read_text())["boards"][0]
        assert "trained on mine, tested on other" in board["title"]
        assert board["tested_on"] == "other"
        in_subsets = next(row["subsets"] for row in board["rows"] if row["loss"] == "longer-wins")
        assert {name: of["pairwise_accuracy"]["value"] for name, of in in_subsets.items()} == {
            "plain": 9 / 12,
            "tricky": 3 / 12,
        }
    page = (in_folder / "one" / "leaderboard.html").read_bytes()
    assert f"--dataset {two_copies[0]} --test {tests[0]}" in page.decode()
    assert harness("leaderboard", runs[0], "--no-pictures").returncode == 0
    assert (in_folder / "one" / "leaderboard.html").read_bytes() == page

    # a folder may hold cells of both copies, but no other subsets
    record = next((in_folder / "one" / "cells").glob("*simpo*/record.json"))
    record.write_text(unsealed(record.read_text("utf-8")).replace(str(tests[0]), str(tests[1])), "utf-8")
    assert harness("verify", runs[0]).returncode == 0
    rows = record.parent / "rows.parquet"
    table = pd.read_parquet(rows)
    table.assign(subset=["plain"] * len(table)).to_parquet(rows)
    said = harness("verify", runs[0])
    assert said.returncode == 3
    assert "got another subset in 12 rows" in said.stdout


def test_a_folder_that_knows_its_data_by_a_path_goes_on_with_it(two_copies: tuple[Path, Path], in_folder: Path) -> None:
    one, two = two_copies
    old = make_run({"dataset": str(one), "budget": "pairs=16"})
    data = resolved(old).dataset
    folder = in_folder / "runs" / old.short_hash()
    folder.mkdir(parents=True)
    content = {"run": old.as_json(), "decisive": old.decisive().as_json(), "scorer": "transformers"}
    content |= {"dataset": {"name": data.name, "source": data.source, "fingerprint": data.fingerprint}}
    (folder / "manifest.json").write_text(json.dumps(content))

    for found in (resolved(old), resolved(make_run({"dataset": str(two), "budget": "pairs=16"}), folder)):
        assert (found.folder.resolve(), found.run.decisive()) == (folder, old.decisive())
    assert read_manifest(folder).decisive == old.decisive()


def test_other_content_in_the_same_place_is_another_run(two_copies: tuple[Path, Path], in_folder: Path) -> None:
    one, _ = two_copies
    before = resolved(make_run({"dataset": str(one), "budget": "pairs=16"}), in_folder / "run")
    (in_folder / "run").mkdir()
    content = {"run": before.run.as_json(), "decisive": before.run.decisive().as_json(), "scorer": "transformers"}
    content |= {"dataset": {"name": "mine", "fingerprint": before.dataset.fingerprint}}
    (in_folder / "run" / "manifest.json").write_text(json.dumps(content))

    check_folder(before.folder, before.run, before.dataset, "transformers")
    shutil.rmtree(one)
    write_data(one, train=65)
    now = resolved(before.run, in_folder / "run")
    with pytest.raises(HarnessError, match=r"another run \(the content of data set 'mine' has changed\)"):
        check_folder(now.folder, now.run, now.dataset, "transformers")
