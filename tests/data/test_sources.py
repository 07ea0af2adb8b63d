"""Loading by name, from folders, files and the hub, with every kind of defect made from small hand-written rows."""

from __future__ import annotations

import copy
import gzip
import hashlib
import json
import lzma
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.api import Dataset, DatasetSource, HarnessError, LoadOptions, Pair
from harness.data.assemble import assemble
from harness.data.files import read_table
from harness.data.hub import from_dataset_dict
from harness.data.layouts.table import columns_read
from harness.data.rows import pairs_of
from harness.data.sources import load, load_any

STRICT = LoadOptions()
LENIENT = LoadOptions(lenient=True)
Row = dict[str, Any]


def row(prompt: str = "What is 2 + 2?", chosen: str = "Four.", rejected: str = "Five.", **columns: object) -> Row:
    user = {"role": "user", "content": prompt}
    return {
        "prompt": prompt,
        "prompt_id": hashlib.sha256(prompt.encode()).hexdigest(),
        "chosen": [user, {"role": "assistant", "content": chosen}],
        "rejected": [user, {"role": "assistant", "content": rejected}],
        "score_chosen": 4.5,
        "score_rejected": 2.0,
        **columns,
    }


def rows(count: int, name: str = "question") -> list[Row]:
    return [row(prompt=f"{name} {index}?", chosen=f"Yes, {index}.", rejected=f"No, {index}.") for index in range(count)]


def write_jsonl(path: Path, values: Sequence[object]) -> Path:
    path.write_bytes(b"\n".join(json.dumps(value).encode() for value in values))
    return path


def write_parquet(path: Path, values: list[Row]) -> Path:
    pq.write_table(pa.Table.from_pylist(values), path)
    return path


def pairs_of_file(path: Path, options: LoadOptions) -> tuple[tuple[Pair, ...], Mapping[str, int], tuple[str, ...]]:
    """The pairs of a file, the number of rows skipped for each reason, and the notes."""
    loaded = pairs_of(read_table(path, columns_read), options)
    return loaded.rows, loaded.skipped, loaded.notes


def changed(**columns: object) -> Row:
    return row() | columns


def without(column: str) -> Row:
    return {name: value for name, value in row().items() if name != column}


def turns(*roles_and_contents: tuple[object, object]) -> list[Row]:
    return [{"role": role, "content": content} for role, content in roles_and_contents]


def rejected_content(content: object) -> Row:
    return changed(rejected=turns(("user", "What is 2 + 2?"), ("assistant", content)))


