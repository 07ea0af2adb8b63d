"""The description of a data set, against counts made by hand."""

from __future__ import annotations

import pytest

from harness.api import Dataset, Listwise, Message, Pair, Response
from harness.data.describe import as_text, describe

NAN = float("nan")


def pair(number: int, chosen: str, rejected: str, gap: float, prompt_id: str = "p") -> Pair:
    return Pair(
        pair_id=f"{prompt_id}-{number}",
        prompt_id=prompt_id,
        context=(Message(role="user", content="Well?"),),
        chosen=chosen,
        rejected=rejected,
        score_chosen=gap,
        score_rejected=gap * 0.0,
    )


def dataset(name: str = "small", notes: tuple[str, ...] = ()) -> Dataset:
    train = (
        pair(0, "a" * 10, "b" * 4, 0.0, "p"),
        pair(1, "a" * 20, "b" * 20, 1.0, "p"),
        pair(2, "a" * 3, "b" * 6, 2.0, "q"),
        pair(3, "a" * 7, "b" * 2, 4.0, "r"),
    )
    prompt = Listwise(
        prompt_id="t",
        context=(Message(role="user", content="Well?"),),
        responses=(Response(response_id="0", text="x"), Response(response_id="1", text="y")),
    )
    return Dataset(
        name=name,
        train=train,
        dev=(),
        test=(pair(0, "long", "no", NAN, "t"),),
        listwise_test=(prompt,),
        skipped={"empty response": 3},
        notes=notes,
    )


def test_lengths_gaps_ties_and_length_bias_are_those_counted_by_hand() -> None:
    train = describe(dataset()).splits["train"]

    assert (train.pairs, train.prompts, train.scored, train.ties) == (4, 3, 4, 1)
    assert (train.chosen.mean, train.chosen.median, train.chosen.max) == (10.0, 8.5, 20)
    assert (train.rejected.mean, train.rejected.median, train.rejected.max) == (8.0, 5.0, 20)
    assert train.gap_quartiles == (0.75, 1.5, 2.5)
    assert (train.chosen_longer, train.same_length) == (0.5, 0.25)


def test_the_histogram_spans_the_gaps_and_counts_every_scored_pair_once() -> None:
    train = describe(dataset()).splits["train"]
    assert (train.gap_edges[0], train.gap_edges[-1]) == (0.0, 4.0)
    assert len(train.gap_edges) == len(train.gap_counts) + 1
    assert train.gap_counts == (1, 0, 1, 0, 0, 1, 0, 0, 0, 1)


def test_a_split_without_scores_has_no_gaps_and_an_empty_split_is_left_out() -> None:
    description = describe(dataset())
    assert set(description.splits) == {"train", "test"}
    assert (description.splits["test"].gap_counts, description.splits["test"].gap_quartiles) == ((), ())
    assert "test: no annotation scores" in as_text(description)


def test_the_text_holds_every_split_the_skips_and_the_notes() -> None:
    text = as_text(describe(dataset(notes=("dev: carved",))))
    for words in (
        "small",
        "train",
        "listwise_test: 1 prompts",
        "1 tie",
        "rows left out: 3",
        "empty response",
        "dev: carved",
    ):
        assert words in text


@pytest.mark.parametrize("hostile", ["\x1b[2J", "a\rb", "line\nbreak", "\u202e", "\ud83d", "\x9b31m"])
def test_controls_in_names_and_notes_are_escaped(hostile: str) -> None:
    text = as_text(describe(dataset(name=hostile, notes=(hostile,))))
    assert hostile not in text
    assert all(line.isprintable() for line in text.split("\n"))
