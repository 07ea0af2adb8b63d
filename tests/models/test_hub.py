"""Models by hub id, from a stand-in hub on loopback, in processes of their own with an empty HF_HOME."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import model_folders
import pytest
import real_layouts
from hub_stand_in import Hub, serving
from waiting import HANGS

from harness.models.start import fingerprint

Find = Callable[..., dict[str, Any]]
SCRIPT = """
import json, os, sys, time
from pathlib import Path
import huggingface_hub.constants
huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE = 1024  # the model is smaller than a usual one
if os.environ.get("QUICK"):
    time.sleep = lambda seconds: None  # the client waits between its tries
from harness.api import HarnessError
from harness.models.find import find
try:
    found = find(sys.argv[1], Path(sys.argv[2]), lambda line: None)
    told = {"folder": str(found.folder), "id": found.id, "revision": found.revision, "base": found.base}
except HarnessError as error:
    told = {"error": str(error)}
print(json.dumps(told))
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as hub:
        yield hub


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return real_layouts.make("llama-2", tmp_path_factory.mktemp("model") / "mine")


@pytest.fixture
def find(hub: Hub, tmp_path: Path) -> Find:
    """Find a model by its name against the stand-in; return what was found, or the error."""

    def call(name: str, **variables: str) -> dict[str, Any]:
        environment = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0", **variables}
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, name, str(tmp_path / "cache")],
            capture_output=True,
            text=True,
            timeout=HANGS,
            env={**os.environ, **environment},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return said

    return call


def other(to: Path, seed: int) -> Path:
    """Another model of the same layout, as a later commit has it."""
    return real_layouts.make("llama-2", to, seed)


def test_a_hub_id_gives_the_files_of_its_folder_and_its_commit(hub: Hub, find: Find, model: Path) -> None:
    commit = hub.add("org/mine", model)

    said = find("org/mine")

    assert (said["id"], said["revision"]) == ("org/mine", commit)
    assert fingerprint(Path(said["folder"])) == fingerprint(model)


def test_a_revision_is_read_and_one_that_is_not_there_is_named(
    hub: Hub, find: Find, model: Path, tmp_path: Path
) -> None:
    old = hub.add("org/mine", model, "v1")
    new = hub.add("org/mine", other(tmp_path / "new", seed=1), "main")

    for name, commit in (("org/mine", new), ("org/mine@v1", old), (f"org/mine@{old}", old)):
        assert find(name)["revision"] == commit
    assert find("org/mine@v9")["error"] == (
        "model 'org/mine': got revision 'v9', expected a branch, a tag or a commit of it; check the name on its page"
    )


def test_what_is_not_there_and_what_is_gated_is_one_line_each(hub: Hub, find: Find, model: Path) -> None:
    hub.add("org/gated", model)
    hub.gated.add("org/gated")

    assert "which the hub does not have or does not show" in find("org/none")["error"]
    said = find("org/gated")["error"]
    assert "got no access" in said
    assert "HF_TOKEN" in said
    assert "\n" not in said


def test_a_download_that_is_interrupted_goes_on_where_it_ended(hub: Hub, find: Find, model: Path) -> None:
    hub.add("org/mine", model)
    hub.cut["model.safetensors"] = 1

    assert fingerprint(Path(find("org/mine")["folder"])) == fingerprint(model)

    size = (model / "model.safetensors").stat().st_size
    _, again = (line for line in hub.asked if line.startswith("GET") and "model.safetensors" in line)
    first = int(again.partition("bytes=")[2].partition("-")[0])
    assert size / 2 - 1024 <= first <= size / 2  # what there was is not fetched a second time


def test_a_download_that_keeps_breaking_says_so_and_the_next_run_takes_the_rest(
    hub: Hub, find: Find, model: Path
) -> None:
    hub.add("org/mine", model)
    hub.cut["model.safetensors"] = 1000
    assert "run the command again (files that are whole are kept)" in find("org/mine", QUICK="1")["error"]

    hub.cut.clear()
    before = len(hub.asked)
    assert fingerprint(Path(find("org/mine")["folder"])) == fingerprint(model)
    fetched = [line for line in hub.asked[before:] if line.startswith("GET") and "/resolve/" in line]
    assert len(fetched) == 1


def test_without_the_hub_the_cache_is_read_at_the_revision_that_was_asked_for(
    hub: Hub, find: Find, model: Path, tmp_path: Path
) -> None:
    old = hub.add("org/mine", model, "v1")
    new = hub.add("org/mine", other(tmp_path / "new", seed=1), "main")
    for name in ("org/mine", "org/mine@v1"):
        find(name)
    asked = len(hub.asked)

    offline, out_of_reach = {"HF_HUB_OFFLINE": "1"}, {"HF_ENDPOINT": "http://127.0.0.1:9"}
    for name, commit, variables in (
        ("org/mine", new, offline),
        ("org/mine@v1", old, offline),
        (f"org/mine@{old}", old, offline),
        ("org/mine@v1", old, out_of_reach),
    ):
        assert find(name, **variables)["revision"] == commit
    assert len(hub.asked) == asked
    said = find("org/never", HF_HUB_OFFLINE="1")["error"]
    assert "'org/never' could not be fetched from the hub" in said


def test_an_adapter_on_the_hub_is_merged_onto_its_base_there(hub: Hub, find: Find, model: Path, tmp_path: Path) -> None:
    commit = hub.add("org/base", model)
    hub.add("org/lora", model_folders.adapter(model, tmp_path / "lora", names_base="org/base"))

    said = find("org/lora")

    assert (said["id"], said["base"]) == ("org/lora", f"org/base@{commit}")
    assert fingerprint(Path(said["folder"])) != fingerprint(model)


def test_pickled_weights_on_the_hub_are_fetched_where_there_are_no_others(
    hub: Hub, find: Find, model: Path, tmp_path: Path
) -> None:
    hub.add("org/old", model_folders.pickled(Path(shutil.copytree(model, tmp_path / "old"))))
    said = find("org/old")
    assert list(Path(said["folder"]).glob("*.safetensors"))


def test_a_run_on_a_hub_id_records_the_commit(
    hub: Hub, model: Path, harness: Callable[..., Any], tmp_path: Path
) -> None:
    commit = hub.add("org/mine", model, "v1")
    options = ("--budget", "pairs=8", "--batch-pairs", "4", "--limit", "8", "--scorer", "transformers", "--quiet")
    variables = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0"}

    asked = ("--plugins", "dpo", "--models", "org/mine@v1", *options)
    done = harness("run", *asked, "--output-dir", str(tmp_path / "run"), **variables)

    assert done.returncode == 0, done.stdout + done.stderr
    (record,) = (json.loads(path.read_text()) for path in (tmp_path / "run").glob("cells/*dpo*/record.json"))
    model_facts = record["model"]
    assert (model_facts["name"], model_facts["id"], model_facts["revision"]) == ("org/mine@v1", "org/mine", commit)
    verified = harness("verify", str(tmp_path / "run"))
    assert verified.returncode == 0, verified.stdout