DEFECTS: Mapping[str, tuple[Row, str, tuple[str, ...]]] = {
    "score missing in one row": (without("score_rejected"), "missing score", ("score_rejected is missing", "number")),
    "score null": (changed(score_chosen=None), "non-finite score", ("score_chosen is null",)),
    "score NaN": (changed(score_chosen=float("nan")), "non-finite score", ("score_chosen is NaN",)),
    "score infinite": (changed(score_chosen=float("inf")), "non-finite score", ("score_chosen is inf",)),
    "score beyond a float": (changed(score_chosen=10**400), "non-finite score", ("score_chosen is inf",)),
    "score as text": (changed(score_chosen="5.0"), "bad score type", ("score_chosen is a str ('5.0')", "a number")),
    "score a bool": (changed(score_chosen=True), "bad score type", ("score_chosen is a bool (True)",)),
    "negative gap": (changed(score_chosen=1, score_rejected=5), "negative gap", ("1.0", "5.0", "score_rejected")),
    "content null": (rejected_content(None), "null content", ("rejected[1].content is null", "a string")),
    "content a bool": (rejected_content(True), "content not a string", ("rejected[1].content is a bool (True)",)),
    "content a number": (rejected_content(4), "content not a string", ("rejected[1].content is a int",)),
    "content missing": (
        changed(rejected=[{"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant"}]),
        "null content",
        ("rejected[1].content is missing",),
    ),
    "empty response": (rejected_content(""), "empty response", ("rejected is empty",)),
    "whitespace response": (rejected_content(" \n\t\u3000"), "empty response", ("rejected is whitespace only",)),
    "identical pair": (rejected_content("Four."), "identical pair", ("column", "chosen, rejected", "identical")),
    "lone surrogate": (rejected_content("x\ud83d"), "lone surrogate", ("rejected[1].content", "U+D83D")),
    "messages a string": (changed(chosen="Four."), "not a list of messages", ("chosen is a str ('Four.')",)),
    "messages a dict": (changed(rejected={"role": "user"}), "not a list of messages", ("rejected is a dict",)),
    "messages empty": (changed(chosen=[]), "not a list of messages", ("chosen is an empty list",)),
    "messages of strings": (changed(chosen=["a", "b"]), "not a list of messages", ("chosen[0] is a str ('a')",)),
    "messages null": (changed(chosen=None), "missing chosen", ("chosen is missing or null",)),
    "side missing in one row": (without("rejected"), "missing rejected", ("rejected is missing",)),
    "last role user": (
        changed(chosen=turns(("user", "What is 2 + 2?"), ("user", "Four."))),
        "wrong roles",
        ("chosen's last role is 'user'", "expected 'assistant'"),
    ),
    "unknown roles": (
        changed(chosen=turns(("human", "What is 2 + 2?"), ("gpt", "Four."))),
        "wrong roles",
        ("chosen[0].role is a str ('human')", "system, user, assistant"),
    ),
    "role missing": (changed(chosen=[{"content": "What is 2 + 2?"}]), "wrong roles", ("chosen[0] has no 'role'",)),
    "no user turn": (changed(chosen=turns(("assistant", "Four."))), "wrong roles", ("no turn before the response",)),
    "answer after answer": (
        changed(chosen=turns(("user", "What is 2 + 2?"), ("assistant", "3"), ("assistant", "4"))),
        "wrong roles",
        ("a turn of 'assistant' before the response",),
    ),
    "other context": (
        changed(rejected=turns(("user", "What is 2 + 3?"), ("assistant", "Five."))),
        "context mismatch",
        ("chosen, rejected", "differ"),
    ),
    "other prompt": (changed(prompt="What is 1 + 1?"), "prompt mismatch", ("prompt is a str ('What is 1 + 1?')",)),
    "prompt null": (changed(prompt=None), "null prompt", ("prompt is null",)),
    "prompt missing in one row": (without("prompt"), "null prompt", ("prompt is missing",)),
    "prompt_id a bool": (changed(prompt_id=True), "prompt_id not a string", ("prompt_id is a bool",)),
    "prompt_id empty": (changed(prompt_id=""), "empty prompt_id", ("prompt_id is empty",)),
}


@pytest.mark.parametrize("kind", DEFECTS)
def test_a_defective_row_is_an_error_that_names_file_row_line_and_column(kind: str, tmp_path: Path) -> None:
    defective, _, words = DEFECTS[kind]
    path = write_jsonl(tmp_path / "pairs.jsonl", [*rows(2), defective, *rows(1, "other")])

    with pytest.raises(HarnessError) as caught:
        pairs_of_file(path, STRICT)

    message = str(caught.value)
    for word in ("pairs.jsonl", "row 2 (line 3), column", "pass --lenient to skip such rows", *words):
        assert word in message
    assert "more row" not in message


@pytest.mark.parametrize("kind", DEFECTS)
def test_a_defective_row_is_skipped_and_counted_when_lenient(kind: str, tmp_path: Path) -> None:
    defective, reason, _ = DEFECTS[kind]
    path = write_jsonl(tmp_path / "pairs.jsonl", [*rows(2), defective, *rows(1, "other")])

    pairs, skipped, _ = pairs_of_file(path, LENIENT)

    assert [pair.prompt for pair in pairs] == ["question 0?", "question 1?", "other 0?"]
    assert skipped == {reason: 1}


LINES: Mapping[str, tuple[bytes, str, tuple[str, ...]]] = {
    "truncated": (json.dumps(row()).encode()[:-40], "invalid JSON", ("not valid JSON", "truncated")),
    "not an object": (b"[1, 2]", "not an object", ("a list", "one JSON object per line")),
    "invalid UTF-8": (b'{"prompt": "caf\xe9"}', "invalid UTF-8", ("0xe9 at offset 15 of the line, 17 of the file",)),
    "nested too deeply": (b"[" * 100_000, "invalid JSON", ("not valid JSON",)),
    "a number without end": (b'{"score_chosen": ' + b"1" * 5000 + b"}", "invalid JSON", ("too many digits",)),
}


