"""Damage to files is found by their hashes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest
from made_records import made_record

from harness.api import HarnessError
from harness.run_folder.hashes import damaged, hashes_below, sealed, unsealed
from harness.run_folder.paths import WEIGHTS
from harness.run_folder.store import read_record, write_record
from harness.run_folder.tables import (
    JUDGEMENT_COLUMNS,
    JUDGEMENT_NUMBERS,
    RESPONSE_COLUMNS,
    ROW_COLUMNS,
    judgement_columns,
    read_judgements,
    write_judgements,
)

FACTS = {"status": "ok", "value": 0.25, "inner": {"name": "ä", "list": [1, 2]}}
ROWS, RESPONSES = (pd.DataFrame({name: [0.5] for name in columns}) for columns in (ROW_COLUMNS, RESPONSE_COLUMNS))


@pytest.mark.parametrize(("indent", "end"), [(1, ""), (2, "\n")])
def test_a_sealed_object_is_that_object_and_ends_with_the_hash_of_its_text(indent: int, end: str) -> None:
    text = json.dumps(FACTS, indent=indent) + end
    assert json.loads(sealed(text)).items() >= FACTS.items()
    assert list(json.loads(sealed(text)))[-1] == "sha256"
    assert unsealed(sealed(text)) == text
    assert unsealed(text) == text  # a file of an earlier version


def test_no_bit_that_flips_in_a_sealed_object_changes_what_is_read() -> None:
    whole = sealed(json.dumps(FACTS, indent=1)).encode()
    for place in range(len(whole)):
        for bit in range(8):
            flipped = bytearray(whole)
            flipped[place] ^= 1 << bit
            try:
                read = json.loads(unsealed(flipped.decode()))
            except ValueError:
                continue
            assert {name: read.get(name) for name in FACTS} == FACTS, flipped


def test_a_cut_of_a_sealed_object_is_found() -> None:
    whole = sealed(json.dumps(FACTS, indent=1))
    for length in range(len(whole)):
        with pytest.raises(ValueError):  # noqa: PT011 # each decoder has its own words
            json.loads(unsealed(whole[:length]))


def _judgements() -> pd.DataFrame:
    """Return what a judge said of two answers."""
    said: dict[str, list[object]] = {
        "prompt_id": ["p1", "p2"],
        "sample": [0, 1],
        "against": ["base", "base"],
        "order": [0, 1],
        "repeat": [0, 0],
        "preference": [0.75, None],
        "rating": [None, None],
        "reason": ["", "no verdict"],
        "judge": ["one", "one"],
    }
    table = pd.DataFrame(said).astype(JUDGEMENT_NUMBERS)
    table.attrs = {"answers": "sha256:ab", "asked": "cd"}
    return table


def test_no_bit_that_flips_in_a_judges_table_changes_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "judgements" / "one.parquet"
    write_judgements(path, _judgements())
    whole, found = path.read_bytes(), 0
    frame, columns = read_judgements(path), judgement_columns(path)
    pd.testing.assert_frame_equal(frame, _judgements())
    for place in range(0, len(whole), 11):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        for read in (lambda: read_judgements(path), lambda: judgement_columns(path)):
            try:
                got = read()
            except HarnessError:
                found += 1
                continue
            for name in JUDGEMENT_COLUMNS:
                before = frame if isinstance(got, pd.DataFrame) else columns
                assert list(map(repr, got[name])) == list(map(repr, before[name])), (place, name)
    assert found > len(whole) / 22


@pytest.mark.parametrize("change", [{"preference": 0.5}, {"reason": "x"}, {"sample": 3}, {"judge": "another"}])
def test_a_value_that_changed_in_a_judges_table_is_found_by_the_hash_in_it(
    tmp_path: Path, change: Mapping[str, object]
) -> None:
    path = tmp_path / "judgements" / "one.parquet"
    write_judgements(path, _judgements())
    changed = pd.read_parquet(path)
    changed.loc[0, list(change)] = list(change.values())
    changed.to_parquet(path, index=False)
    for read in (lambda: read_judgements(path), lambda: judgement_columns(path)):
        with pytest.raises(HarnessError, match=r"got other values than were written.*delete it and judge again"):
            read()


def test_a_table_that_is_damaged_is_named_when_it_is_read(tmp_path: Path) -> None:
    record = write_record(tmp_path, made_record({"key": "a"}), ROWS, RESPONSES)
    assert len(record.rows()) == 1
    ROWS.assign(reward_chosen=0.75).to_parquet(tmp_path / "rows.parquet")
    for read in (record.rows, lambda: record.columns("rows.parquet", ["reward_chosen"])):
        with pytest.raises(HarnessError, match=r"rows\.parquet: got other bytes than its record knows by their sha256"):
            read()
    assert len(record.responses()) == 1


def test_a_number_that_changed_in_a_record_is_named_when_it_is_read(tmp_path: Path) -> None:
    write_record(tmp_path, made_record({"key": "a"}), ROWS, RESPONSES)
    path = tmp_path / "record.json"
    assert '"protocol": 1' in path.read_text()
    path.write_text(path.read_text().replace('"protocol": 1', '"protocol": 3'))
    with pytest.raises(HarnessError, match=r"record\.json: got a text with another hash than its key sha256, expected"):
        read_record(tmp_path)


def test_a_record_that_is_written_again_is_sealed_again(tmp_path: Path) -> None:
    first = write_record(tmp_path, made_record({"key": "a"}), ROWS, RESPONSES)
    write_record(tmp_path, read_record(tmp_path).model_copy(update={"reason": "another"}), ROWS, RESPONSES)
    assert (first.reason, read_record(tmp_path).reason) == ("", "another")
    assert (tmp_path / "record.json").read_text().count('"sha256"') == 1


def test_files_are_known_by_their_hashes(tmp_path: Path) -> None:
    (tmp_path / WEIGHTS).mkdir()
    for name in ("one", "two"):
        (tmp_path / WEIGHTS / name).write_text(name)
    known = hashes_below(tmp_path, (tmp_path / WEIGHTS).iterdir())
    assert damaged(tmp_path, known) == []
    (tmp_path / WEIGHTS / "one").write_text("other")
    (tmp_path / WEIGHTS / "two").unlink()
    assert damaged(tmp_path, known) == [f"{WEIGHTS}/one", f"{WEIGHTS}/two"]
