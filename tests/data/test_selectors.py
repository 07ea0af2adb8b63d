"""Selectors on five pairs, against values worked out by hand."""

from __future__ import annotations

import math
import re
from dataclasses import fields, replace
from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest

from harness.api import Candidate, HarnessError, Message, Pair, Selector, StartLogps
from harness.data.selectors.alignment_potential import AlignmentPotential, potential
from harness.data.selectors.baselines import Easiest, LargestMargin, Random, SmallestMargin
from harness.data.selectors.dcrm import DCRM, DCRMPairing, dcrm, levenshtein
from harness.data.selectors.dual_margin import DualMargin, certainty, joint, log_ratio_margins
from harness.manager import of_one_plugin, plugin_manager

GUIDE = (Path(__file__).parents[2] / "docs" / "selectors.md").read_text(encoding="utf-8")
TURN = (Message(role="user", content="question"),)


def pair(name: str, scores: tuple[float, float], chosen: tuple[int, ...], rejected: tuple[int, ...]) -> Candidate:
    return Candidate(
        pair_id=name, prompt_id=name, context=TURN, chosen="a", rejected="b",
        score_chosen=scores[0], score_rejected=scores[1], chosen_ids=chosen, rejected_ids=rejected,
    )  # fmt: skip


PAIRS = (
    pair("a", (4.0, 1.0), (1, 2), (1, 3)),  # margin 3; one token replaced
    pair("b", (3.0, 3.0), (1, 2, 3), (1, 2, 3, 4)),  # margin 0; one inserted
    pair("c", (5.0, 3.0), (1, 2, 3, 4), (5, 6)),  # margin 2; two deleted, two replaced
    pair("d", (2.0, 3.0), (7, 8), (7, 8)),  # margin -1, the label against the scores; the same tokens
    pair("e", (4.0, 3.0), (1, 2, 3, 4, 5), (2, 3, 4, 5)),  # margin 1; one deleted
)
LOGPS = StartLogps(
    chosen=np.array([-4.0, -6.0, -8.0, -3.0, -10.0]),
    rejected=np.array([-6.0, -8.0, -2.0, -3.0, -12.0]),
)
# gaps of sums:            2, 2, -6, 0, 2
# means per token, chosen: -2, -2, -2, -1.5, -2; rejected: -3, -2, -1, -1.5, -3
# gaps of means:           1, 0, -1, 0, 1
RNG = np.random.default_rng(0)


def test_the_largest_margins_are_of_the_scores_and_a_label_against_them_counts_below_zero() -> None:
    assert LargestMargin(share=0.4).select(PAIRS, None, RNG).tolist() == [0, 2]  # 3 and 2
    assert LargestMargin(share=0.8).select(PAIRS, None, RNG).tolist() == [0, 2, 4, 1]  # then 1 and 0, not -1


def test_the_smallest_margins_are_near_ties_whichever_side_scores_higher() -> None:
    assert SmallestMargin(share=0.6).select(PAIRS, None, RNG).tolist() == [1, 3, 4]  # |0|, |-1|, |1|


def test_the_easiest_are_those_that_the_start_has_right_per_token() -> None:
    assert Easiest(share=0.4).select(PAIRS, LOGPS, RNG).tolist() == [
        0,
        4,
    ]  # gaps 1 and 1; by sums b would tie with them
    assert Easiest(share=1.0).select(PAIRS, LOGPS, RNG).tolist() == [0, 4, 1, 3, 2]


def test_random_is_a_draw_without_replacement_by_its_seed() -> None:
    draws = [Random(share=0.4).select(PAIRS, None, np.random.default_rng(seed)) for seed in range(400)]
    assert all(len(set(draw.tolist())) == 2 for draw in draws)
    again = Random(share=0.4).select(PAIRS, None, np.random.default_rng(7))
    assert again.tolist() == draws[7].tolist()
    often = np.bincount(np.concatenate(draws), minlength=5)
    assert np.abs(often - 160).max() < 4 * math.sqrt(400 * 0.4 * 0.6)  # each pair in two of five draws