@pytest.mark.parametrize("kind", LINES)
def test_a_line_that_cannot_be_read_is_a_row_error_that_names_the_line(kind: str, tmp_path: Path) -> None:
    line, reason, words = LINES[kind]
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(b"\n\n" + line + b"\n" + json.dumps(row()).encode() + b"\n")

    with pytest.raises(HarnessError) as caught:
        pairs_of_file(path, STRICT)
    pairs, skipped, _ = pairs_of_file(path, LENIENT)

    for word in ("pairs.jsonl", "row 0 (line 3)", *words):
        assert word in str(caught.value)
    assert len(pairs) == 1
    assert skipped == {reason: 1}


def test_several_defects_report_the_first_and_count_the_rest(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "pairs.jsonl", [row(), changed(score_chosen="x"), without("rejected"), b"".decode()])
    with pytest.raises(HarnessError, match=r"row 1 .*; 2 more rows defective$"):
        pairs_of_file(path, STRICT)


def test_a_row_error_in_parquet_names_the_row_and_no_line(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "pairs.parquet", [row(), rejected_content(None), rejected_content("")])

    with pytest.raises(HarnessError, match=r"row 1, column rejected: rejected\[1\]\.content is null.*1 more row def"):
        pairs_of_file(path, STRICT)
    pairs, skipped, _ = pairs_of_file(path, LENIENT)

    assert len(pairs) == 1
    assert skipped == {"null content": 1, "empty response": 1}


def test_parquet_text_that_is_not_utf8_is_a_row_error(tmp_path: Path) -> None:
    table = pa.Table.from_pylist(rows(2))
    prompts = pa.array([b"question 0?", b"caf\xe9"]).view(pa.string())
    pq.write_table(table.set_column(table.schema.get_field_index("prompt"), "prompt", prompts), tmp_path / "a.parquet")

    with pytest.raises(HarnessError, match=r"row 1: text is not valid UTF-8 \(byte 0xe9 at offset 3"):
        pairs_of_file(tmp_path / "a.parquet", STRICT)
    pairs, skipped, _ = pairs_of_file(tmp_path / "a.parquet", LENIENT)

    assert len(pairs) == 1
    assert skipped == {"invalid UTF-8": 1}


FILES: Mapping[str, tuple[str, bytes, tuple[str, ...]]] = {
    "empty jsonl": ("a.jsonl", b"", ("empty (0 bytes)",)),
    "empty parquet": ("a.parquet", b"", ("empty (0 bytes)",)),
    "blank lines only": ("a.jsonl", b"\xef\xbb\xbf\r\n\n \n", ("0 rows",)),
    "empty array": ("a.json", b"[]", ("0 rows",)),
    "git-lfs pointer": (
        "a.parquet",
        b"version https://git-lfs.github.com/spec/v1\noid x\n",
        ("git-lfs", "git lfs pull"),
    ),
    "not parquet": ("a.parquet", b"PAR1 and then nothing", ("not a readable parquet file",)),
    "truncated array": ("a.json", json.dumps([row()]).encode()[:-9], ("not valid JSON", "truncated")),
    "array of invalid UTF-8": ("a.json", b'[{"prompt": "\xff"}]', ("byte 0xff at offset 13",)),
    "another format": ("a.xlsx", b"PK", ("'.xlsx'", ".parquet, .jsonl, .json, .csv", ".gz")),
    "csv of a header alone": ("a.csv", b"prompt,chosen\n", ("0 rows",)),
    "csv with an open quote": ("a.csv", b'prompt,chosen\n"a,b\n', ("line 2", "not valid CSV", "truncated")),
    "csv of invalid UTF-8": ("a.csv", b'prompt\n"\xff"\n', ("line 2", "byte 0xff")),
    "truncated gzip": ("a.jsonl.gz", gzip.compress(json.dumps(row()).encode())[:-20], (".gz file", "truncated")),
    "truncated xz": ("a.jsonl.xz", lzma.compress(json.dumps(row()).encode())[:-20], (".xz file", "truncated")),
    "not zstd": ("a.jsonl.zst", b"no zstd", (".zst file",)),
    "not arrow": ("a.arrow", b"ARROW1 and then nothing", ("not a readable arrow file",)),
    "columns of other lengths": ("a.json", b'{"prompt": ["a"], "chosen": ["b", "c"]}', ("prompt 1, chosen 2",)),
    "column missing": ("a.jsonl", json.dumps(without("rejected")).encode(), ("no column 'rejected'", "prompt_id")),
    "one score column missing": (
        "a.jsonl",
        json.dumps(without("score_chosen")).encode(),
        ("no column 'score_chosen'",),
    ),
    "no usable row": ("a.jsonl", b"{\n[]", ("no usable row of 2", "invalid JSON 1", "not an object 1")),
}


