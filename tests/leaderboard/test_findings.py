"""What a board says it found, from relations made by hand: who is better than whom is given, the words follow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from harness.leaderboard import markdown, table_of, terminal
from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.decide.findings import behind, findings, headline, outcome_of
from harness.leaderboard.decide.learned import shown_to_have_learned
from harness.leaderboard.decide.standings import Family
from harness.leaderboard.decide.wording import ONE_SEED
from harness.leaderboard.formatting import listed, things_to_know
from harness.leaderboard.page import html
from harness.leaderboard.page.manifest_facts import ManifestFacts
from harness.statistics.metrics import ACCURACIES
from harness.statistics.pairwise_tests import PairwiseTests

LEARNED, MEAN = "pairwise_accuracy@learned", "pairwise_accuracy@mean"
SEVEN = ("dpo", "ipo", "simpo", "gapo", "gappo", "alphapo", "cpo")
NANO = Path(__file__).parents[2] / "leaderboards" / "nano"


def family(order: Sequence[str], *better: str, detectable: float = 0.05) -> Family:
    """Return a family of losses, best first, in which exactly these are shown: `a > b c` says a is better than both."""
    shown = np.zeros((len(order), len(order)), bool)
    for relation in better:
        above, below = (part.split() for part in relation.split(">"))
        for a in above:
            for b in below:
                shown[order.index(a), order.index(b)] = True
    tests = PairwiseTests(
        better=shown,
        borderline=np.zeros_like(shown),
        p=np.ones(shown.shape),
        level=0.05,
        detectable=detectable,
        detectable_planned=detectable,
    )
    return Family(order=tuple(order), tests=tests)


def found(ranked: Family, seeds: Sequence[int] = (0, 1, 2), noise: str = "", **others: Family) -> tuple[str, ...]:
    """Return the findings of a board ranked by what was learned; other readings show nothing unless given by name."""
    nothing = family(ranked.order)
    families = {name: others.get(name.partition("@")[2] or "own", nothing) for name in ACCURACIES}
    return findings(families | {LEARNED: ranked}, LEARNED, seeds, 200, {}, {}, noise)


@pytest.mark.parametrize(
    ("order", "better", "said"),
    [
        ("a", [], "a is the only loss with a result here: there is no other to compare it with."),
        ("ab", [], "No winner by what was learned: this run cannot tell a and b apart."),
        ("ab", ["a > b"], "a wins by what was learned: it is better than b."),
        ("abc", [], "No winner by what was learned: this run cannot tell its three losses apart."),
        ("abc", ["a > b c"], "a wins by what was learned: it is better than the two others."),
        (
            "abc",
            ["a b > c"],
            "No single winner by what was learned: c is worse than the two others, which this run cannot tell apart.",
        ),
        (  # b is neither better than c nor worse than a: it may be first
            "abc",
            ["a > c"],
            "No single winner by what was learned: c is worse than at least one other loss; first place is open "
            "between the two others.",
        ),
        ("abcd", ["a > b c d", "b > c d", "c > d"], "a wins by what was learned: it is better than the three others."),
        (  # c is worse than b alone, b than a alone: a is better than one of two, and none is better than a
            "abc",
            ["a > b", "b > c"],
            "a wins by what was learned: it is better than one of the two others, and no loss is better than it.",
        ),
        ("abcde", ["a b > c d e"], "No single winner by what was learned: first place is open between a and b."),
    ],
)
def test_the_headline_says_who_won_or_that_nobody_did(order: str, better: list[str], said: str) -> None:
    assert headline(family(order, *better), LEARNED, one_seed=False) == said


def test_the_losses_behind_two_that_may_be_first_are_named_in_a_sentence_of_their_own() -> None:
    assert behind(family("abcde", "a b > c d e")) == "Behind them, c, d and e are worse than both that may be first."
    said = "Behind them, c and d are worse than both that may be first; e is worse than at least one other loss."
    assert behind(family("abcde", "a b > c d", "a > e")) == said
    assert behind(family("abc", "a b > c")) == ""  # the headline has it


def test_the_example_that_boards_were_asked_for() -> None:
    six = " ".join(SEVEN[:-1])
    others = " ".join(SEVEN[:3] + SEVEN[4:])
    by_mean = family(("gapo", *SEVEN[:3], *SEVEN[4:]), f"gapo > {others}")
    assert found(family(SEVEN, f"{six} > cpo"), mean=by_mean) == (
        "No single winner by what was learned: cpo is worse than the six others, which this run cannot tell apart.",
        "With three seeds and 200 prompts, this run could have found differences of 0.050 or more (80 % power).",
        "By the log-prob per token, gapo is better than the six others; by the four other readings, no two losses can "
        "be told apart.",
    )


def test_one_seed_says_what_it_is_of_and_a_noise_floor_says_it_instead() -> None:
    one = found(family("ab", "a > b"), seeds=(0,))
    assert one[:2] == ("a wins by what was learned on this one seed: it is better than b.", ONE_SEED)
    measured = found(family("ab", "a > b"), seeds=(0,), noise="One seed, with training noise as measured.")
    assert measured[:2] == (
        "a wins by what was learned: it is better than b.",
        "One seed, with training noise as measured.",
    )


def test_a_board_ranked_by_another_metric_names_it() -> None:
    order = family("ab", "a > b")
    assert headline(order, "spearman", False) == "a wins by spearman of each loss's own reward: it is better than b."
    assert headline(order, "spearman_within_prompt@mean", False).startswith(
        "a wins by spearman within prompt of the log-"
    )


def test_other_readings_with_one_outcome_share_a_clause() -> None:
    worse, apart = family("abc", "a b > c"), family("abc", "a > b c")
    (*_, said) = found(family("abc"), own=worse, sum=worse, mean=apart)
    assert said == (
        "By each loss's own reward and the summed log-prob, c is worse than the two others; by the log-prob per token, "
        "a is better than the two others; by the two other readings, no two losses can be told apart."
    )
    (*_, said) = found(family("abc"))
    assert said == "By the five other readings, no two losses can be told apart."
    (*_, said) = found(family("abc"), **dict.fromkeys(("own", "sum", "mean", "ratio", "ratio_mean"), apart))
    assert said == "By each of the five other readings, a is better than the two others."


def test_a_board_of_thirty_eight_losses_counts_what_it_cannot_list() -> None:
    order = [f"l{k:02d}" for k in range(38)]
    top, middle, low = order[:9], order[9:16], order[16:]
    many = family(order, f"{' '.join(top)} > {' '.join(low)}", f"{top[0]} > {' '.join(middle)}")
    said = found(many)
    assert said[0] == (
        "No single winner by what was learned: first place is open between nine losses, l00 the highest of them."
    )
    assert said[1] == (
        "Behind them, 22 others are worse than all nine that may be first; seven others are each worse than at least "
        "one other loss."
    )
    assert max(map(len, said)) < 200


def test_losses_without_a_result_are_named_and_a_board_of_nothing_else_has_no_winner() -> None:
    trouble = {"kto": ("diverged", "NaN"), "nca": ("failed", "no"), "bco": ("failed", "no"), "rso": ("missing", "")}
    nothing = dict.fromkeys(ACCURACIES, Family())
    assert findings(nothing, LEARNED, (0, 1), 0, {}, trouble) == (
        "No loss has a result: kto diverged; nca and bco failed; rso is missing.",
    )
    many = {f"l{k}": ("failed", "no") for k in range(6)}
    assert findings(nothing, LEARNED, (0, 1), 0, {}, many) == ("No loss has a result: six losses failed.",)
    beside = findings(dict.fromkeys(ACCURACIES, family("ab")), LEARNED, (0, 1), 9, {}, {"kto": ("diverged", "NaN")})
    assert beside[-1] == "Without a result: kto diverged."
    assert findings(nothing, LEARNED, (), 10, {}, {}) == ()  # nothing was trained


def test_what_the_words_say_is_what_the_tests_of_a_real_board_show() -> None:
    """Every loss that is said to be possibly first has nothing better; every other one has, by the ranges of ranks."""
    table, _ = table_of(NANO, "pairwise_accuracy")
    for board in table.boards:
        rows = [row for row in board.rows if row.rank is not None]
        others = [row.label for row in rows if row.rank_low != 1]
        assert board.conclusions[0].startswith("No single winner by each loss's own reward: ")
        assert board.conclusions[0].partition(": ")[2].startswith(f"{listed(others)} is worse than ")


def test_every_rendering_begins_with_the_headline_before_any_row(small_run: Path) -> None:
    table, _ = table_of(small_run)
    first, *_ = said = table.boards[0].conclusions
    assert first == "good wins by each loss's own reward on this one seed: it is better than the two others."
    page = html.render(table, manifest=ManifestFacts())
    for text, row in ((terminal.render(table), "\n1 "), (markdown.render(table), "| 1 "), (page, 'class="line sound"')):
        text = text.replace("&#x27;", "'")
        places = [text.index(sentence.replace("|", "\\|") if "**" in text else sentence) for sentence in said]
        assert places == sorted(places)
        assert places[-1] < text.index("To know") < text.index(row)
        assert text.index("implicit rewards, not generated text") < text.index(row)


def test_the_outcome_parts_all_losses_into_three() -> None:
    of = outcome_of(family("abcdef", "a b > d e", "a > c", "c > f"))
    assert (of.open, of.beaten, of.partly) == (("a", "b"), ("d", "e"), ("c", "f"))


# -- what was learned, and the line that disclaimers fold into ---------------------------------------------------------


def estimate(low: float) -> Estimate:
    return Estimate(value=low + 0.05, low=low, high=low + 0.1, n=100)


@pytest.mark.parametrize(
    ("lows", "said"),
    [
        ({}, ""),
        (
            {"a": 0.44, "b": 0.5},
            "No loss is shown to have learned anything: no interval of what was learned lies above",
        ),
        ({"a": 0.3}, "No loss is shown to have learned anything"),
        ({"a": 0.51}, "a is shown to have learned: its interval lies above 0.5, where the start checkpoint stands."),
        ({"a": 0.51, "b": 0.6}, "Both losses are shown to have learned: their intervals lie above 0.5"),
        ({"a": 0.51, "b": 0.6, "c": 0.7}, "All three losses are shown to have learned"),
        ({"a": 0.51, "b": 0.4}, "One of two losses is shown to have learned (an interval above 0.5"),
        ({"a": 0.51, "b": 0.4, "c": 0.6}, "Two of three losses are shown to have learned (an interval above 0.5"),
    ],
)
def test_a_board_says_which_losses_are_shown_to_have_learned(lows: dict[str, float], said: str) -> None:
    whole = shown_to_have_learned({label: estimate(low) for label, low in lows.items()})
    assert whole.startswith(said)
    assert bool(whole) is bool(said)
    below = [label for label, low in lows.items() if low <= 0.5]
    if below and len(below) < len(lows):
        assert whole.endswith(f", {listed(below)} not.")


def test_the_line_of_the_disclaimers_says_how_many_and_the_weightiest() -> None:
    assert things_to_know(8, ("one seed", "control")) == "To know (eight notes): one seed; control"
    assert things_to_know(1, ()) == "To know: one note"
    assert things_to_know(30, ("x",)) == "To know (30 notes): x"
