"""The column `subset` of people's data: kept with its pair in every layout, in the fingerprint and in rows.parquet."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.api import Dataset, LoadOptions
from harness.data.heldout import held_out
from harness.data.sources import load, load_test
from harness.data.tokens import Limits
from harness.models.families import FAMILIES
from harness.models.nano import train_tokenizer

Row = dict[str, Any]
OPTIONS = LoadOptions()


def loaded(path: Path, rows: list[Row], options: LoadOptions = OPTIONS) -> Dataset:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return (load_test if path.stem == "test" else load)(str(path), options, {})


def turns(n: int, answer: str) -> list[Row]:
    return [{"role": "user", "content": f"q{n}"}, {"role": "assistant", "content": answer}]


LAYOUTS: Mapping[str, Callable[[int], Row]] = {
    "texts": lambda n: {"prompt": f"q{n}", "chosen": "yes", "rejected": "no"},
    "conversations": lambda n: {"chosen": turns(n, "yes"), "rejected": turns(n, "no")},
    "two responses": lambda n: {"prompt": f"q{n}", "response_1": "yes", "response_2": "no", "winner": 1},
    "rated": lambda n: {"prompt": f"q{n}", "responses": ["yes", "no"], "scores": [2, 1]},
    "labels": lambda n: {"prompt": f"q{n // 2}", "completion": f"a{n}", "label": n % 2 == 0},
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_keeps_the_subset_of_its_rows(layout: str, tmp_path: Path) -> None:
    rows = [LAYOUTS[layout](n) | {"subset": f"part {n // 2 % 3}"} for n in range(40)]
    data = loaded(tmp_path / "a.jsonl", rows, replace(OPTIONS, pairs_from_labels=layout == "labels"))
    pairs = [*data.train, *data.dev, *data.test]
    asked = {pair.prompt: pair.subset for pair in pairs}
    assert asked == {str(row["prompt"]) if "prompt" in row else f"q{n}": row["subset"] for n, row in enumerate(rows)}


@pytest.mark.parametrize(
    ("given", "subset"), [("hard", "hard"), (3, "3"), (None, ""), (float("nan"), ""), (["a", 1], '["a", 1]')]
)
def test_whatever_stands_in_the_column_costs_no_row(given: object, subset: str, tmp_path: Path) -> None:
    data = loaded(tmp_path / "a.jsonl", [LAYOUTS["texts"](n) | {"subset": given} for n in range(20)])
    assert [pair.subset for pair in (*data.train, *data.dev, *data.test)] == [subset] * 20


def test_another_column_is_the_subset_where_that_is_told(tmp_path: Path) -> None:
    rows = [LAYOUTS["texts"](n) | {"Category": f"c{n % 2}"} for n in range(20)]
    assert {pair.subset for pair in loaded(tmp_path / "a.jsonl", rows).train} == {""}
    told = loaded(tmp_path / "b.jsonl", rows, LoadOptions(columns="subset=Category"))
    assert {pair.subset for pair in told.train} == {"c0", "c1"}


def test_the_fingerprint_knows_subsets_and_is_as_before_without_them(tmp_path: Path) -> None:
    rows = [LAYOUTS["texts"](n) for n in range(20)]
    plain = loaded(tmp_path / "a.jsonl", rows)
    empty = loaded(tmp_path / "b.jsonl", [row | {"subset": None} for row in rows])
    named = loaded(tmp_path / "c.jsonl", [row | {"subset": "x"} for row in rows])
    other = loaded(tmp_path / "d.jsonl", [row | {"subset": "y"} for row in rows])
    assert plain.fingerprint == empty.fingerprint
    assert len({plain.fingerprint, named.fingerprint, other.fingerprint}) == 3


def test_rows_have_the_column_where_a_held_out_pair_has_a_subset_and_only_there(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(FAMILIES["qwen"], ["yes no q1"], 300)
    rows = [LAYOUTS["texts"](n) for n in range(4)]
    parted = [row | {"subset": "x" if n else None} for n, row in enumerate(rows)]
    tables = [
        held_out(tokenizer, loaded(tmp_path / "test.jsonl", each), "test", Limits(max_length=64, max_prompt=32)).pairs
        for each in (rows, parted)
    ]
    assert "subset" not in tables[0].columns
    assert tables[1]["subset"].tolist() == ["", "x", "x", "x"]


def test_the_pairs_of_a_real_set_are_in_the_subsets_that_pandas_counts(test_data: Path) -> None:
    file = test_data / "llmbar" / "test_prefs.parquet"
    data = load_test(str(file.parent), OPTIONS, {})
    counted = pd.read_parquet(file)["subset"].value_counts().to_dict()
    assert pd.Series([pair.subset for pair in data.test]).value_counts().to_dict() == counted
    assert len(data.test) == 419  # its other columns, `messages` and `source`, cost no row