@pytest.mark.parametrize("kind", FILES)
def test_a_file_that_cannot_be_used_is_an_error_lenient_or_not(kind: str, tmp_path: Path) -> None:
    name, content, words = FILES[kind]
    path = tmp_path / name
    path.write_bytes(content)

    with pytest.raises(HarnessError) as caught:
        load(str(path), LENIENT, {})
    with pytest.raises(HarnessError, match=name):
        load(str(path), STRICT, {})

    for word in (name, *words):
        assert word in str(caught.value)


def test_a_parquet_file_of_zero_rows_is_an_error(tmp_path: Path) -> None:
    pq.write_table(pa.Table.from_pylist([row()]).slice(0, 0), tmp_path / "a.parquet")
    with pytest.raises(HarnessError, match="0 rows"):
        pairs_of_file(tmp_path / "a.parquet", LENIENT)


def test_what_an_error_quotes_cannot_steer_the_terminal_and_is_short(tmp_path: Path) -> None:
    hostile = "\x1b[2J\u202eevil\x00" + "x" * 5000
    path = write_jsonl(tmp_path / "pairs\x1b[31m.jsonl", [changed(chosen=hostile), {hostile: 1}])

    with pytest.raises(HarnessError) as caught:
        pairs_of_file(path, STRICT)

    assert str(caught.value).isprintable()
    assert r"\x1b[2J\u202eevil\x00" in str(caught.value)
    assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_bom_crlf_blank_lines_bare_returns_and_no_final_newline_are_harmless(tmp_path: Path) -> None:
    lines = [json.dumps(value).encode().replace(b'{"prompt":', b'{\r"prompt":') for value in rows(3)]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n\r\n\n".join(lines))
    assert [pair.prompt for pair in pairs_of_file(path, STRICT)[0]] == ["question 0?", "question 1?", "question 2?"]


def test_text_is_unchanged_and_only_a_newline_ends_a_line(tmp_path: Path) -> None:
    odd = "a\u2028b\u2029c\u0085d\u000be\u000cf\u0000g e\u0301 \u00e9 \ufb01 \ud7ff \U0001f600 trailing \r\n\t "
    values = [row(prompt=odd, chosen=odd + "!", rejected=" " + odd)]
    (tmp_path / "a.jsonl").write_bytes(json.dumps(values[0], ensure_ascii=False).encode())
    (tmp_path / "a.json").write_bytes(json.dumps(values, ensure_ascii=False, indent=1).encode())
    write_parquet(tmp_path / "a.parquet", values)

    for name in ("a.jsonl", "a.json", "a.parquet"):
        (pair,), _, _ = pairs_of_file(tmp_path / name, STRICT)
        assert (pair.prompt, pair.chosen, pair.rejected) == (odd, odd + "!", " " + odd)


def test_a_json_file_with_one_object_a_line_loads(tmp_path: Path) -> None:
    assert len(pairs_of_file(write_jsonl(tmp_path / "a.json", rows(3)), STRICT)[0]) == 3


def test_integer_scores_unknown_columns_system_turns_and_several_turns_are_legal(tmp_path: Path) -> None:
    context = [("system", "Be brief."), ("user", "What is 2 + 2?"), ("assistant", "4"), ("user", "Sure?")]
    several = changed(
        chosen=turns(*context, ("assistant", "Yes.")),
        rejected=turns(*context, ("assistant", "No.")),
        score_chosen=5,
        score_rejected=1,
        judge={"any": ["thing"]},
    )

    (pair,), skipped, notes = pairs_of_file(write_jsonl(tmp_path / "a.jsonl", [several]), STRICT)

    assert [(turn.role, turn.content) for turn in pair.context] == context
    assert (pair.prompt, pair.chosen, pair.rejected) == ("Sure?", "Yes.", "No.")
    assert (pair.score_chosen, pair.score_rejected) == (5.0, 1.0)
    assert (skipped, notes) == ({}, ())


