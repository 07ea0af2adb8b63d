"""The run folder: done or never was."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from made_records import made_manifest, made_record

from harness.api import HarnessError
from harness.run_folder.facts import LossFacts
from harness.run_folder.manifest import read_manifest, write_manifest
from harness.run_folder.noise_floor import read_noise
from harness.run_folder.store import read_records, write_atomically, write_record
from harness.run_folder.tables import RESPONSE_COLUMNS, ROW_COLUMNS, read_columns

ROWS = pd.DataFrame({column: [1.0] for column in ROW_COLUMNS}).assign(pair_id="p", prompt_id="q", split="test")
RESPONSES = pd.DataFrame({column: [1.0] for column in RESPONSE_COLUMNS}).assign(response_id="r", listwise=True)


def test_a_record_is_read_back_with_its_tables(tmp_path: Path) -> None:
    write_record(tmp_path / "cells" / "b", made_record({"key": "b", "seed": np.int64(3)}), ROWS, RESPONSES)
    write_record(tmp_path / "cells" / "a", made_record({"key": "a"}), ROWS, RESPONSES)
    first, second = read_records(tmp_path)
    assert (first.key, second.key, second.seed) == ("a", "b", 3)
    pd.testing.assert_frame_equal(first.rows(), ROWS, check_dtype=False)
    pd.testing.assert_frame_equal(first.responses(), RESPONSES, check_dtype=False)


def test_columns_read_without_pandas_are_those_of_the_tables(tmp_path: Path) -> None:
    rows = pd.concat([ROWS, ROWS, ROWS], ignore_index=True).assign(
        pair_id=["p", "é", ""], gap=[1.5, np.nan, -0.0], reward_chosen=np.nan, chosen_tokens=[3, 2**40, 1]
    )
    responses = pd.concat([RESPONSES, RESPONSES], ignore_index=True).assign(listwise=[True, False])
    record = write_record(tmp_path, made_record({"key": "a"}), rows, responses)
    found = record.columns("rows.parquet", ("pair_id", "gap", "reward_chosen", "chosen_tokens"))
    assert found["pair_id"].tolist() == ["p", "é", ""]
    for name in ("gap", "reward_chosen", "chosen_tokens"):
        np.testing.assert_array_equal(found[name], rows[name].to_numpy(float))
        assert found[name].dtype == np.float64
    (listwise,) = record.columns("responses.parquet", ["listwise"]).values()
    assert (listwise.dtype, listwise.tolist()) == (np.bool_, [True, False])
    pd.DataFrame({"step": [1, 2], "loss": [0.5, None]}).to_parquet(tmp_path / "train.parquet")
    log = record.columns("train.parquet", ["loss", "logps/chosen"])  # of a file without a fixed form what is there
    np.testing.assert_array_equal(log["loss"], [0.5, np.nan])
    assert list(log) == ["loss"]
    none = write_record(tmp_path, made_record({"key": "a"}), rows[:0], responses)
    assert none.columns("rows.parquet", ["gap", "split"])["gap"].shape == (0,)


def test_columns_of_a_table_that_lacks_one_or_is_none_are_refused(tmp_path: Path) -> None:
    record = write_record(tmp_path, made_record({"key": "a"}), ROWS, RESPONSES)
    ROWS.drop(columns="gap").to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(HarnessError, match=r"got no column gap, expected all of"):
        record.columns("rows.parquet", ["split"])
    (tmp_path / "rows.parquet").write_bytes(b"version https://git-lfs")
    with pytest.raises(HarnessError, match=r"rows\.parquet: got .*expected a parquet table"):
        record.columns("rows.parquet", ["split"])


def test_a_record_has_the_hash_of_every_table_in_its_folder(tmp_path: Path) -> None:
    (tmp_path / "train.parquet").write_bytes(b"abc")
    files = write_record(tmp_path, made_record({"key": "a"}), ROWS, RESPONSES).files
    assert files is not None
    assert list(files) == ["responses.parquet", "rows.parquet", "train.parquet"]
    # FIPS 180-2, appendix B.1: SHA-256 of "abc"
    assert files["train.parquet"] == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_numbers_that_are_not_finite_are_written_as_null(tmp_path: Path) -> None:
    loss = LossFacts(name="simpo", options={"weights": [np.float32("nan"), 1.5]})
    metrics = {"x": float("nan"), "y": np.float64("inf"), "z": np.float32(1.5)}
    record = made_record({"key": "a"}).model_copy(update={"loss": loss, "metrics": metrics})
    written = write_record(tmp_path, record, ROWS, RESPONSES)
    text = (tmp_path / "record.json").read_text()
    assert "NaN" not in text
    assert "Infinity" not in text
    assert written.metrics == {"x": None, "y": None, "z": 1.5}
    assert written.loss.options == {"weights": [None, 1.5]}


def test_a_cell_without_a_record_is_not_done(tmp_path: Path) -> None:
    write_record(tmp_path / "cells" / "a", made_record({"key": "a"}), ROWS, RESPONSES)
    (tmp_path / "cells" / "a" / "record.json").unlink()
    assert read_records(tmp_path) == []


def test_the_record_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_record(tmp_path, made_record({"key": "a"}), ROWS, RESPONSES)

    def fail(*_: object, **__: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(pd.DataFrame, "to_parquet", fail)
    with pytest.raises(OSError, match="disk full"):
        write_record(tmp_path, made_record({"key": "a"}), ROWS, RESPONSES)
    assert not (tmp_path / "record.json").exists()


def test_a_failed_cell_needs_no_tables_and_drops_those_of_an_earlier_attempt(tmp_path: Path) -> None:
    write_record(tmp_path, made_record({"key": "a"}), ROWS, RESPONSES)
    record = write_record(tmp_path, made_record({"key": "a", "status": "failed"}))
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]
    with pytest.raises(HarnessError, match=r"rows\.parquet"):
        record.rows()


def test_a_corrupt_record_is_named(tmp_path: Path) -> None:
    write_record(tmp_path / "cells" / "a", made_record({"key": "a"}), ROWS, RESPONSES)
    path = tmp_path / "cells" / "a" / "record.json"
    for broken in ("{", "[]", b"\xff".decode("latin-1")):
        path.write_text(broken, encoding="latin-1")
        with pytest.raises(HarnessError, match=rf"{path}: got .*expected"):
            read_records(tmp_path)


def test_a_corrupt_or_incomplete_table_is_named(tmp_path: Path) -> None:
    record = write_record(tmp_path, made_record({"key": "a"}), ROWS, RESPONSES)
    (tmp_path / "rows.parquet").write_bytes(b"version https://git-lfs")
    with pytest.raises(HarnessError, match=r"rows\.parquet: got .*expected a parquet table"):
        record.rows()
    with pytest.raises(HarnessError, match=r"got no column gap, expected all of"):
        write_record(tmp_path, made_record({"key": "a"}), ROWS.drop(columns="gap"), RESPONSES)


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    for read in (read_records, read_manifest):
        with pytest.raises(HarnessError, match=r"got .*expected a run folder .*; name"):
            read(tmp_path)


def test_an_interrupted_write_leaves_the_old_file_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "record.json"
    write_atomically(path, "old")

    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [each.name for each in tmp_path.iterdir()] == ["record.json"]


def test_text_is_written_as_it_is(tmp_path: Path) -> None:
    write_atomically(tmp_path / "new" / "file.md", "é\n–\n")
    assert (tmp_path / "new" / "file.md").read_bytes() == "é\n–\n".encode()
    assert os.stat(tmp_path / "new" / "file.md").st_mode & 0o444


def test_a_manifest_is_read_back(tmp_path: Path) -> None:
    content = {"models": ["qwen", "gemma"], "run": {"ranked_by": "ndcg"}, "cells": [["simpo", "qwen", 1]], "new": None}
    write_manifest(tmp_path, made_manifest(content))
    manifest = read_manifest(tmp_path)
    assert (manifest.models, manifest.ranked_by, manifest.asked) == (("qwen", "gemma"), "ndcg", (("simpo", 1),))
    assert json.loads((tmp_path / "manifest.json").read_text()) == content  # what this version does not know is kept


def test_facts_of_a_manifest_that_are_only_shown_may_be_anything(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"cpus": "8", "plugins": {"simpo": ["x", null]}, "run": null}')
    manifest = read_manifest(tmp_path)
    assert (manifest.cpus, manifest.plugins, manifest.run) == ("8", {"simpo": ["x", None]}, {})


def test_a_manifest_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"models": "qwen"}')
    with pytest.raises(HarnessError, match=r"manifest\.json: got models = 'qwen' .*expected the manifest of a run"):
        read_manifest(tmp_path)


def test_a_column_of_yes_and_no_is_read_as_numbers(tmp_path: Path) -> None:
    pd.DataFrame({"step": [1, 2], "clipped": [True, False]}).to_parquet(tmp_path / "train.parquet")
    found = read_columns(tmp_path / "train.parquet", ["clipped", "step"])
    assert {name: values.tolist() for name, values in found.items()} == {"clipped": [1.0, 0.0], "step": [1.0, 2.0]}


SPREAD = '"sd": 0.1, "freedom": 3, "largest_difference": 0.2'
NOISE = (
    '{"schema": 1, "protocol": 1, "metric": "m", "dataset_fingerprint": "f", "settings": null, "runs": 2, "seeds": 1, '
    f'"smallest_margin": 0.1, "overall": {{{SPREAD}}}, "cells": [{{"model": "a", "label": "b", {SPREAD}}}]}}'
)


@pytest.mark.parametrize(
    "text",
    [
        '{"schema": 1, "cells": [], "settings": null}',
        "[]",
        "null",
        NOISE,
        NOISE.replace("null", "{}").replace(": 2", ": 1e999"),
    ],
)
def test_a_noise_floor_that_cannot_be_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "gate.json").write_text(text)
    with pytest.raises(HarnessError, match=r"gate\.json: got .*, expected what `harness gate --calibrate` writes"):
        read_noise(tmp_path)
