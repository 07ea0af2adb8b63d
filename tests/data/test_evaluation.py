"""Evaluation sets: test data without training data, alone or beside the training data of another set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.api import Dataset, HarnessError, LoadOptions, Message, Pair
from harness.data.evaluation import with_test_data
from harness.data.sources import load_any, load_test
from harness.execute.resolve import resolve
from harness.planning.run_file import make_run

OPTIONS = LoadOptions()
Row = dict[str, Any]


def row(prompt: str, **columns: object) -> Row:
    return {"prompt": prompt, "chosen": f"Yes, {prompt}", "rejected": "No.", **columns}


def prompts(prefix: str, count: int) -> list[str]:
    return [f"{prefix} {number}" for number in range(count)]


def write(path: Path, rows: list[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def folder(path: Path, **splits: list[str]) -> Path:
    for name, asked in splits.items():
        write(path / f"{name}.jsonl", [row(prompt) for prompt in asked])
    return path


def asked(pairs: tuple[Pair, ...]) -> set[str]:
    return {pair.prompt for pair in pairs}


def beside(training: Path, test: Path, **settings: Any) -> Dataset:
    """The data set that a run has with these."""
    run = make_run({"dataset": str(training), "test": str(test), "budget": "pairs=16", **settings})
    return resolve(run, None, False).dataset


@pytest.mark.parametrize("name", ["test", "test_prefs", "validation", "eval", "mine"])
def test_a_folder_or_file_with_a_test_split_only_is_an_evaluation_set(name: str, tmp_path: Path) -> None:
    only = folder(tmp_path / "only", **{name: prompts("t", 5)})
    for path in (only, only / f"{name}.jsonl"):
        data = load_test(str(path), OPTIONS, {})
        assert asked(data.test) == set(prompts("t", 5))
        assert (data.train, data.dev) == ((), ())


def test_of_a_folder_with_both_the_test_split_is_taken_and_said_so(tmp_path: Path) -> None:
    both = folder(tmp_path, train=prompts("a", 10), validation=prompts("v", 3), test=prompts("t", 5))
    data = load_test(str(both), OPTIONS, {})
    assert asked(data.test) == set(prompts("t", 5))
    assert "the test split is taken, not train, dev" in data.notes


def test_data_to_test_on_without_a_test_split_are_an_error_that_says_how_to_name_one(tmp_path: Path) -> None:
    training = folder(tmp_path, train=prompts("a", 10))
    for path in (training, training / "train.jsonl"):
        with pytest.raises(HarnessError, match=r"got train.*expected a test split.*--splits test=NAME"):
            load_test(str(path), OPTIONS, {})
    named = LoadOptions(splits="test=train")
    assert len(load_test(str(training), named, {}).test) == 10


def test_rated_completions_bring_their_lists(tmp_path: Path) -> None:
    rated = [{"text": "good", "score": 3}, {"text": "bad", "score": 1}, {"text": "fair", "score": 2}]
    path = write(tmp_path / "a.jsonl", [{"prompt": prompt, "completions": rated} for prompt in prompts("t", 4)])
    data = load_test(str(path), OPTIONS, {})
    assert [len(each.responses) for each in data.listwise_test] == [3, 3, 3, 3]


def test_defective_rows_of_an_evaluation_set_are_named_or_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "test.jsonl", [row("t 0"), row("t 1", chosen=""), row("t 2")])
    with pytest.raises(HarnessError, match=r"row 1 .*column chosen"):
        load_test(str(path), OPTIONS, {})
    data = load_test(str(path), LoadOptions(lenient=True), {})
    assert (len(data.test), sum(data.skipped.values())) == (2, 1)


def test_what_is_described_is_an_evaluation_set_only_where_there_is_no_training_data(tmp_path: Path) -> None:
    only = folder(tmp_path / "only", test=prompts("t", 5))
    file = write(tmp_path / "mine.jsonl", [row(prompt) for prompt in prompts("a", 20)])
    sizes = [tuple(map(len, (data.train, data.test))) for data in (load_any(str(p), OPTIONS, {}) for p in (only, file))]
    assert sizes == [(0, 5), (16, 2)]


def test_training_and_dev_are_of_one_set_and_the_test_data_of_another(tmp_path: Path) -> None:
    training = folder(tmp_path / "training", train=prompts("a", 40), dev=prompts("d", 4), test=prompts("own", 6))
    data = beside(training, folder(tmp_path / "other", test=prompts("t", 5)))
    assert asked(data.train) == set(prompts("a", 40))
    assert asked(data.dev) == set(prompts("d", 4))
    assert asked(data.test) == set(prompts("t", 5))


@pytest.mark.parametrize("held_out", [{}, {"validation": prompts("v", 4)}])
def test_no_test_split_is_carved_or_taken_where_another_is_scored(held_out: dict[str, Any], tmp_path: Path) -> None:
    training = folder(tmp_path / "training", train=prompts("a", 40), **held_out)
    data = beside(training, folder(tmp_path / "other", test=prompts("t", 5)))
    assert len(data.dev) == 4
    assert len(asked(data.train) | asked(data.dev)) == 40 + sum(map(len, held_out.values()))


def test_prompts_of_both_test_splits_are_kept_out_of_training_and_counted(tmp_path: Path) -> None:
    own, other = prompts("own", 6), prompts("t", 5)
    train = [*prompts("a", 40), *own[:2], *other[:3]]
    training = folder(tmp_path / "training", train=train, dev=[*prompts("d", 4), other[3]], test=own)
    data = beside(training, folder(tmp_path / "other", test=other))
    assert asked(data.train) == set(prompts("a", 40))
    assert asked(data.dev) == set(prompts("d", 4))
    assert data.skipped == {
        "train prompt also in test": 2,
        "train prompt also in the test data": 3,
        "dev prompt also in the test data": 1,
    }


def pair(prompt_id: str, *turns: tuple[str, str]) -> Pair:
    context = tuple(Message(role=role, content=content) for role, content in turns)
    return Pair(pair_id=prompt_id, prompt_id=prompt_id, context=context, chosen="yes", rejected="no")


def dataset(**splits: tuple[Pair, ...]) -> Dataset:
    return Dataset(**{"name": "d", "train": (), "dev": (), "test": (), **splits})


def test_an_id_that_two_sets_share_by_chance_costs_no_training_row() -> None:
    of_test = pair("1", ("user", "hello"))
    same_text, same_id = pair("7", ("user", "hello")), pair("1", ("user", "something else"))
    same_opening = pair("1", ("user", "hello"), ("assistant", "hi"), ("user", "go on"))
    new = pair("8", ("user", "new"))
    training = dataset(train=(same_text, same_id, same_opening, new), sft=((of_test.context, "yes"), (new.context, "")))
    data = with_test_data(training, dataset(test=(of_test,)))
    assert data.train == (same_id, new)
    assert data.sft == ((new.context, ""),)


def test_training_data_of_the_tested_prompts_alone_are_an_error(tmp_path: Path) -> None:
    training = folder(tmp_path / "training", train=prompts("t", 20))
    with pytest.raises(HarnessError, match="no training pair whose prompt is not also in the test data"):
        beside(training, folder(tmp_path / "other", test=prompts("t", 20)))


def test_columns_and_splits_are_told_of_each_set_apart(tmp_path: Path) -> None:
    training = folder(tmp_path / "training", first=prompts("a", 40))
    other = tmp_path / "other"
    write(other / "second.jsonl", [{"ask": prompt, "best": "yes", "worst": "no"} for prompt in prompts("t", 5)])
    write(other / "third.jsonl", [row("u")])
    columns = {"test_columns": "prompt=ask,chosen=best,rejected=worst"}
    data = beside(training, other, splits="train=first,test=second", **columns)
    assert asked(data.test) == set(prompts("t", 5))
    with pytest.raises(HarnessError, match="--test-columns without --test"):
        resolve(make_run({"dataset": str(training), **columns}), None, False)


def test_a_run_is_known_by_the_content_of_its_test_data(tmp_path: Path) -> None:
    training = folder(tmp_path / "training", train=prompts("a", 40))
    tests = [folder(tmp_path / name / "set", test=prompts("t", size)) for name, size in (("x", 5), ("y", 5), ("z", 6))]

    def key(dataset: str, test: Path | None) -> tuple[str, str | None, Path]:
        given = {"dataset": dataset, "budget": "pairs=16"} | ({"test": str(test)} if test else {})
        resolved = resolve(make_run(given), None, False)
        board = resolved.run.decisive()
        return str(board.dataset), board.test, resolved.folder

    for data in (str(training), "embedded"):
        here, there, longer, alone = (key(data, test) for test in (*tests, None))
        assert here == there
        assert here[1] != longer[1]
        assert len({here[2], longer[2], alone[2]}) == 3
        assert alone[1] is None