def test_without_score_columns_scores_are_nan_and_a_note_says_what_is_lost(tmp_path: Path) -> None:
    bare = [{name: value for name, value in each.items() if not name.startswith("score")} for each in rows(2)]
    pairs, _, notes = pairs_of_file(write_jsonl(tmp_path / "a.jsonl", bare), STRICT)
    assert all(pair.score_chosen != pair.score_chosen for pair in pairs)
    assert any("no annotation scores" in note and "score-weighted" in note for note in notes)


def test_without_prompt_ids_the_hash_of_the_prompt_stands_in(tmp_path: Path) -> None:
    pairs, _, notes = pairs_of_file(write_jsonl(tmp_path / "a.jsonl", [without("prompt_id")]), STRICT)
    assert pairs[0].prompt_id == row()["prompt_id"]  # the hand-written rows use the same rule
    assert any("no prompt_id" in note for note in notes)


def test_ties_copies_and_reused_prompt_ids_are_kept_and_counted(tmp_path: Path) -> None:
    tie = row("a", score_chosen=2)
    reused = row("b", prompt_id=tie["prompt_id"])
    second_id = row("a", chosen="Other.", prompt_id="second")
    path = write_jsonl(tmp_path / "a.jsonl", [tie, reused, tie, second_id])

    pairs, skipped, notes = pairs_of_file(path, STRICT)

    assert skipped == {}
    assert [pair.prompt for pair in pairs] == ["a", "b", "a", "a"]
    assert pairs[0].prompt_id == pairs[2].prompt_id == pairs[3].prompt_id == tie["prompt_id"]
    assert pairs[1].prompt_id != tie["prompt_id"]
    assert len({pair.pair_id for pair in pairs}) == 4
    for words in (
        "2 ties",
        "reused prompt_id (suspect): 1 row",
        "copies of an earlier pair: 1 row",
        "second prompt_id",
    ):
        assert any(words in note for note in notes)


def test_a_pair_has_one_id_in_every_file_and_format(tmp_path: Path) -> None:
    forwards = pairs_of_file(write_jsonl(tmp_path / "a.jsonl", rows(5)), STRICT)[0]
    backwards = pairs_of_file(write_parquet(tmp_path / "b.parquet", rows(5)[::-1]), STRICT)[0]
    assert forwards == backwards[::-1]
    assert forwards[0].pair_id.startswith(forwards[0].prompt_id[:12])


def folder_of(tmp_path: Path, **files: list[Row]) -> str:
    for stem, values in files.items():
        write_parquet(tmp_path / f"{stem}.parquet", values)
    return str(tmp_path)


def texts(pairs: Sequence[Pair]) -> set[str]:
    return {pair.prompt for pair in pairs}


def test_a_folder_with_every_split_is_read_as_it_is(tmp_path: Path) -> None:
    ranked = {"prompt": "test 0?", "prompt_id": "t0", "responses": []}
    answers = [{"model": name, "content": f"By {name}.", "score": 1.5} for name in ("one", "two", "two")]
    sft = {"prompt": "sft?", "prompt_id": "s", "messages": row("sft?")["chosen"]}
    name = folder_of(
        tmp_path,
        train_prefs=rows(4),
        dev_prefs=rows(2, "dev"),
        test_prefs=rows(3, "test"),
        test_prefs_lenbalanced=rows(1, "test"),
        listwise_test=[ranked | {"responses": answers}],
        train_sft=[sft],
    )

    dataset = load(name, STRICT, {})

    sizes = [len(split) for split in (dataset.train, dataset.dev, dataset.test, dataset.test_lenbalanced)]
    assert sizes == [4, 2, 3, 1]
    assert [response.response_id for response in dataset.listwise_test[0].responses] == ["one", "two", "two-2"]
    assert [response.text for response in dataset.listwise_test[0].responses] == ["By one.", "By two.", "By two."]
    assert [(context[0].content, response) for context, response in dataset.sft] == [("sft?", "Four.")]
    assert (dataset.skipped, dataset.source) == ({}, name)
    (note,) = dataset.notes
    assert note.startswith("taken for: chosen and rejected conversations (columns prompt, chosen, rejected, score_")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"content": "Text.", "model": "a", "score": None}, r"responses\[1\]\.score is null"),
        ({"content": " ", "model": "a", "score": 1.0}, r"the response of responses\[1\] is whitespace only"),
        ({"content": None, "model": "a", "score": 1.0}, r"responses\[1\]\.content is null"),
    ],
)
def test_a_defective_listwise_response_is_an_error(entry: Row, words: str, tmp_path: Path) -> None:
    good = {"content": "Text.", "model": "b", "score": 1.0}
    ranked = {"prompt": "test 0?", "prompt_id": "t0", "responses": [good, entry]}
    name = folder_of(tmp_path, train_prefs=rows(2), listwise_test=[ranked])
    with pytest.raises(HarnessError, match=r"listwise_test\.parquet: row 0, column responses: " + words):
        load(name, STRICT, {})


