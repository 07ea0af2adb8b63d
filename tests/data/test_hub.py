"""Data sets by hub id, from a stand-in hub on loopback, in processes of their own with an empty HF_HOME."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_stand_in import Hub, serving

from harness.api import HarnessError, LoadOptions
from harness.data.hub import HubId, from_dataset_dict
from harness.data.sources import load

Describe = Callable[..., tuple[int, str]]
QUICK = 30
"""Seconds; what waits for nothing takes two or three."""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with serving() as hub:
        yield hub


@pytest.fixture
def describe(harness: Callable[..., object], hub: Hub, tmp_path: Path) -> Describe:
    """Run `harness data describe ...` against the stand-in; return the exit code and what it said."""

    def call(*arguments: str, **variables: str) -> tuple[int, str]:
        variables = {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_OFFLINE": "0", **variables}
        done = harness("data", "describe", *arguments, **variables)
        said = done.stdout if done.returncode == 0 else done.stderr.splitlines()[-1]
        return done.returncode, said

    return call


def rows(count: int, name: str) -> list[dict[str, object]]:
    """Rows that score the longer answer higher."""
    return [
        {
            "prompt": f"{name} {index}?",
            "chosen": [
                {"role": "user", "content": f"{name} {index}?"},
                {"role": "assistant", "content": "Yes, it is."},
            ],
            "rejected": [{"role": "user", "content": f"{name} {index}?"}, {"role": "assistant", "content": "No."}],
            "score_chosen": 4.5,
            "score_rejected": 2.0,
        }
        for index in range(count)
    ]


def data(folder: Path, **splits: int) -> Path:
    """A folder of parquet files with this many rows in each split."""
    folder.mkdir()
    for name, count in (splits or {"train": 20, "test": 4}).items():
        pq.write_table(pa.Table.from_pylist(rows(count, name.partition("-")[0])), folder / f"{name}.parquet")
    return folder


def fingerprint(said: str) -> str:
    found = re.search(r"fingerprint ([0-9a-f]{16})", said)
    assert found, said
    return found[1]


def test_a_hub_id_gives_what_a_folder_of_its_files_gives_and_names_the_commit(
    hub: Hub, describe: Describe, tmp_path: Path
) -> None:
    folder = data(tmp_path / "mine")
    commit = hub.add("org/mine", folder)

    code, said = describe("org/mine")

    assert code == 0
    assert f"from org/mine@{commit}\n" in said
    assert fingerprint(said) == load(str(folder), LoadOptions(), {}).fingerprint


def test_lines_of_json_give_the_same_content_too(hub: Hub, describe: Describe, tmp_path: Path) -> None:
    (folder := tmp_path / "lines").mkdir()
    for name, count in {"train": 20, "validation": 4}.items():
        lines = map(json.dumps, rows(count, name))
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    hub.add("org/lines", folder)

    code, said = describe("org/lines")

    assert (code, fingerprint(said)) == (0, load(str(folder), LoadOptions(), {}).fingerprint)
    assert "the split 'validation', the only held-out one" in said


def test_a_revision_is_read_and_one_that_is_not_there_is_named(hub: Hub, describe: Describe, tmp_path: Path) -> None:
    old = hub.add("org/mine", data(tmp_path / "old"), "v1")
    new = hub.add("org/mine", data(tmp_path / "new", train=30, test=4))

    said = {name: describe(f"org/mine{name}")[1] for name in ("", "@v1", f"@{old}")}

    assert [f"from org/mine@{new}\n" in said[""], f"from org/mine@{old}\n" in said["@v1"]] == [True, True]
    assert fingerprint(said[""]) != fingerprint(said["@v1"]) == fingerprint(said[f"@{old}"])
    assert describe("org/mine@v9") == (
        2,
        "Error: data set 'org/mine': got revision 'v9', expected a branch, a tag or a commit of it; check the name on "
        "its page",
    )


def test_a_configuration_is_read_and_one_that_is_not_there_lists_those_that_are(
    hub: Hub, describe: Describe, tmp_path: Path
) -> None:
    folder = data(tmp_path / "two", small_train=12, large_train=40)
    configs = "\n".join(
        f"- config_name: {name}\n  data_files:\n  - split: train\n    path: {name}_train.parquet"
        for name in ("small", "large")
    )
    (folder / "README.md").write_text(f"---\nconfigs:\n{configs}\n---\n")
    commit = hub.add("org/two", folder, "main", "v1")

    code, said = describe("org/two:small@v1")

    assert (code, f"from org/two:small@{commit}\n" in said) == (0, True)
    wanted = load(str(folder / "small_train.parquet"), LoadOptions(), {})
    assert fingerprint(said) == wanted.fingerprint
    for name, got in (("", "no configuration"), (":medium", "configuration 'medium'")):
        code, said = describe(f"org/two{name}")
        assert code == 2
        assert re.search(rf"got {got}, expected one of (small, large|large, small); give it as org/two:CONFIG", said)


def test_files_that_datasets_would_join_are_not_read_as_one_split(hub: Hub, describe: Describe, tmp_path: Path) -> None:
    folder = data(tmp_path / "joined", train_prefs=20, test_prefs=4, test_prefs_lenbalanced=4)
    hub.add("org/joined", folder)
    code, said = describe("org/joined")
    assert code == 2
    assert "got splits train, test from files of test_prefs, test_prefs_lenbalanced, train_prefs, expected each" in said

    splits = "\n".join(f"  - split: {path.stem}\n    path: {path.name}" for path in sorted(folder.glob("*.parquet")))
    (folder / "README.md").write_text(f"---\nconfigs:\n- config_name: default\n  data_files:\n{splits}\n---\n")
    hub.add("org/told-apart", folder)
    code, said = describe("org/told-apart")
    assert (code, fingerprint(said)) == (0, load(str(folder), LoadOptions(), {}).fingerprint)


def test_a_gated_data_set_says_to_log_in_and_a_missing_one_to_check_the_name(
    hub: Hub, describe: Describe, tmp_path: Path
) -> None:
    hub.add("org/closed", data(tmp_path / "closed"))
    assert describe("org/closed")[0] == 0
    hub.gated.add("org/closed")

    began = time.monotonic()
    code, said = describe("org/closed")
    assert code == 2
    assert re.search(
        r"'org/closed': got no access.*gated, or .*; ask for access on its page, log in \(hf auth login", said
    )

    code, said = describe("org/none")
    assert code == 2
    assert "got 'org/none', expected a file, a folder or a data set on the hub: none is there" in said
    assert time.monotonic() - began < QUICK


def test_a_broken_download_is_repeated(hub: Hub, describe: Describe, tmp_path: Path) -> None:
    folder = data(tmp_path / "mine")
    hub.add("org/mine", folder)
    hub.cut["train.parquet"] = 1

    code, said = describe("org/mine")

    assert (code, fingerprint(said)) == (0, load(str(folder), LoadOptions(), {}).fingerprint)
    assert sum(line.startswith("GET") and "train.parquet" in line for line in hub.asked) == 2


def test_a_download_that_keeps_breaking_says_so_and_the_next_run_reads_it(
    hub: Hub, describe: Describe, tmp_path: Path
) -> None:
    folder = data(tmp_path / "mine")
    hub.add("org/mine", folder)
    hub.cut["train.parquet"] = 1000

    code, said = describe("org/mine")
    assert (code, "run the command again if the connection broke" in said) == (2, True)

    hub.cut.clear()
    code, said = describe("org/mine")
    assert (code, fingerprint(said)) == (0, load(str(folder), LoadOptions(), {}).fingerprint)


def test_without_the_hub_the_cache_is_read_at_the_revision_that_was_asked_for(
    hub: Hub, describe: Describe, tmp_path: Path
) -> None:
    old = hub.add("org/Mine", data(tmp_path / "old"), "v1")
    new = hub.add("org/Mine", data(tmp_path / "new", train=30, test=4))
    online = {name: fingerprint(describe(f"org/Mine{name}")[1]) for name in ("", "@v1")}
    asked = len(hub.asked)
    out_of_reach = {"HF_ENDPOINT": "http://127.0.0.1:9"}

    for variables in ({"HF_HUB_OFFLINE": "1"}, out_of_reach):
        for name, commit in (("", new), ("@v1", old), (f"@{old}", old)):
            code, said = describe(f"org/Mine{name}", **variables)
            assert (code, f"from org/Mine@{commit}\n" in said) == (0, True)
            assert fingerprint(said) == online["" if commit == new else "@v1"]
            assert "read from the cache: the hub was not reached" in said
    assert len(hub.asked) == asked

    began = time.monotonic()
    for name, variables in (("org/Mine@v2", {"HF_HUB_OFFLINE": "1"}), ("org/other", out_of_reach)):
        code, said = describe(name, **variables)
        assert code == 2
        assert re.search(r"cannot be reached \(.+\) and of which the cache has no copy; .*HF_HOME", said)
    assert time.monotonic() - began < QUICK


def test_ultrafeedback_is_read_from_the_hub_and_its_defective_rows_are_counted_even_when_strict(
    hub: Hub, describe: Describe, tmp_path: Path
) -> None:
    (folder := tmp_path / "uf").mkdir()
    data(folder / "data", **{"train_prefs-00000-of-00001": 20, "test_prefs-00000-of-00001": 4})
    empty = [{**row, "chosen": row["rejected"]} for row in rows(2, "defective")]
    pq.write_table(
        pa.Table.from_pylist([*rows(20, "train"), *empty]), folder / "data" / "train_prefs-00000-of-00001.parquet"
    )
    commit = hub.add("HuggingFaceH4/ultrafeedback_binarized", folder)

    code, said = describe("ultrafeedback")

    assert (code, said.startswith("ultrafeedback ")) == (0, True)
    assert f"from HuggingFaceH4/ultrafeedback_binarized@{commit}\n" in said
    assert "ultrafeedback: its known defective rows are skipped and counted: 2 rows" in said

    code, said = describe("ultrafeedback", HF_ENDPOINT="http://127.0.0.1:9", HF_HOME=str(tmp_path / "empty"))
    assert code == 2
    assert re.search(r"cannot be reached.*cache has no copy.*HF_HOME.*local folder", said)


def test_splits_of_other_names_are_told_for_the_hub_and_for_folders(
    hub: Hub, describe: Describe, tmp_path: Path
) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    data(
        folder / "data",
        **{f"{name}-00000-of-00001": count for name, count in (("train", 6), ("first", 20), ("test", 4))},
    )
    hub.add("org/mine", folder)

    said = {where: describe(where, "--splits", "train=first,test=train")[1] for where in ("org/mine", str(folder))}

    assert fingerprint(said["org/mine"]) == fingerprint(said[str(folder)])
    told = load(str(folder), LoadOptions(splits="train=first, test=train"), {})
    assert fingerprint(said["org/mine"]) == told.fingerprint
    assert {pair.prompt.split()[0] for pair in (*told.train, *told.dev)} == {"first"}
    assert {pair.prompt.split()[0] for pair in told.test} == {"train"}
    assert any("data files not read: test-00000-of-00001.parquet" in note for note in told.notes)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("train=nope", r"got --splits train=nope, expected one of test, train; correct the name"),
        ("train", r"--splits got 'train', expected SPLIT=NAME"),
        ("training=train", r"expected SPLIT=NAME, .* one of train, dev, test"),
        ("train=train,test=train", r"--splits got 'train' for two splits"),
        ("train=train,train=test", r"--splits got 'train=test'"),
    ],
)
def test_splits_that_are_not_there_are_named(given: str, said: str, tmp_path: Path) -> None:
    folder = data(tmp_path / "mine")
    with pytest.raises(HarnessError, match=said):
        load(str(folder), LoadOptions(splits=given), {})


def test_splits_are_not_for_a_single_file(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"train.parquet: got --splits train=x, expected none for a single file"):
        load(str(data(tmp_path / "mine") / "train.parquet"), LoadOptions(splits="train=x"), {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("org/name", HubId(repo="org/name")),
        ("org/name:default", HubId(repo="org/name", config="default")),
        ("org/na.me-1@v1.0", HubId(repo="org/na.me-1", revision="v1.0")),
        ("org/name:a b@refs/pr/1", HubId(repo="org/name", config="a b", revision="refs/pr/1")),
        *((text, None) for text in ("name", "./org/name", "../name", "a/b/c", "/a/b", "org/name@", "org/name:", "")),
    ],
)
def test_what_a_hub_id_is(text: str, expected: HubId | None) -> None:
    assert HubId.of(text) == expected
    assert expected is None or str(expected) == text


def test_a_data_set_without_a_train_split_says_how_to_name_one() -> None:
    with pytest.raises(HarnessError, match=r"got splits other, expected train_prefs or train; .*--splits train="):
        from_dataset_dict({"other": None}, "mine", "abc", LoadOptions())
