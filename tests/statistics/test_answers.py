"""How answers repeat themselves, counted by hand."""

from __future__ import annotations

import itertools
import math

import pytest

from harness.statistics.answers import distinct, longest_loop


@pytest.mark.parametrize(
    ("tokens", "n", "expected"),
    [([1, 2, 3], 1, 1.0), ([1, 1, 1, 1], 1, 0.25), ([1, 2, 1, 2], 2, 2 / 3), ([5, 5], 2, 1.0)],
)
def test_distinct_n_is_the_share_of_different_n_grams(tokens: list[int], n: int, expected: float) -> None:
    assert distinct(tokens, n) == pytest.approx(expected)


def test_an_answer_shorter_than_an_n_gram_has_no_share() -> None:
    assert math.isnan(distinct([1], 2))


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        ([], 0),
        ([1], 0),
        ([1, 2, 3, 4], 0),
        ([1, 1], 2),
        ([7, 2, 3, 2, 3, 2, 9], 5),
        ([1, 2, 3, 1, 2, 3, 1], 7),
        ([1, 2, 1], 0),
        ([4, 4, 4, 1, 2, 3, 1, 2, 3], 6),
    ],
)
def test_the_longest_loop_says_one_sequence_twice_or_more_in_a_row(tokens: list[int], expected: int) -> None:
    assert longest_loop(tokens) == expected


def test_a_loop_is_found_as_by_trying_every_stretch() -> None:
    for tokens in itertools.product((0, 1), repeat=9):
        stretches = [
            end - start
            for start in range(9)
            for end in range(start + 2, 10)
            for period in range(1, (end - start) // 2 + 1)
            if all(tokens[place] == tokens[place + period] for place in range(start, end - period))
        ]
        assert longest_loop(tokens) == max(stretches, default=0)