def test_a_missing_dev_split_is_a_tenth_of_the_prompts_of_train(tmp_path: Path) -> None:
    train = [row(f"question {index % 40}?", chosen=f"Yes {index}.") for index in range(120)]
    name = folder_of(tmp_path, train_prefs=train, test_prefs=rows(3, "test"))

    dataset = load(name, STRICT, {})

    assert len(texts(dataset.dev)) == 4
    assert len(dataset.dev) == 12
    assert not texts(dataset.dev) & texts(dataset.train)
    assert any(
        "dev: no such data, so carved from train" in note and "4 prompts, 12 pairs" in note for note in dataset.notes
    )
    assert load(name, STRICT, {}) == dataset
    assert any(texts(load(name, LoadOptions(seed=seed), {}).dev) != texts(dataset.dev) for seed in (1, 2, 3))


def test_a_single_file_is_split_80_10_10_by_prompt(tmp_path: Path) -> None:
    everything = [row(f"question {index % 50}?", chosen=f"Yes {index}.") for index in range(100)]

    dataset = load(str(write_jsonl(tmp_path / "pairs.jsonl", everything)), STRICT, {})

    splits = [texts(split) for split in (dataset.train, dataset.dev, dataset.test)]
    assert [len(split) for split in splits] == [40, 5, 5]
    assert len(set.union(*splits)) == 50
    assert len(dataset.train) + len(dataset.dev) + len(dataset.test) == 100
    assert dataset.name == "pairs"
    assert [note.partition(":")[0] for note in dataset.notes] == ["taken for", "test", "dev"]


@pytest.mark.parametrize(("prompts", "sizes"), [(1, (1, 0, 0)), (3, (2, 0, 1)), (10, (8, 1, 1)), (19, (17, 1, 1))])
def test_small_files_keep_something_to_train_on(prompts: int, sizes: tuple[int, int, int], tmp_path: Path) -> None:
    dataset = load(str(write_jsonl(tmp_path / "pairs.jsonl", rows(prompts))), STRICT, {})
    assert (len(dataset.train), len(dataset.dev), len(dataset.test)) == sizes


def test_train_dev_and_sft_lose_every_prompt_of_test_by_id_or_by_text(tmp_path: Path) -> None:
    same_text = row("test 0?", prompt_id="another id")
    same_id = row("reworded?", prompt_id=row("test 1?")["prompt_id"])
    length_balanced = row("balanced 0?", chosen="Oh.")
    leaked = {"prompt_id": "x", "messages": row("test 2?")["chosen"]}
    kept = {"prompt_id": "y", "messages": row("kept?")["chosen"]}
    name = folder_of(
        tmp_path,
        train_prefs=[*rows(4), same_text, same_id, length_balanced, row("dev 1?")],
        dev_prefs=[*rows(2, "dev"), row("test 2?")],
        test_prefs=rows(3, "test"),
        test_prefs_lenbalanced=rows(1, "balanced"),
        train_sft=[leaked, kept],
    )

    dataset = load(name, STRICT, {})

    assert texts(dataset.train) == texts_of(rows(4))
    assert texts(dataset.dev) == {"dev 0?", "dev 1?"}
    assert texts(dataset.test) == {"test 0?", "test 1?", "test 2?"}
    assert [context[0].content for context, _ in dataset.sft] == ["kept?"]
    assert dataset.skipped == {
        "train prompt also in test": 3,
        "dev prompt also in test": 1,
        "train prompt also in dev": 1,
        "sft prompt also in test": 1,
    }
    assert any(note.startswith("train: 3 rows dropped") for note in dataset.notes)


def texts_of(values: Sequence[Row]) -> set[str]:
    return {value["prompt"] for value in values}


