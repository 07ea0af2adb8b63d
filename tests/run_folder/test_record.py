"""record.json as a type: checked once where it is read, unknown keys kept, one schema for code and documentation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_records import PLAIN, made_record

from harness.api import HarnessError
from harness.run_folder.board_key import BoardKey
from harness.run_folder.facts import DataFacts
from harness.run_folder.record import parse_record
from harness.run_folder.record_table import record_table

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"status": "splendid"}, "got status = 'splendid', expected one of ok, diverged, failed"),
        ({"kind": "cell"}, "got kind = 'cell', expected one of loss, reference"),
        ({"seed": "zero"}, "got seed = 'zero', expected a whole number"),
        ({"seed": None}, "got seed = None, expected a whole number"),
        ({"seed": True}, "got seed = True, expected a whole number"),
        ({"model": "qwen"}, "got model = 'qwen', expected an object"),
        ({"model": {}}, "got no model.name"),
        ({"loss": {"name": "simpo", "options": None}}, "got loss.options = None, expected an object"),
        ({"metrics": {"brier": "good"}}, "got metrics.brier = 'good', expected a number or null"),
        ({"tokens_fingerprint": None}, "got a scored cell without tokens_fingerprint"),
        ({"dataset": {"fingerprint": "data"}}, "got a scored cell without .*dataset.test_pairs"),
        ({"spend": {"seconds": "long"}}, "got spend.seconds = 'long', expected a number or null"),
    ],
)
def test_a_record_that_cannot_be_is_named_by_file_and_field(fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(HarnessError, match=rf"cells/a/record\.json: {problem}"):
        parse_record(Path("cells/a"), json.dumps({**PLAIN, **fields}))


@pytest.mark.parametrize("name", sorted(PLAIN.keys() - {"tokens_fingerprint", "seed"}))
def test_a_record_without_one_of_its_fields_is_refused(name: str) -> None:
    fields = {key: value for key, value in PLAIN.items() if key != name}
    with pytest.raises(HarnessError, match=rf"got no {name}, expected one"):
        parse_record(Path("a"), json.dumps(fields))


def test_what_this_version_does_not_know_is_kept_at_every_level() -> None:
    more = {"new": [1, {"a": None}], "loss": {"name": "simpo", "options": {}, "family": "margin"}, "board": {"gpu": 2}}
    record = made_record(more)
    assert {name: record.as_json()[name] for name in more} == more
    assert record.as_json() == {**PLAIN, **more}  # nothing is added either


def test_null_stands_for_the_default_of_a_key_that_may_be_missing() -> None:
    nulls = {"reason": None, "metric_reasons": None, "prepared": None, "environment": None}
    inner = {"scorer": {"note": None}, "loss": {"name": "simpo", "options": {}, "tags": None}}
    data = {"dataset": {"fingerprint": "data", "test_pairs": 1, "notes": None, "skipped": None}}
    record = made_record({**nulls, **inner, **data})
    assert (record.reason, record.metric_reasons, record.prepared, record.scorer.note) == ("", {}, {}, "")
    assert (record.loss.tags, record.dataset.notes, record.dataset.skipped) == ((), (), {})
    assert record.environment.models_side_by_side == 1
    assert made_record({"learning_rate": None}).as_json()["learning_rate"] is None  # null is its default


def test_a_count_may_be_written_as_a_whole_float() -> None:
    record = made_record({"spend": {"tokens": 123.0}})
    assert (record.spend.tokens, type(record.spend.tokens)) == (123, int)


def test_facts_of_a_plugin_are_taken_as_json_would_have_them() -> None:
    counted = {"skipped": {"empty": np.int64(3)}, "notes": ["one"], "train_pairs": np.int64(5)}
    facts = DataFacts.of({"name": "mine", "source": Path("/data"), "fingerprint": "f", **counted})
    assert facts.as_json() == {
        "name": "mine", "source": "/data", "fingerprint": "f", "train_pairs": 5, "skipped": {"empty": 3},
        "notes": ["one"],
    }  # fmt: skip


def test_the_committed_records_are_written_back_as_they_are() -> None:
    paths = sorted((ROOT / "leaderboards" / "nano").glob("cells/*/record.json"))
    assert len(paths) == 69
    for path in paths:
        record = parse_record(path.parent, path.read_text(encoding="utf-8"))
        written, read = json.dumps(record.as_json(), sort_keys=True), json.loads(path.read_text(encoding="utf-8"))
        assert written == json.dumps(read, sort_keys=True)


def test_a_record_is_not_changed_but_copied() -> None:
    record = made_record({})
    with pytest.raises(ValueError, match="frozen"):
        record.label = "another"


def test_board_keys_are_equal_where_all_their_settings_are_also_unknown_ones() -> None:
    one, same = BoardKey.of({"budget": "pairs=64", "new": 1}), BoardKey.of({"new": 1, "budget": "pairs=64"})
    other = BoardKey.of({"budget": "pairs=64", "new": 2})
    assert len({one, same, other}) == 2
    assert one.differing(other) == {"new": (1, 2)}
    assert BoardKey.of({"budget": "pairs=64"}).differing(BoardKey.of({"limit": 3})) == {
        "budget": ("pairs=64", None), "limit": (None, 3)
    }  # fmt: skip


def test_the_documented_table_of_a_record_is_made_from_its_type() -> None:
    assert record_table() in (ROOT / "docs" / "run-folder.md").read_text(encoding="utf-8")
