"""The layouts that people have, each as it lies in the field: what it is taken for, how it is split, what it says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.api import Dataset, HarnessError, LoadOptions
from harness.data.sources import load

QUESTION = "Question 0: tell me something useful about tea, please."
GOOD = "Here is a clear and correct note about tea: number 0 is well explained, step by step."
BAD = "I do not know much about tea. Sorry. Ask someone else 0."
USER = ("user", QUESTION)
CALL = '{"tool_calls": [{"function": {"arguments": "{}", "name": "look"}, "id": "1", "type": "function"}]}'


class Expected(NamedTuple):
    """What a wild input loads as."""

    taken_for: str = "chosen and rejected conversations"
    context: tuple[tuple[str, ...], ...] = (USER,)
    """Of the pair about question 0."""
    scores: tuple[float, float] | None = (5.0, 3.0)
    sizes: tuple[int, int, int] = (64, 8, 8)
    words: tuple[str, ...] = ()
    """Of the notes."""


TEXTS = "a prompt with chosen and rejected texts"
FORTY = (32, 4, 4)
SPLIT = (54, 6, 20)
WILD: Mapping[str, Expected] = {
    "00_good.jsonl": Expected(),
    "01_hh_transcript_strings.jsonl": Expected("chosen and rejected transcripts", scores=None, sizes=FORTY),
    "02_prompt_chosen_rejected_strings.jsonl": Expected(TEXTS, scores=None, sizes=FORTY),
    "03_no_prompt_column.jsonl": Expected(scores=(8, 4), sizes=FORTY, words=("both sides share are the prompt",)),
    "04_prompt_as_messages.jsonl": Expected(
        "a prompt with chosen and rejected last turns", (("system", "Be brief."), USER), None, FORTY
    ),
    "06_rated_completions.jsonl": Expected(
        "a prompt with a list of rated completions", (USER,), (8.5, 3), FORTY, ("best score", "overall_score")
    ),
    "07_other_score_names.jsonl": Expected(scores=(4.75, 2), sizes=FORTY, words=("chosen-rating, rejected-rating",)),
    "08_preference_strength.jsonl": Expected(
        "a prompt with two responses and which is better", (USER,), (2, 0), FORTY, ("0 is a tie",)
    ),
    "09_system_question.jsonl": Expected(TEXTS, (("system", "You are an AI assistant."), USER), None, FORTY),
    "10_tool_turns.jsonl": Expected(
        context=(USER, ("assistant", "", CALL), ("tool", "42", '{"tool_call_id": "1"}')), scores=None, sizes=FORTY
    ),
    "11_content_parts.jsonl": Expected(scores=None, sizes=FORTY),
    "12_prompt_is_last_turn.jsonl": Expected(
        context=(("user", "Hello"), ("assistant", "Hi, how can I help?"), USER), sizes=FORTY
    ),
    "15_hub_layout": Expected(sizes=SPLIT),
    "16_shards": Expected(sizes=SPLIT),
    "17_save_to_disk": Expected(sizes=SPLIT),
    "18_gz": Expected(),
    "21_one_refused_by_template.jsonl": Expected(),
    "22_eval_name": Expected(sizes=SPLIT, words=("the split 'eval', the only held-out one",)),
    "22_validation_name": Expected(sizes=SPLIT, words=("the split 'validation', the only held-out one",)),
    "24_contradictory_labels.jsonl": Expected(sizes=(87, 11, 12), words=("contradictory labels: 30 pairs",)),
    "26_decimal.parquet": Expected(),
    "26_json_strings.parquet": Expected(),
    "26_one_null_id.parquet": Expected(words=("null prompt_id: 1 row",)),
    "26_pairs.csv": Expected(),
    "26_pandas_default.json": Expected(),
    "26_sharegpt.json": Expected("a prompt with chosen and rejected last turns", scores=None),
    "26_stripped_prompt.jsonl": Expected(context=(("user", QUESTION + "\n"),)),
    "26_wrapped.json": Expected(),
}
REFUSED = {"05_unpaired_labels.jsonl": ("unpaired labels", "completion, label, prompt", "prompt, chosen, rejected")}
STRICT, LENIENT = LoadOptions(), LoadOptions(lenient=True)


@pytest.fixture(scope="module")
def wild(test_data: Path) -> Path:
    return test_data / "wild"


def everything(dataset: Dataset) -> list[tuple[object, ...]]:
    pairs = (*dataset.train, *dataset.dev, *dataset.test)
    return [(tuple(turn.parts for turn in pair.context), pair.chosen, pair.rejected, pair) for pair in pairs]


def test_every_wild_input_is_tested(wild: Path) -> None:
    assert {path.name for path in wild.iterdir()} - {"EXPECT.md"} == WILD.keys() | REFUSED.keys()


@pytest.mark.parametrize("name", WILD)
@pytest.mark.parametrize("options", [STRICT, LENIENT], ids=["strict", "lenient"])
def test_a_wild_input_loads_as_what_it_is(name: str, options: LoadOptions, wild: Path) -> None:
    expected = WILD[name]

    dataset = load(str(wild / name), options, {})

    assert dataset.skipped == {}
    assert (len(dataset.train), len(dataset.dev), len(dataset.test)) == expected.sizes
    assert dataset.notes[0].startswith(f"taken for: {expected.taken_for}")
    for words in expected.words:
        assert any(words in note for note in dataset.notes), words
    (scored,) = (
        pair
        for context, chosen, rejected, pair in everything(dataset)
        if (context, chosen, rejected) == (expected.context, GOOD, BAD)
    )
    scores = (scored.score_chosen, scored.score_rejected)
    assert all(value != value for value in scores) if expected.scores is None else scores == expected.scores


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("options", [STRICT, LENIENT], ids=["strict", "lenient"])
def test_a_wild_input_without_pairs_says_what_it_is_and_what_loads(name: str, options: LoadOptions, wild: Path) -> None:
    with pytest.raises(HarnessError) as caught:
        load(str(wild / name), options, {})
    for words in (name, *REFUSED[name]):
        assert words in str(caught.value)


@pytest.mark.parametrize("name", ["22_eval_name", "22_validation_name"])
def test_a_held_out_split_of_another_name_is_read_as_it_is(name: str, wild: Path) -> None:
    dataset = load(str(wild / name), STRICT, {})
    assert [pair.prompt_id for pair in dataset.test] == [f"p{number}" for number in range(60, 80)]
    assert not any(note.startswith("test: no such data") for note in dataset.notes)


def test_layouts_of_one_data_set_give_the_same_data(wild: Path) -> None:
    same = ("00_good.jsonl", "18_gz", "26_decimal.parquet", "26_json_strings.parquet", "26_pairs.csv")
    same = (*same, "26_pandas_default.json", "26_wrapped.json")
    assert len({load(str(wild / name), STRICT, {}).fingerprint for name in same}) == 1
    folders = ("15_hub_layout", "16_shards", "17_save_to_disk", "22_eval_name", "22_validation_name")
    assert len({load(str(wild / name), STRICT, {}).fingerprint for name in folders}) == 1


def test_rated_completions_keep_their_lists(wild: Path) -> None:
    dataset = load(str(wild / "06_rated_completions.jsonl"), STRICT, {})
    assert [each.prompt_id for each in dataset.listwise_test] == [pair.prompt_id for pair in dataset.test]
    assert [each.prompt_id for each in dataset.listwise_dev] == [pair.prompt_id for pair in dataset.dev]
    assert {len(each.responses) for each in dataset.listwise_test} == {2}