def test_train_data_that_is_all_test_data_is_an_error(tmp_path: Path) -> None:
    name = folder_of(tmp_path, train_prefs=rows(3), test_prefs=rows(3))
    with pytest.raises(HarnessError, match="no training pair"):
        load(name, STRICT, {})


def test_a_folder_without_train_lists_its_files_and_what_is_expected(tmp_path: Path) -> None:
    (tmp_path / "train_prefs.xlsx").write_text("prompt\n")
    with pytest.raises(HarnessError, match=r"train_prefs\.xlsx.*expected train_prefs or train with one of \.parquet"):
        load(str(tmp_path), STRICT, {})


def test_two_files_for_one_split_are_an_error(tmp_path: Path) -> None:
    name = folder_of(tmp_path, train=rows(3), train_prefs=rows(3))
    with pytest.raises(HarnessError, match=r"got train\.parquet and train_prefs\.parquet for the train split"):
        load(name, STRICT, {})


def test_data_files_that_are_not_read_are_named(tmp_path: Path) -> None:
    name = folder_of(tmp_path, train=rows(3), test=rows(1, "test"), scores=[{"a": 1}])
    assert any("data files not read: scores.parquet" in note for note in load(name, STRICT, {}).notes)


def named_source(name: str) -> tuple[DatasetSource, Dataset]:
    dataset = Dataset(name=name, train=(), dev=(), test=())
    return DatasetSource(name=name, load=lambda options: dataset), dataset


def test_a_name_that_a_plugin_brings_goes_before_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "embedded").mkdir()
    monkeypatch.chdir(tmp_path)
    source, dataset = named_source("embedded")

    assert load("embedded", STRICT, {"embedded": source}) is dataset
    with pytest.raises(HarnessError, match="got files none"):
        load("./embedded", STRICT, {"embedded": source})


@pytest.mark.parametrize("name", ["embeded", "", "no/such/folder", "x" * 5000, "nul\0byte"])
def test_an_unknown_name_lists_the_names_and_formats_there_are(name: str) -> None:
    source, _ = named_source("embedded")
    with pytest.raises(HarnessError, match=r"expected one of embedded.*folder.*\.parquet, \.jsonl, \.json"):
        load(name, STRICT, {"embedded": source})


def hub_data(defective: int = 0) -> Any:
    import datasets

    empty = [row(f"empty {index}?", chosen="") for index in range(defective)]
    sft = [{"prompt_id": "s", "messages": row("sft?")["chosen"]}]
    splits = {"train_prefs": [*rows(20), *empty], "test_prefs": rows(4, "test"), "train_sft": sft, "test_gen": rows(1)}
    return datasets.DatasetDict({name: datasets.Dataset.from_list(values) for name, values in splits.items()})


def assembled(splits: Any) -> Dataset:
    return assemble(from_dataset_dict(splits, "mine", "abc", STRICT), STRICT)


def test_a_dataset_dict_gives_the_same_pairs_as_a_folder_of_the_same_rows(tmp_path: Path) -> None:
    name = folder_of(tmp_path, train_prefs=rows(20), test_prefs=rows(4, "test"))

    hub, local = assembled(hub_data()), load(name, STRICT, {})

    assert (hub.train, hub.dev, hub.test) == (local.train, local.dev, local.test)
    assert (hub.name, hub.source, len(hub.sft)) == ("mine", "mine@abc", 1)


def test_a_dataset_dict_is_strict_when_asked(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"mine train_prefs: row 20, column chosen: .* is empty"):
        assembled(hub_data(defective=1))
    with pytest.raises(HarnessError, match="got splits other, expected train_prefs or train"):
        from_dataset_dict({"other": None}, "mine", "abc", STRICT)


def test_loading_leaves_the_rows_it_was_given_alone() -> None:
    data = hub_data()
    before = copy.deepcopy(data["train_prefs"].to_list())
    assembled(data)
    assert data["train_prefs"].to_list() == before


@pytest.mark.parametrize(("name", "text"), [("pairs.json", "{}"), ("pairs.json", "[{}]"), ("pairs.jsonl", "{}\n{}\n")])
def test_rows_without_a_column_are_refused_in_words(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    for lenient in (False, True):
        with pytest.raises(HarnessError, match=name):
            load_any(str(tmp_path / name), LoadOptions(lenient=lenient), {})
