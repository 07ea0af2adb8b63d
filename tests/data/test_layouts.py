"""Layouts, readings and splits of the field from small hand-written rows: every kind, and its defective rows."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness.api import Dataset, HarnessError, LoadOptions, Pair
from harness.data.sources import load

Row = dict[str, Any]
STRICT, LENIENT = LoadOptions(), LoadOptions(lenient=True)
ROWS = 20


def user(text: str) -> Row:
    return {"role": "user", "content": text}


def assistant(text: str) -> Row:
    return {"role": "assistant", "content": text}


def system(text: str) -> Row:
    return {"role": "system", "content": text}


def conversations(n: int, *before: Row) -> Row:
    context = [*before, user(f"q{n}")]
    return {"chosen": [*context, assistant("yes")], "rejected": [*context, assistant("no")]}


def texts(n: int, **columns: object) -> Row:
    return {"prompt": f"q{n}", "chosen": "yes", "rejected": "no", **columns}


def transcript(n: int, answer: str, blank: str = "\n\n") -> str:
    return f"{blank}Human: hi{blank}Assistant: Yes?{blank}Human: q{n}{blank}Assistant: {answer}"


def written(path: Path, make: Callable[[int], Row], first: int = 0, rows: int = ROWS) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(make(n)) for n in range(first, first + rows)), encoding="utf-8")
    return path


def loaded(path: Path, options: LoadOptions = STRICT) -> Dataset:
    return load(str(path), options, {})


def all_pairs(dataset: Dataset) -> list[Pair]:
    return sorted((*dataset.train, *dataset.dev, *dataset.test), key=lambda pair: int(last(pair)[1:]))


def last(pair: Pair) -> str:
    """The last line of the prompt: `q7` in every layout here."""
    return pair.prompt.splitlines()[-1]


Q = ("user", "q1")
HI = (("user", "hi"), ("assistant", "Yes?"))
BRIEF = ("system", "Be brief.")
LAYOUTS: Mapping[str, tuple[Callable[[int], Row], tuple[tuple[str, str], ...], str]] = {
    "transcripts": (
        lambda n: {"chosen": transcript(n, "yes"), "rejected": transcript(n, "no")},
        (*HI, Q),
        "transcripts",
    ),
    "transcripts with single line breaks": (
        lambda n: {"chosen": transcript(n, "yes", "\n"), "rejected": transcript(n, "no", "\n")},
        (*HI, Q),
        "transcripts",
    ),
    "transcripts beside their prompt": (
        lambda n: {"prompt": transcript(n, ""), "chosen": transcript(n, "yes"), "rejected": transcript(n, "no")},
        (*HI, Q),
        "transcripts",
    ),
    "a transcript as prompt": (
        lambda n: texts(n, prompt=transcript(n, ""), chosen=" yes", rejected=" no"),
        (*HI, Q),
        "texts",
    ),
    "texts": (texts, (Q,), "texts"),
    "a question": (lambda n: {"question": f"q{n}", "chosen": "yes", "rejected": "no"}, (Q,), "texts"),
    "an instruction with input": (
        lambda n: {"instruction": "Do this:", "input": f"q{n}", "chosen": "yes", "rejected": "no"},
        (("user", "Do this:\nq1"),),
        "texts",
    ),
    "a question about a document": (
        lambda n: {"question": f"q{n}", "context": "A text.", "chosen": "yes", "rejected": "no"},
        (("user", "A text.\n\nq1"),),
        "texts",
    ),
    "a system prompt": (lambda n: texts(n, system="Be brief."), (BRIEF, Q), "texts"),
    "an empty system prompt": (lambda n: texts(n, system=""), (Q,), "texts"),
    "no prompt column": (lambda n: conversations(n, system("Be brief.")), (BRIEF, Q), "conversations"),
    "a prompt that is null in every row": (lambda n: conversations(n) | {"prompt": None}, (Q,), "conversations"),
    "a prompt of turns beside conversations": (
        lambda n: conversations(n, system("Be brief.")) | {"prompt": [system("Be brief."), user(f"q{n} ")]},
        (BRIEF, Q),
        "conversations",
    ),
    "a prompt of turns and last turns": (
        lambda n: {"prompt": [user(f"q{n}")], "chosen": [assistant("yes")], "rejected": [assistant("no")]},
        (Q,),
        "last turns",
    ),
    "a prompt of turns and single turns": (
        lambda n: {"prompt": [user(f"q{n}")], "chosen": assistant("yes"), "rejected": assistant("no")},
        (Q,),
        "last turns",
    ),
    "messages and texts": (
        lambda n: {"messages": [system("Be brief."), user(f"q{n}")], "chosen": "yes", "rejected": "no"},
        (BRIEF, Q),
        "texts",
    ),
    "sharegpt": (
        lambda n: {
            "conversations": [{"from": "system", "value": "Be brief."}, {"from": "human", "value": f"q{n}"}],
            "chosen": {"from": "gpt", "value": "yes"},
            "rejected": {"from": "gpt", "value": "no"},
        },
        (BRIEF, Q),
        "last turns",
    ),
    "turns as JSON": (
        lambda n: {name: json.dumps(turns) for name, turns in conversations(n).items()},
        (Q,),
        "conversations",
    ),
    "turns as Python shows them": (
        lambda n: {name: str(turns) for name, turns in conversations(n).items()},
        (Q,),
        "conversations",
    ),
    "a column for each key of turns": (
        lambda n: {
            name: {"role": ["user", "assistant"], "content": [f"q{n}", answer]}
            for name, answer in (("chosen", "yes"), ("rejected", "no"))
        },
        (Q,),
        "conversations",
    ),
    "content in parts": (
        lambda n: {
            name: [user(f"q{n}"), {"role": "assistant", "content": [{"type": "text", "text": answer}]}]
            for name, answer in (("chosen", "yes"), ("rejected", "no"))
        },
        (Q,),
        "conversations",
    ),
    "a strength below 0": (
        lambda n: {"prompt": f"q{n}", "response_1": "yes", "response_2": "no", "preference_strength": -2},
        (Q,),
        "which is better",
    ),
    "a strength above 0": (
        lambda n: {"context": [user(f"q{n}")], "response1": "no", "response2": "yes", "overall_preference": 2},
        (Q,),
        "which is better",
    ),
    "a letter": (
        lambda n: {"prompt": f"q{n}", "response_a": "no", "response_b": "yes", "preference": "B"},
        (Q,),
        "which is better",
    ),
    "a place": (
        lambda n: {"prompt": f"q{n}", "response_0": "no", "response_1": "yes", "better_response_id": 1},
        (Q,),
        "which is better",
    ),
    "two conversations and a winner": (
        lambda n: {
            "conversation_a": [user(f"q{n}"), assistant("yes")],
            "conversation_b": [user(f"q{n}"), assistant("no")],
            "winner": "model_a",
        },
        (Q,),
        "two conversations",
    ),
    "rated completions": (
        lambda n: {"instruction": f"q{n}", "completions": [{"text": "no", "rating": 1}, {"text": "yes", "rating": 4}]},
        (Q,),
        "list of rated completions",
    ),
    "rated texts": (
        lambda n: {"prompt": f"q{n}", "responses": ["no", "yes"], "scores": [0.5, 0.75]},
        (Q,),
        "list of rated completions",
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_of_the_field_gives_its_pairs(name: str, tmp_path: Path) -> None:
    make, context, words = LAYOUTS[name]

    dataset = loaded(written(tmp_path / "pairs.jsonl", make))

    pairs = all_pairs(dataset)
    assert len(pairs) == ROWS
    assert dataset.skipped == {}
    assert [turn.parts for turn in pairs[1].context] == list(context)
    assert (pairs[1].chosen, pairs[1].rejected) == ("yes", "no")
    assert len({pair.prompt_id for pair in pairs}) == ROWS
    assert dataset.notes[0].startswith("taken for: ")
    assert words in dataset.notes[0]
    assert (len(dataset.train), len(dataset.dev), len(dataset.test)) == (16, 2, 2)


SCORES: Mapping[str, tuple[Row, tuple[float, float]]] = {
    "score_chosen": ({"score_chosen": 3, "score_rejected": 1.5}, (3, 1.5)),
    "chosen_score": ({"chosen_score": 3, "rejected_score": 1.5}, (3, 1.5)),
    "Chosen Rating": ({"Chosen Rating": 3, "Rejected Rating": 1.5}, (3, 1.5)),
    "rating_chosen": ({"rating_chosen": 3, "rating_rejected": 1.5}, (3, 1.5)),
    "score_w": ({"score_w": 3, "score_l": 1.5}, (3, 1.5)),
    "reward-chosen": ({"reward-chosen": 3, "reward-rejected": 1.5}, (3, 1.5)),
    "margin": ({"margin": 1.5}, (1.5, 0)),
}


@pytest.mark.parametrize("name", SCORES)
def test_scores_are_found_under_their_names_in_the_field(name: str, tmp_path: Path) -> None:
    columns, scores = SCORES[name]
    pairs = all_pairs(loaded(written(tmp_path / "a.jsonl", lambda n: texts(n, **columns))))
    assert {(pair.score_chosen, pair.score_rejected) for pair in pairs} == {scores}


def test_scores_that_are_null_in_every_row_are_none(tmp_path: Path) -> None:
    dataset = loaded(written(tmp_path / "a.jsonl", lambda n: texts(n, score_chosen=None, score_rejected=None)))
    assert all(pair.score_chosen != pair.score_chosen for pair in dataset.train)
    assert any("no annotation scores" in note for note in dataset.notes)


def test_a_strength_of_0_is_a_tie_and_a_label_of_neither_is_left_out(tmp_path: Path) -> None:
    two = {"response_1": "yes", "response_2": "no"}
    ties = loaded(written(tmp_path / "a.jsonl", lambda n: {"prompt": f"q{n}", **two, "strength": n % 2 - 1}))
    assert [pair.score_chosen for pair in all_pairs(ties)] == [1, 0] * 10
    assert any("10 ties" in note for note in ties.notes)
    labels = loaded(written(tmp_path / "b.jsonl", lambda n: {"prompt": f"q{n}", **two, "winner": n % 2}))
    assert labels.skipped == {"no preference": 10}
    assert len(all_pairs(labels)) == 10


DEFECTS: Mapping[str, tuple[Callable[[int], Row], Row, str, tuple[str, ...]]] = {
    "a transcript whose earlier turns differ": (
        LAYOUTS["transcripts"][0],
        {"chosen": transcript(1, "yes"), "rejected": transcript(2, "no")},
        "context mismatch",
        ("columns chosen, rejected", "differ"),
    ),
    "no transcript among transcripts": (
        LAYOUTS["transcripts"][0],
        {"chosen": "yes", "rejected": transcript(1, "no")},
        "not a transcript",
        ("column chosen", "'yes'", "Human:"),
    ),
    "no text among texts": (texts, texts(1, chosen=["yes"]), "not text", ("column chosen", "a list")),
    "an empty text": (texts, texts(1, rejected=" "), "empty response", ("column rejected", "whitespace only")),
    "no prompt among prompts": (texts, texts(1, prompt=None), "null prompt", ("prompt is null",)),
    "a question that is a number": (
        LAYOUTS["a question"][0],
        {"question": 1, "chosen": "yes", "rejected": "no"},
        "prompt not a string",
        ("column question", "a int"),
    ),
    "a score of another name": (
        lambda n: texts(n, chosen_score=2, rejected_score=1),
        texts(1, chosen_score="2", rejected_score=1),
        "bad score type",
        ("column chosen_score", "'2'"),
    ),
    "a margin below 0": (lambda n: texts(n, margin=1), texts(1, margin=-1), "negative gap", ("column margin",)),
    "a part that is no text": (
        conversations,
        {
            "chosen": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}, assistant("yes")],
            "rejected": [user("q1"), assistant("no")],
        },
        "content part not text",
        ("chosen[0].content[0]", "image_url", "only text"),
    ),
    "a strength that is no number": (
        LAYOUTS["a strength below 0"][0],
        {"prompt": "q", "response_1": "yes", "response_2": "no", "preference_strength": "strong"},
        "bad strength",
        ("column preference_strength", "'strong'"),
    ),
    "a label of neither response": (
        LAYOUTS["a letter"][0],
        {"prompt": "q", "response_a": "yes", "response_b": "no", "preference": "C"},
        "bad label",
        ("column preference", "'C'", "expected a or b"),
    ),
    "a completion without its rating": (
        LAYOUTS["rated completions"][0],
        {"instruction": "q", "completions": [{"text": "no", "rating": 1}, {"text": "yes"}]},
        "missing score",
        ("column completions", "completions[1].rating is missing"),
    ),
    "fewer ratings than texts": (
        LAYOUTS["rated texts"][0],
        {"prompt": "q", "responses": ["no", "yes"], "scores": [1]},
        "bad scores",
        ("column scores", "a list of 1", "expected 2"),
    ),
    "a call of a tool as response": (
        conversations,
        {
            "chosen": [user("q1"), {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]}],
            "rejected": [user("q1"), assistant("no")],
        },
        "tool call as response",
        ("column chosen", "text response"),
    ),
}


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defective_row_of_a_layout_is_named_or_skipped(name: str, tmp_path: Path) -> None:
    make, defective, reason, words = DEFECTS[name]
    path = written(tmp_path / "pairs.jsonl", lambda n: defective if n == 3 else make(n))

    with pytest.raises(HarnessError) as caught:
        loaded(path)
    for word in ("pairs.jsonl: row 3 (line 4)", "--lenient", *words):
        assert word in str(caught.value)
    assert loaded(path, LENIENT).skipped == {reason: 1}


def test_a_file_that_fits_no_layout_is_told_the_nearest_and_what_it_lacks(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", lambda n: {"asked": f"q{n}", "chosen": "yes", "rejected": "no"})
    with pytest.raises(HarnessError) as caught:
        loaded(path, LENIENT)
    for words in (
        "got columns asked, chosen, rejected",
        "the nearest is 'a prompt with chosen and rejected texts', which lacks prompt",
        "--columns prompt=COLUMN",
        "a prompt with a list of rated completions: prompt, completions",
    ):
        assert words in str(caught.value)


def test_columns_that_are_named_are_read(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", lambda n: {"asked": f"q{n}", "best": "yes", "worst": "no", "prompt": "x"})
    dataset = loaded(path, LoadOptions(columns="prompt=asked, chosen=best,rejected=worst"))
    assert {(last(pair)[0], pair.chosen, pair.rejected) for pair in dataset.train} == {("q", "yes", "no")}
    assert "columns asked, best, worst" in dataset.notes[0]


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ("chosen=bset", "chosen='bset'; got columns asked, best"),
        ("chosen", "got 'chosen', expected ROLE=COLUMN"),
        ("winner=best", "got 'winner=best', expected ROLE=COLUMN with a ROLE of prompt, system"),
        ("chosen=best,chosen=asked", "each once"),
    ],
)
def test_columns_that_are_named_wrongly_are_an_error(columns: str, words: str, tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", lambda n: {"asked": f"q{n}", "best": "yes"})
    with pytest.raises(HarnessError) as caught:
        loaded(path, LoadOptions(columns=columns))
    assert words in str(caught.value)


def test_labelled_completions_are_paired_where_that_is_asked_for(tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.jsonl",
        lambda n: {"prompt": f"q{n // 3}", "completion": f"c{n}", "label": n % 3 == 0},
    )
    with pytest.raises(HarnessError, match=r"these are unpaired labels.*--pairs-from-labels"):
        loaded(path)
    dataset = loaded(path, LoadOptions(pairs_from_labels=True))
    assert [(pair.chosen, pair.rejected) for pair in all_pairs(dataset)] == [
        (f"c{n}", f"c{n + 1}") for n in range(0, 20, 3)
    ]
    assert dataset.listwise_test == ()


def test_rated_completions_give_the_best_against_a_drawn_other(tmp_path: Path) -> None:
    def row(n: int) -> Row:
        entries = [
            {"model": name, "response": name * 3, "score": score}
            for name, score in zip("abcd", (1, 5, 2, 3), strict=True)
        ]
        return {"prompt": f"q{n}", "completions": entries}

    path = written(tmp_path / "a.jsonl", row, rows=200)
    dataset = loaded(path)
    assert {pair.chosen for pair in all_pairs(dataset)} == {"bbb"}
    others = [pair.rejected for pair in all_pairs(dataset)]
    assert all(40 < others.count(text) < 95 for text in ("aaa", "ccc", "ddd"))
    assert [pair.rejected for pair in all_pairs(loaded(path))] == others
    assert [pair.rejected for pair in all_pairs(loaded(path, LoadOptions(seed=1)))] != others
    assert {len(each.responses) for each in (*dataset.listwise_dev, *dataset.listwise_test)} == {4}


def test_one_rated_completion_a_row_is_put_together_by_prompt(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", lambda n: {"prompt": f"q{n // 4}", "response": f"r{n}", "score": n % 4})
    dataset = loaded(path, LENIENT)
    assert [pair.chosen for pair in all_pairs(dataset)] == [f"r{n}" for n in range(3, 20, 4)]


def formats(folder: Path) -> Mapping[str, Path]:
    """The same rows in every format and compression."""
    rows = [conversations(n) | {"score_chosen": 2.0, "score_rejected": 1.0} for n in range(ROWS)]
    lines = "\n".join(json.dumps(row) for row in rows).encode()
    frame = pd.DataFrame(rows)
    for name, content in {
        "a.jsonl": lines,
        "a.ndjson": lines,
        "b.jsonl.gz": gzip.compress(lines),
        "b.jsonl.bz2": bz2.compress(lines),
        "b.jsonl.xz": lzma.compress(lines),
        "b.json.gz": gzip.compress(json.dumps(rows).encode()),
        "c.json": json.dumps(rows, indent=1).encode(),
        "d.json": json.dumps({"version": 1, "data": rows}).encode(),
        "e.json": json.dumps({name: [row[name] for row in rows] for name in rows[0]}).encode(),
    }.items():
        (folder / name).write_bytes(content)
    with pa.output_stream(str(folder / "b.jsonl.zst"), compression="zstd") as stream:
        stream.write(lines)
    for orient in ("columns", "index", "split", "table"):
        frame.to_json(folder / f"{orient}.json", orient=orient)
    frame.to_csv(folder / "f.csv")
    frame.to_csv(folder / "f.csv.gz", index=False)
    frame.to_csv(folder / "f.tsv", index=False, sep="\t")
    table = pa.Table.from_pylist(rows)
    pq.write_table(table, folder / "g.parquet")
    for name, writer in {"h.arrow": pa.ipc.new_stream, "i.arrow": pa.ipc.new_file}.items():
        with writer(str(folder / name), table.schema) as sink:
            sink.write_table(table, max_chunksize=7)
    return {path.name: path for path in folder.iterdir()}


def test_every_format_and_compression_gives_the_same_pairs(tmp_path: Path) -> None:
    fingerprints = {name: loaded(path).fingerprint for name, path in formats(tmp_path).items()}
    assert len(fingerprints) > 16
    assert len(set(fingerprints.values())) == 1, fingerprints


def test_a_defect_in_csv_names_the_line_where_its_row_begins(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('prompt,chosen,rejected\n"two\nlines",a,b\nq1,a,\nq2,a,b,c\n', encoding="utf-8")
    with pytest.raises(HarnessError, match=r"a\.csv: row 1 \(line 4\), column rejected: .*empty.*1 more row"):
        loaded(tmp_path / "a.csv")
    dataset = loaded(tmp_path / "a.csv", LENIENT)
    assert dataset.skipped == {"empty response": 1, "other number of cells": 1}


def parts(tmp_path: Path, **files: tuple[int, int]) -> Path:
    """A folder with rows `first` to `last` under each name; `__` stands for a folder, `_of_` for shards."""
    for name, (first, end) in files.items():
        path = tmp_path / f"{name.replace('__', '/').replace('_of_', '-of-').replace('_0', '-0')}.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(pa.Table.from_pylist([conversations(n) for n in range(first, end)]), path)
    return tmp_path


FOLDERS: Mapping[str, Mapping[str, tuple[int, int]]] = {
    "plain": {"train": (0, 15), "test": (15, 20)},
    "the hub's data folder": {"data__train_00000_of_00001": (0, 15), "data__test_00000_of_00001": (15, 20)},
    "shards": {"train_00000_of_00002": (0, 8), "train_00001_of_00002": (8, 15), "test_00000_of_00001": (15, 20)},
    "a folder for each split": {"train__a": (0, 8), "train__b": (8, 15), "test__a": (15, 20)},
    "a folder for a configuration": {"default__train__a": (0, 15), "default__test__a": (15, 20)},
    "validation": {"train": (0, 15), "validation": (15, 20)},
    "valid": {"train": (0, 15), "valid": (15, 20)},
    "eval": {"train": (0, 15), "eval": (15, 20)},
    "dev": {"train": (0, 15), "dev": (15, 20)},
}


@pytest.mark.parametrize("name", FOLDERS)
def test_the_splits_of_a_folder_are_found_in_order(name: str, tmp_path: Path) -> None:
    dataset = loaded(parts(tmp_path, **FOLDERS[name]))
    assert [last(pair) for pair in dataset.test] == [f"q{n}" for n in range(15, 20)]
    assert len(dataset.train) + len(dataset.dev) == 15
    assert [last(pair) for pair in dataset.train] == sorted(map(last, dataset.train), key=lambda q: int(q[1:]))


def test_with_a_test_split_validation_is_the_development_split(tmp_path: Path) -> None:
    dataset = loaded(parts(tmp_path, train=(0, 10), validation=(10, 14), test=(14, 20)))
    assert [len(split) for split in (dataset.train, dataset.dev, dataset.test)] == [10, 4, 6]


@pytest.mark.parametrize("name", ["test", "test_prefs", "validation", "eval", "dev_prefs"])
def test_an_evaluation_set_alone_is_never_trained_on(name: str, tmp_path: Path) -> None:
    folder = parts(tmp_path, **{name: (0, 20)})
    for path in (folder, folder / f"{name}.parquet"):
        with pytest.raises(HarnessError, match=r"evaluation set .* without training data.*--test.*harness score"):
            loaded(path)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    folder = parts(tmp_path, train_00000_of_00003=(0, 5), train_00002_of_00003=(5, 10))
    with pytest.raises(HarnessError, match=r"2 files for the split train.*missing: 1"):
        loaded(folder)


def test_a_defect_in_a_shard_names_the_shard_and_its_row(tmp_path: Path) -> None:
    folder = parts(tmp_path, train_00000_of_00002=(0, 5))
    rows = [conversations(n) for n in range(3)]
    rows[1]["chosen"][-1]["content"] = ""
    pq.write_table(pa.Table.from_pylist(rows), folder / "train-00001-of-00002.parquet")
    with pytest.raises(HarnessError, match=r"train-00001-of-00002\.parquet: row 1, column chosen"):
        loaded(folder)


def test_what_datasets_saves_to_disk_loads(tmp_path: Path) -> None:
    import datasets

    def part(first: int, end: int) -> datasets.Dataset:
        return datasets.Dataset.from_list([conversations(n) for n in range(first, end)])

    both = datasets.DatasetDict({"train": part(0, 15), "validation": part(15, 20)})
    both.save_to_disk(tmp_path / "both", num_shards={"train": 3, "validation": 1})
    part(0, 20).save_to_disk(tmp_path / "one")
    assert [len(loaded(tmp_path / "both").train), len(loaded(tmp_path / "both").test)] == [14, 5]
    assert len(all_pairs(loaded(tmp_path / "one"))) == 20


def test_prompts_that_differ_in_the_system_turn_alone_are_prompts_of_their_own(tmp_path: Path) -> None:
    def row(n: int) -> Row:
        context = [system(f"You are number {n}."), user("Who are you?")]
        return {"chosen": [*context, assistant("yes")], "rejected": [*context, assistant("no")]}

    path = written(tmp_path / "a.jsonl", lambda n: row(n // 2) | {"prompt": "Who are you?"})
    dataset = loaded(path)
    assert [len(split) for split in (dataset.train, dataset.dev, dataset.test)] == [16, 2, 2]
    prompts = [{pair.context for pair in split} for split in (dataset.train, dataset.dev, dataset.test)]
    assert sum(map(len, prompts)) == len(set.union(*prompts)) == 10


def test_rows_of_one_given_id_stay_together_whatever_their_earlier_turns(tmp_path: Path) -> None:
    def row(n: int) -> Row:
        context = [user("Hello."), assistant(f"Hi {n}."), user("Go on.")]
        pair = {"chosen": [*context, assistant("yes")], "rejected": [*context, assistant("no")]}
        return pair | {"prompt_id": f"p{n % 4}"}

    dataset = loaded(written(tmp_path / "a.jsonl", row))
    ids = [{pair.prompt_id for pair in split} for split in (dataset.train, dataset.dev, dataset.test)]
    assert set.union(*ids) == {"p0", "p1", "p2", "p3"}
    assert not ids[0] & ids[2]


def test_pairs_in_both_orders_are_counted_and_kept(tmp_path: Path) -> None:
    path = written(
        tmp_path / "a.jsonl", lambda n: texts(n // 2) if n % 2 else texts(n // 2, chosen="no", rejected="yes")
    )
    dataset = loaded(path)
    assert len(dataset.train) + len(dataset.dev) + len(dataset.test) == ROWS
    assert any("contradictory labels: 10 pairs" in note for note in dataset.notes)


def test_a_named_data_set_takes_no_columns_or_splits() -> None:
    from harness.api import DatasetSource

    source = DatasetSource(name="embedded", load=lambda options: Dataset(name="e", train=(), dev=(), test=()))
    for options in (
        LoadOptions(columns="prompt=x"),
        LoadOptions(splits="train=x"),
        LoadOptions(pairs_from_labels=True),
    ):
        with pytest.raises(HarnessError, match="is for files; got the data set 'embedded'"):
            load("embedded", options, {"embedded": source})


def test_decimals_are_numbers_wherever_a_number_may_stand(tmp_path: Path) -> None:
    from decimal import Decimal

    two = {"response_1": "yes", "response_2": "no"}
    for name, values, expected in (("strength", ("-1.5", "2.5"), [1.5, 2.5]), ("winner", ("1", "2"), [])):
        rows = [{"prompt": f"q{n}", **two, name: Decimal(values[n % 2])} for n in range(ROWS)]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / f"{name}.parquet")
        pairs = all_pairs(loaded(tmp_path / f"{name}.parquet"))
        assert [pair.chosen for pair in pairs] == ["yes", "no"] * 10
        assert [pair.score_chosen for pair in pairs if pair.score_chosen == pair.score_chosen] == expected * 10


@pytest.mark.filterwarnings("error")
def test_a_text_that_looks_like_a_list_stays_text(tmp_path: Path) -> None:
    texts_like_lists = [r"[content \d is cut", "[{'role'", '{"value": 1}', "[" * 5000 + "content"]
    path = written(tmp_path / "a.jsonl", lambda n: texts(n, chosen=texts_like_lists[n % 4]))
    assert [pair.chosen for pair in all_pairs(loaded(path))] == texts_like_lists * 5
