"""What training leaves of a cell until it is scored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.api import HarnessError
from harness.run_folder.hashes import hashes_below, unsealed
from harness.run_folder.trained import TrainedCell, read_trained, remove_trained, waits_to_be_scored, write_trained

FACTS = {
    "status": "ok",
    "reason": "",
    "start_fingerprint": "0123456789abcdef",
    "tokens_fingerprint": "tokens",
    "spend": {"pairs": 32, "flops": 1.5e9, "reference_cached": False},
    "prepared": {"gap": {"mean": 1.0, "n_eff": None}},
}


def test_the_file_is_what_it_was_before_it_had_a_type(tmp_path: Path) -> None:
    write_trained(tmp_path, TrainedCell(**FACTS))  # type: ignore[arg-type]  # a mapping of known keys
    assert unsealed((tmp_path / "trained.json").read_text()) == json.dumps(FACTS, indent=1)


def test_a_number_that_is_not_finite_is_written_as_null(tmp_path: Path) -> None:
    facts = FACTS | {"prepared": {"gap": {"mean": float("nan"), "n_eff": 1.0}}}
    write_trained(tmp_path, TrainedCell(**facts))  # type: ignore[arg-type]  # as above
    assert json.loads((tmp_path / "trained.json").read_text())["prepared"] == {"gap": {"mean": None, "n_eff": 1.0}}


def test_unknown_keys_are_kept_and_written_back(tmp_path: Path) -> None:
    text = json.dumps(FACTS | {"later": [1, 2]}, indent=1)
    (tmp_path / "trained.json").write_text(text)
    cell = read_trained(tmp_path)
    assert cell is not None
    write_trained(tmp_path, cell)
    assert unsealed((tmp_path / "trained.json").read_text()) == text


@pytest.mark.parametrize("text", ["{", "[]", '{"status": "ok"}', "3"])
def test_a_file_that_is_something_else_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "trained.json").write_text(text)
    with pytest.raises(
        HarnessError, match=r"trained\.json: got .*, expected .*; delete the file and run again"
    ) as error:
        read_trained(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("changes", "weights", "waits"),
    [
        ({}, True, True),
        ({}, False, False),
        ({"status": "diverged"}, False, True),  # nothing is scored: its record only says so
        ({"start_fingerprint": "another"}, True, False),
        ({"tokens_fingerprint": "others"}, True, False),
    ],
)
def test_a_cell_waits_to_be_scored_with_its_weights_and_its_start(
    changes: dict[str, str], weights: bool, waits: bool, tmp_path: Path
) -> None:
    assert not waits_to_be_scored(tmp_path, "0123456789abcdef", "tokens")
    write_trained(tmp_path, TrainedCell(**(FACTS | changes)))  # type: ignore[arg-type]  # as above
    if weights:
        (tmp_path / "weights").mkdir()
    assert waits_to_be_scored(tmp_path, "0123456789abcdef", "tokens") is waits
    remove_trained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_weights_that_were_damaged_since_do_not_wait_to_be_scored(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "model.safetensors").write_bytes(b"abc")
    known = hashes_below(tmp_path, (tmp_path / "weights").iterdir())
    write_trained(tmp_path, TrainedCell(**FACTS, weights=known))  # type: ignore[arg-type]  # as above
    assert waits_to_be_scored(tmp_path, "0123456789abcdef", "tokens")
    (tmp_path / "weights" / "model.safetensors").write_bytes(b"abb")
    assert not waits_to_be_scored(tmp_path, "0123456789abcdef", "tokens")
