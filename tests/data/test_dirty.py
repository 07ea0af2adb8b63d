"""Malformed files made from real rows: every defect is one clear error, or a counted skip; never a bare traceback."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.api import HarnessError, LoadOptions, Pair
from harness.data.files import read_table
from harness.data.layouts.table import columns_read
from harness.data.rows import pairs_of

FILES = (
    "01_missing_column.jsonl",
    "02_missing_key_one_row.jsonl",
    "03_null_content.jsonl",
    "03_null_content.parquet",
    "04_empty_response.jsonl",
    "05_chosen_equals_rejected.jsonl",
    "06_scores_swapped.jsonl",
    "07_score_tie.parquet",
    "08_score_nan_null_inf.parquet",
    "09_nan_literal.jsonl",
    "10_score_string.jsonl",
    "11_messages_not_list.jsonl",
    "12_unicode_ok.jsonl",
    "12_unicode_ok.parquet",
    "13_lone_surrogate.jsonl",
    "14_invalid_utf8.jsonl",
    "15_long_response_200k.parquet",
    "16_duplicate_prompt_ids.jsonl",
    "17_wrong_roles.jsonl",
    "18_prompt_mismatch.jsonl",
    "19_prompt_field_mismatch.jsonl",
    "20_truncated.parquet",
    "21_truncated_line.jsonl",
    "22_crlf_blank_lines_bom_ok.jsonl",
    "23_bom.csv",
    "24_empty_file.jsonl",
    "24_empty_file.parquet",
    "25_zero_rows.parquet",
    "26_lfs_pointer.parquet",
    "27_json_array.json",
    "28_content_not_string.jsonl",
    "29_int_scores_extra_columns_ok.jsonl",
)
WHOLE_FILE = {
    "01_missing_column.jsonl": ("no column 'rejected'", "score_chosen"),
    "20_truncated.parquet": ("not a readable parquet file",),
    "24_empty_file.jsonl": ("empty (0 bytes)",),
    "24_empty_file.parquet": ("empty (0 bytes)",),
    "25_zero_rows.parquet": ("0 rows",),
    "26_lfs_pointer.parquet": ("git-lfs",),
}
"""Files that cannot be used at all, with words of their error."""
KEPT = {"07_score_tie.parquet": 5, "19_prompt_field_mismatch.jsonl": 3}
"""Where the standard leaves a choice: a tie is kept; a row whose prompt is not its first user turn is defective."""
REASONS = {
    "02_missing_key_one_row.jsonl": "missing score",
    "03_null_content.jsonl": "null content",
    "03_null_content.parquet": "null content",
    "04_empty_response.jsonl": "empty response",
    "05_chosen_equals_rejected.jsonl": "identical pair",
    "06_scores_swapped.jsonl": "negative gap",
    "08_score_nan_null_inf.parquet": "non-finite score",
    "09_nan_literal.jsonl": "non-finite score",
    "10_score_string.jsonl": "bad score type",
    "11_messages_not_list.jsonl": "not a list of messages",
    "13_lone_surrogate.jsonl": "lone surrogate",
    "14_invalid_utf8.jsonl": "invalid UTF-8",
    "17_wrong_roles.jsonl": "wrong roles",
    "18_prompt_mismatch.jsonl": "context mismatch",
    "19_prompt_field_mismatch.jsonl": "prompt mismatch",
    "21_truncated_line.jsonl": "invalid JSON",
    "28_content_not_string.jsonl": "content not a string",
}
NO_COLUMN = ("(bytes)", "(line 4)")
STRICT = LoadOptions()
LENIENT = LoadOptions(lenient=True)


def pairs_of_file(path: Path, options: LoadOptions) -> tuple[tuple[Pair, ...], Mapping[str, int], tuple[str, ...]]:
    """The pairs of a file, the number of rows skipped for each reason, and the notes."""
    loaded = pairs_of(read_table(path, columns_read), options)
    return loaded.rows, loaded.skipped, loaded.notes


@pytest.fixture(scope="module")
def dirty(test_data: Path) -> Path:
    return test_data / "dirty"


@pytest.fixture(scope="module")
def expected(dirty: Path) -> Mapping[str, Mapping[str, Any]]:
    return {entry["file"]: entry for entry in json.loads((dirty / "expect.json").read_text("utf-8"))}


def test_every_file_of_the_standard_is_tested(expected: Mapping[str, Any]) -> None:
    assert set(FILES) == set(expected)


@pytest.mark.parametrize("file", FILES)
def test_a_strict_load_gives_every_row_or_one_error_that_says_where(
    file: str, dirty: Path, expected: Mapping[str, Mapping[str, Any]]
) -> None:
    if file not in WHOLE_FILE and file not in REASONS:
        pairs, skipped, _ = pairs_of_file(dirty / file, STRICT)
        assert len(pairs) == expected[file]["rows_total"]
        assert skipped == {}
        return

    with pytest.raises(HarnessError) as caught:
        pairs_of_file(dirty / file, STRICT)

    message = str(caught.value)
    assert file in message
    assert message.isprintable()
    assert all(word in message for word in WHOLE_FILE.get(file, ()))
    if file in REASONS:
        bad, column = expected[file]["bad_rows"], expected[file]["column"]
        where = f"row {bad[0]} (line {bad[0] + 1})" if file.endswith(".jsonl") else f"row {bad[0]},"
        assert where in message
        assert "pass --lenient" in message
        assert column in NO_COLUMN or any(
            f" {name}" in message.partition(where)[2] for name in re.split("[ ,/]+", column)
        )
        if len(bad) > 1:
            assert f"{len(bad) - 1} more row" in message


@pytest.mark.parametrize("file", FILES)
def test_a_lenient_load_keeps_the_good_rows_and_counts_the_others(
    file: str, dirty: Path, expected: Mapping[str, Mapping[str, Any]]
) -> None:
    if file in WHOLE_FILE:
        with pytest.raises(HarnessError, match=file):
            pairs_of_file(dirty / file, LENIENT)
        return

    pairs, skipped, _ = pairs_of_file(dirty / file, LENIENT)

    kept = KEPT.get(file, expected[file]["rows_good"])
    left_out = expected[file]["rows_total"] - kept
    assert len(pairs) == kept
    assert skipped == ({REASONS[file]: left_out} if left_out else {})
    assert len({pair.pair_id for pair in pairs}) == kept


@pytest.mark.parametrize("file", ["12_unicode_ok.jsonl", "12_unicode_ok.parquet"])
def test_unusual_characters_come_through_unchanged(file: str, dirty: Path) -> None:
    raw = [json.loads(line) for line in (dirty / "12_unicode_ok.jsonl").read_bytes().split(b"\n") if line.strip()]

    pairs, _, _ = pairs_of_file(dirty / file, STRICT)

    assert [pair.prompt for pair in pairs] == [row["prompt"] for row in raw]
    assert [pair.chosen for pair in pairs] == [row["chosen"][-1]["content"] for row in raw]
    assert [pair.rejected for pair in pairs] == [row["rejected"][-1]["content"] for row in raw]


def test_a_response_of_200000_characters_is_not_cut(dirty: Path) -> None:
    pairs, _, _ = pairs_of_file(dirty / "15_long_response_200k.parquet", STRICT)
    assert len(pairs[1].rejected) == 200_000


def test_a_tie_is_counted(dirty: Path) -> None:
    _, _, notes = pairs_of_file(dirty / "07_score_tie.parquet", STRICT)
    assert any("1 tie " in note for note in notes)


def test_a_reused_prompt_id_is_told_and_gets_a_cluster_of_its_own(dirty: Path) -> None:
    pairs, _, notes = pairs_of_file(dirty / "16_duplicate_prompt_ids.jsonl", STRICT)

    assert any("reused prompt_id (suspect): 1 row" in note for note in notes)
    assert any("exact copies of an earlier pair: 1 row" in note for note in notes)
    assert pairs[2].prompt_id != pairs[0].prompt_id
    assert pairs[4].prompt_id == pairs[1].prompt_id


@pytest.mark.parametrize(
    ("folder", "test_pairs"),
    [("alpacaeval-graded", 395), ("second-real/pandalm_human", 103), ("second-real/vicuna_eval_gpt4", 43)],
)
def test_real_folders_load_strictly_and_share_no_prompt_between_splits(
    folder: str, test_pairs: int, test_data: Path
) -> None:
    from harness.data.sources import load

    dataset = load(str(test_data / folder), STRICT, {})

    assert len(dataset.test) == test_pairs
    assert dataset.dev
    prompts = [{pair.prompt for pair in split} for split in (dataset.train, dataset.dev, dataset.test)]
    assert not prompts[0] & prompts[1]
    assert not (prompts[0] | prompts[1]) & prompts[2]