def test_dcrm_is_reward_over_edits_and_log_prob_gap() -> None:
    expected = [
        (1 / (1 + math.exp(-3)) - 0.5) / (1 + 2 + 1),  # 0.113144
        0 / (1 + 2 + 1),
        (1 / (1 + math.exp(-2)) - 0.5) / (4 + 6 + 1),  # 0.034618
        (1 / (1 + math.exp(1)) - 0.5) / (0 + 0 + 1),  # -0.231059
        (1 / (1 + math.exp(-1)) - 0.5) / (1 + 2 + 1),  # 0.057765
    ]
    np.testing.assert_allclose(dcrm(PAIRS, LOGPS), expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(expected, [0.113144, 0, 0.034618, -0.231059, 0.057765], atol=1e-6)
    assert DCRM(share=0.6).select(PAIRS, LOGPS, RNG).tolist() == [0, 4, 2]


def test_best_of_n2_takes_the_highest_dcrm_of_each_prompt_and_these_in_order() -> None:
    """Prompt p has three responses x, y, z and so three pairs, prompt q two of two responses each."""
    x, y, z, u, v = (1, 2, 3), (1, 2, 4), (9, 8, 7), (5,), (5, 6)
    logp = {x: -4.0, y: -5.0, z: -4.0, u: -2.0, v: -2.5}
    score = {x: 5.0, y: 4.0, z: 1.0, u: 4.0, v: 2.0}
    listed = [("p", x, y), ("p", x, z), ("p", y, z), ("q", u, v), ("q", u, x)]
    pairs = [
        replace(pair(name, (score[chosen], score[rejected]), chosen, rejected), prompt_id=name)
        for name, chosen, rejected in listed[:4]
    ]
    pairs.append(replace(pair("q", (4.0, 3.0), u, x), prompt_id="q"))
    logps = StartLogps(
        chosen=np.array([logp[chosen] for _, chosen, _ in listed]),
        rejected=np.array([logp[rejected] for _, _, rejected in listed]),
    )
    expected = [
        (1 / (1 + math.exp(-1)) - 0.5) / (1 + 1 + 1),  # 0.0770: one token replaced, a gap of 1
        (1 / (1 + math.exp(-4)) - 0.5) / (3 + 0 + 1),  # 0.1205: all three, the largest margin
        (1 / (1 + math.exp(-3)) - 0.5) / (3 + 1 + 1),  # 0.0905
        (1 / (1 + math.exp(-2)) - 0.5) / (1 + 0.5 + 1),  # 0.1523: one inserted
        (1 / (1 + math.exp(-1)) - 0.5) / (3 + 2 + 1),  # 0.0385
    ]
    np.testing.assert_allclose(dcrm(pairs, logps), expected, rtol=1e-12)
    np.testing.assert_allclose(expected, [0.0770, 0.1205, 0.0905, 0.1523, 0.0385], atol=1e-4)
    assert DCRMPairing().select(pairs, logps, RNG).tolist() == [3, 1]  # q's best before p's


def test_dcrm_of_scores_far_apart_is_half_over_the_difference() -> None:
    far = (pair("far", (5000.0, -5000.0), (1, 2), (1, 2)), pair("back", (-5000.0, 5000.0), (1,), (2,)))
    logps = StartLogps(chosen=np.array([-1.0, -1.0]), rejected=np.array([-1.0, -4.0]))
    assert dcrm(far, logps).tolist() == [0.5, -0.5 / (1 + 3 + 1)]


@pytest.mark.parametrize(
    ("left", "right", "edits"),
    [("kitten", "sitting", 3), ("intention", "execution", 5), ("", "abc", 3), ("abc", "", 3), ("", "", 0),
     ("abc", "abc", 0), ("flaw", "lawn", 2), ("ab", "ba", 2), ("aaaa", "aa", 2)],
)  # fmt: skip
def test_edits_are_levenshteins_textbook_distances(left: str, right: str, edits: int) -> None:
    assert levenshtein([ord(letter) for letter in left], [ord(letter) for letter in right]) == edits


def test_alignment_potential_is_z_of_the_margin_minus_z_of_the_gap_with_ddof_0() -> None:
    # |margins| 3 0 2 1 1: mean 7/5, variance 15/5 - 49/25 = 26/25; |gaps| 1 0 1 0 1: mean 3/5, variance 6/25
    margin, gap = math.sqrt(26) / 5, math.sqrt(6) / 5
    first = [1.6 / margin, -1.4 / margin, 0.6 / margin, -0.4 / margin, -0.4 / margin]
    second = [0.4 / gap, -0.6 / gap, 0.4 / gap, -0.6 / gap, 0.4 / gap]
    for weight in (0.0, 1.0, 2.5):
        expected = [one - weight * other for one, other in zip(first, second, strict=True)]
        np.testing.assert_allclose(potential(PAIRS, LOGPS, weight), expected, rtol=1e-12)
    # weight 1: 0.752391, -0.147961, -0.228190, 0.832513, -1.208749
    assert AlignmentPotential().select(PAIRS, LOGPS, RNG).tolist() == [3, 0]  # share 0.4
    assert AlignmentPotential(weight=0.0).select(PAIRS, LOGPS, RNG).tolist() == [0, 2]


# log-ratios, chosen: 1, 1, 0, 1, 4; rejected: 0, -1, 2, 1, 0
PROBED = replace(LOGPS, probe=(np.array([-3.0, -5.0, -8.0, -2.0, -6.0]), np.array([-6.0, -9.0, 0.0, -2.0, -12.0])))


def test_dual_margin_is_what_two_witnesses_say_together() -> None:
    assert log_ratio_margins(PROBED).tolist() == [1, 2, -2, 0, 4]
    # from the lowest to the highest: scores 3 0 2 -1 1 over 4 from -1, ratios 1 2 -2 0 4 over 6 from -2
    first, second = [1, 1 / 4, 3 / 4, 0, 1 / 2], [1 / 2, 2 / 3, 0, 1 / 3, 1]
    clipped = [[min(max(p, 1e-6), 1 - 1e-6) for p in each] for each in (first, second)]
    scores = certainty(np.array([3.0, 0.0, 2.0, -1.0, 1.0]), 0, 1)
    ratios = certainty(log_ratio_margins(PROBED), 0, 1)
    np.testing.assert_allclose(scores, clipped[0], rtol=1e-9)
    np.testing.assert_allclose(ratios, clipped[1], rtol=1e-9)
    # p q / (p q + (1-p)(1-q)): a and e are sure by one witness; b (1/4)(2/3) / ((1/4)(2/3) + (3/4)(1/3)) = 2/5;
    # c and d are sure of the opposite by one
    np.testing.assert_allclose(joint(scores, ratios), [1, 0.4, 0, 0, 1], atol=1e-5)
    selector = DualMargin(share=0.6, low=0.0, high=1.0)
    assert sorted(selector.select(PAIRS, PROBED, RNG).tolist()) == [0, 1, 4]
    assert selector.probe_pairs == 256


def test_dual_margin_clips_to_quantiles_and_sure_opposites_are_even() -> None:
    # the quantiles 0.25 and 0.75 of -1 0 1 2 3 are 0 and 2
    found = certainty(np.array([3.0, 0.0, 2.0, -1.0, 1.0]), 0.25, 0.75)
    np.testing.assert_allclose(found, [1, 0, 1, 0, 0.5], atol=2e-6)
    np.testing.assert_allclose(joint(np.array([1 - 1e-6]), np.array([1e-6])), [0.5], rtol=1e-9)
    assert certainty(np.ones(3), 0.05, 0.95).tolist() == [0.5] * 3


def test_a_column_without_spread_says_nothing() -> None:
    alike = StartLogps(chosen=np.full(5, -2.0), rejected=np.full(5, -2.0))
    same = [pair(str(number), (2.0, 1.0), (1, 2), (3, 4)) for number in range(5)]
    assert potential(same, alike, 1.0).tolist() == [0] * 5


def test_equal_values_are_taken_in_the_order_of_the_data() -> None:
    assert Random(share=0.6).top([1.0, 1.0, 1.0, 2.0, 1.0]).tolist() == [3, 0, 1]


def test_options_are_read_from_text_and_written_back() -> None:
    assert str(AlignmentPotential.from_options({"share": "0.25", "weight": "2.5"})) == (
        "alignment-potential:share=0.25,weight=2.5"
    )
    for options, said in (
        ({"share": "0"}, "selector 'dcrm': share got 0.0, expected above 0 and up to 1"),
        ({"share": "much"}, "selector 'dcrm': option 'share' got 'much', expected float"),
        ({"shares": "0.1"}, "selector 'dcrm' has no option 'shares'; its options are share"),
    ):
        with pytest.raises(HarnessError, match=said):
            DCRM.from_options(options)


def test_a_selector_has_no_way_to_true_quality_or_to_another_split() -> None:
    seen = {field.name for field in fields(Candidate)}
    assert seen == {
        "pair_id", "prompt_id", "context", "chosen", "rejected", "score_chosen", "score_rejected",
        "chosen_ids", "rejected_ids",
    }  # fmt: skip
    hidden = {field.name for field in fields(Pair)} - seen
    assert hidden == {"true_chosen", "true_rejected", "subset"}
    assert {field.name for field in fields(StartLogps)} == {"chosen", "rejected", "probe"}


def test_the_selectors_in_the_docs_are_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "hardest.py").write_text(first)
    (tmp_path / "by_margin.py").write_text(second)
    monkeypatch.syspath_prepend(tmp_path)
    entries = [EntryPoint(name=name, value=name, group="harness") for name in ("hardest", "by_margin")]
    found = of_one_plugin(plugin_manager(entries), "harness_selectors")
    hardest, by_margin = found["hardest"].from_options({"share": "0.2"}), found["by-margin"].from_options({})
    assert hardest.select(PAIRS, LOGPS, RNG).tolist() == [2]  # the only gap below 0
    # margins 3 0 2 -1 1, of which half, rounded to two, have a weight
    np.testing.assert_allclose(by_margin.select(PAIRS, None, RNG), [math.e**3, 0, math.e**2, 0, 0])


def test_every_shipped_selector_has_a_row_in_the_docs_with_its_share() -> None:
    rows = dict(re.findall(r"^\| `([a-z-]+)` \| .* \| ([0-9.]+) \|$", GUIDE, re.MULTILINE))
    found: dict[str, type[Selector]] = of_one_plugin(plugin_manager(), "harness_selectors")
    assert {name: float(share) for name, share in rows.items()} == {
        name: selector.from_options({}).share for name, selector in found.items()
    }


def test_every_shipped_selector_keeps_its_share_of_any_number_of_pairs() -> None:
    found: dict[str, type[Selector]] = of_one_plugin(plugin_manager(), "harness_selectors")
    assert list(found) == [
        "alignment-potential",
        "dcrm",
        "dcrm-pairing",
        "dual-margin",
        "easiest",
        "largest-margin",
        "random",
        "smallest-margin",
    ]
    for selector in (each for each in found.values() if not each.needs_lists):
        for share in (0.2, 0.5, 1.0):
            chosen = selector.from_options({"share": share}).select(PAIRS, PROBED, RNG)
            assert len(set(chosen.tolist())) == len(chosen) == round(5 * share)
