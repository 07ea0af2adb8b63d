"""Prompts to answer, from files of many layouts; the official sets are read under their names and never shipped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness.api import HarnessError, Message, OpenPrompt
from harness.data.open_prompts import open_prompts


def file(folder: Path, *rows: Any, name: str = "asked.jsonl") -> str:
    path = folder / name
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def user(text: str) -> tuple[Message, ...]:
    return (Message(role="user", content=text),)


CONVERSATION = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "Hi?"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Who are you?"},
]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "Why?"}, {"context": user("Why?")}),
        ({"instruction": "Why?", "output": "So.", "generator": "gpt4"}, {"context": user("Why?"), "rival": "So."}),
        ({"prompt": "Why?", "chosen": "So."}, {"context": user("Why?"), "rival": "So."}),
        (
            {"prompt": "Why?", "chosen": [*CONVERSATION[:1], {"role": "user", "content": "Why?"}, CONVERSATION[2]]},
            {"context": user("Why?"), "rival": "Hello."},
        ),
        ({"messages": CONVERSATION}, {"context": tuple(Message(**turn) for turn in CONVERSATION)}),
        (
            {"messages": CONVERSATION[:3]},
            {"context": tuple(Message(**turn) for turn in CONVERSATION[:2]), "rival": "Hello."},
        ),
        ({"turns": [{"content": "Why?"}]}, {"context": user("Why?")}),
        ({"turns": ["Why?", "And then?"]}, {"context": user("Why?"), "second": "And then?"}),
        ({"prompt": ["Why?", "And then?"], "reference": []}, {"context": user("Why?"), "second": "And then?"}),
    ],
)
def test_a_prompt_is_read_from_its_layout(tmp_path: Path, row: dict[str, Any], expected: dict[str, Any]) -> None:
    (prompt,) = open_prompts(file(tmp_path, {"prompt_id": "a"} | row)).prompts
    assert prompt == OpenPrompt(prompt_id="a", **expected)


def test_json_and_parquet_are_read_as_well_and_ids_come_from_the_data_or_the_prompt(tmp_path: Path) -> None:
    rows = [{"question_id": 7, "prompt": "Why?"}, {"question_id": 8, "prompt": "How?"}]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    pd.DataFrame(rows).drop(columns="question_id").to_parquet(tmp_path / "b.parquet")
    assert [each.prompt_id for each in open_prompts(str(tmp_path / "a.json")).prompts] == ["7", "8"]
    made = open_prompts(str(tmp_path / "b.parquet"))
    assert [each.context for each in made.prompts] == [user("Why?"), user("How?")]
    assert {len(each.prompt_id) for each in made.prompts} == {64}  # a sha256
    assert (made.name, made.licence) == ("b", "")


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"prompt": "Why?"}, {"text": "Why?"}], "line 2: got no prompt, expected one of the columns messages, turns"),
        ([{"prompt": 3}], "line 1: prompt is a int"),
        ([{"turns": ["a", "b", "c"]}], "line 1: turns has 3 turns of a user, expected one or two"),
        ([{"prompt": "Why?", "output": {"a": 1}}], "line 1: "),
        ([{"messages": CONVERSATION[:1]}], "line 1: messages has a turn of 'system' before the response"),
        ([{"id": "a", "prompt": "Why?"}, {"id": "a", "prompt": "How?"}], "got 2 prompts with 1 ids, expected one each"),
    ],
)
def test_a_row_that_is_no_prompt_is_named(tmp_path: Path, rows: list[Any], words: str) -> None:
    with pytest.raises(HarnessError) as raised:
        open_prompts(file(tmp_path, *rows))
    assert "asked.jsonl: " in str(raised.value)
    assert words in str(raised.value)


def test_a_name_that_is_neither_a_file_nor_an_official_set_is_told(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"got --prompts .*none.jsonl, expected a file .* or one of alpaca_eval"):
        open_prompts(str(tmp_path / "none.jsonl"))


OFFICIAL = {
    "alpaca_eval": ({"instruction": "Why?", "output": "So.", "dataset": "helpful_base"}, "CC BY-NC 4.0"),
    "arena_hard": ({"question_id": "a", "category": "arena-hard-v0.1", "turns": [{"content": "Why?"}]}, "Apache-2.0"),
    "mt_bench": ({"question_id": 81, "category": "writing", "prompt": ["Why?", "And?"]}, "Apache-2.0"),
}


@pytest.mark.parametrize("name", OFFICIAL)
def test_an_official_set_is_fetched_and_named_a_style_with_its_licence(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, licence = OFFICIAL[name]
    asked: list[tuple[str, str, str]] = []

    def download(repo: str, path: str, repo_type: str) -> str:
        asked.append((repo, path, repo_type))
        return file(tmp_path, row, name=Path(path).name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
    found = open_prompts(name)
    assert found.name.endswith(" style")
    assert licence in found.licence
    assert found.source == name
    assert [each.context for each in found.prompts] == [user("Why?")]
    assert [(len(asked), asked[0][2])] == [(1, "dataset")]


def test_an_official_set_that_the_hub_does_not_give_names_the_file_and_its_licence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> str:
        raise OSError("no hub")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(HarnessError, match=r"alpaca_eval_gpt4_baseline.json .*CC BY-NC 4.0.* its path to --prompts"):
        open_prompts("alpaca_eval")


def test_another_text_rival_or_turn_is_another_set(tmp_path: Path) -> None:
    rows = [{"prompt": "Why?"}, {"prompt": "Why?", "output": "So."}, {"turns": ["Why?", "And?"]}, {"prompt": "How?"}]
    prints = {open_prompts(file(tmp_path, {"id": "a"} | row)).fingerprint for row in rows}
    assert len(prints) == len(rows)
