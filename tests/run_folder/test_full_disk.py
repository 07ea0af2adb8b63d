"""A full disk is one line that names the folder, what did not fit and what to delete."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from made_records import made_record

from harness.api import HarnessError
from harness.run_folder.full_disk import print_trouble, require_room, told
from harness.run_folder.store import write_atomically, write_record
from harness.run_folder.tables import ROW_COLUMNS


def no_space(*given: Any, **options: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def check(message: str, folder: Path, what: str) -> None:
    assert message.startswith(f"the disk of {folder} is full: ")
    assert what in message
    assert "delete" in message
    assert "\n" not in message


def test_a_file_that_does_not_fit_is_named_with_its_folder_and_nothing_of_it_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_atomically(tmp_path / "manifest.json", "before")
    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(HarnessError) as error:
        write_atomically(tmp_path / "manifest.json", "after")
    check(str(error.value), tmp_path, "for manifest.json")
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]
    assert (tmp_path / "manifest.json").read_text() == "before"


def test_a_table_that_does_not_fit_is_named_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd

    monkeypatch.setattr(pd.DataFrame, "to_parquet", no_space)
    with pytest.raises(HarnessError) as error:
        write_record(tmp_path, made_record({}), pd.DataFrame({column: [1.0] for column in ROW_COLUMNS}))
    check(str(error.value), tmp_path, "for rows.parquet")


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        RuntimeError("I/O error: No space left on device (os error 28)"),  # safetensors has a type of its own
    ],
)
def test_libraries_say_it_in_their_own_ways(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(HarnessError) as raised, told(tmp_path, "weights", 3_000_000_000):
        raise error
    check(str(raised.value), tmp_path, "expected 3.00 GB for weights")


def test_another_error_is_not_taken_for_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), told(tmp_path, "weights"):
        raise PermissionError(errno.EACCES, "Permission denied")


def test_room_is_asked_for_before_a_training_that_could_not_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**10, 10**10, 2_000_000))
    require_room(tmp_path / "not" / "there", 1_999_999, "weights")
    with pytest.raises(HarnessError, match=r"2.00 MB are free, expected 0.04 GB for weights; delete"):
        require_room(tmp_path / "not" / "there", 40_000_000, "weights")


def test_a_log_on_a_full_disk_is_no_trouble_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("builtins.print", no_space)
    print_trouble("a traceback")
