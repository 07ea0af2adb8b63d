"""Numbers and names as text, against texts written by hand."""

from __future__ import annotations

import json

import pytest

from harness.leaderboard import formatting
from harness.leaderboard.decide.estimates import Estimate

NAN = float("nan")


def test_a_number_has_its_form_and_a_missing_one_its_sign() -> None:
    assert formatting.number(0.12345) == "0.123"
    assert formatting.number(0.12345, "+.1f") == "+0.1"
    assert formatting.number(-0.00001, "+z.4f") == "+0.0000"  # no negative zero
    assert formatting.number(3, "d") == "3"
    assert [formatting.number(value) for value in (None, NAN, float("inf"))] == ["–"] * 3
    assert formatting.number(None, missing="-") == "-"


def test_an_interval_that_is_not_known_is_left_out_on_every_rendering() -> None:
    known, unknown = Estimate(value=0.5, low=0.4, high=0.6, n=9), Estimate(value=0.5, n=1)
    assert formatting.number_with_interval(known) == "0.500 [0.400, 0.600]"
    assert formatting.number_with_interval(known, "+.1f") == "+0.5 [+0.4, +0.6]"
    assert formatting.number_with_interval(unknown) == "0.500"
    assert formatting.number_with_interval(Estimate(), missing="-") == "-"
    assert formatting.interval(0.4, None) == ""


def test_ranks_say_what_the_data_leave_open() -> None:
    assert formatting.rank_with_range(2, 1, 3) == "2 [1–3]"
    assert formatting.rank_with_range(None, None, None) == "–"
    assert formatting.rank_with_range(2, 1, 3, borderline=True) == "2 [1–3]~"
    assert formatting.ranks([1, None, 3]) == "1/–/3"


def test_the_smallest_difference_is_said_of_the_board_and_of_a_planned_comparison() -> None:
    said = "Smallest difference this run could have detected (80 % power): "
    assert formatting.smallest_difference(0.0871, 0.059, 21) == (
        f"{said}0.087 among its 21 comparisons, 0.059 for one planned in advance"
    )
    assert formatting.smallest_difference(0.059, 0.059, 1) == f"{said}0.059"
    assert formatting.smallest_difference(NAN, NAN, 0) == ""


@pytest.mark.parametrize(
    ("value", "text"), [(999.4, "999"), (999.6, "1 k"), (4.09e11, "409 G"), (1.5e15, "1.5 P"), (0.0, "0")]
)
def test_large_numbers_are_prefixed(value: float, text: str) -> None:
    assert formatting.prefixed(value) == text


def test_memory_is_in_mebibytes() -> None:
    assert formatting.mebibytes(700 * 2**20) == "700 MiB"
    assert formatting.mebibytes(2.0**31, ",.0f") == "2,048 MiB"
    assert formatting.mebibytes(None) == "–"


def test_numbers_for_programs_have_ten_digits_and_null_where_there_is_none() -> None:
    content = {"a": (1 / 3, -0.0, NAN), 2: {"b": [True, 7, "text", None]}}
    assert json.dumps(formatting.rounded(content)) == (
        '{"a": [0.3333333333, 0.0, null], "2": {"b": [true, 7, "text", null]}}'
    )


def test_markdown_shows_a_name_as_it_is() -> None:
    assert formatting.markdown_text("x(a=1|2)\n <b>`*_~#") == r"x(a=1\|2) \<b\>\`\*\_\~\#"
    assert formatting.escaped_for_markdown("$[x]^-", also="$") == r"\$\[x\]^-"
    assert formatting.markdown_table(["a", "b"], [["1", "2"]]) == ["| a | b |", "| --- | --- |", "| 1 | 2 |"]


def test_a_name_cannot_steer_a_terminal() -> None:
    assert formatting.one_line("a\tb\nc\x1b[31m\ud800") == "a b c\\x1b[31m\\ud800"
