"""Noise in labels: which change, how many, and that the test split has none."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from harness.api import Dataset, HarnessError, Listwise, LoadOptions, Message, Pair, Response
from harness.data.noise import with_noise
from harness.data.simulator.synthetic import harness_datasets
from harness.run_folder.facts import NoiseFacts
from harness.run_folder.label_noise import NoiseSetting

DATA = harness_datasets()[0].load(LoadOptions())
TURN = (Message(role="user", content="question"),)


def pair(name: str, chosen: str = "good", rejected: str = "bad", scores: tuple[float, float] = (2.0, 1.0)) -> Pair:
    return Pair(
        pair_id=name, prompt_id=name, context=TURN, chosen=chosen, rejected=rejected,
        true_chosen=4.0, true_rejected=3.0, score_chosen=scores[0], score_rejected=scores[1],
    )  # fmt: skip


def of(*pairs: Pair, **others: object) -> Dataset:
    return Dataset(**{"name": "few", "train": pairs, "dev": (), "test": (), **others})  # type: ignore[arg-type]


def swapped(before: tuple[Pair, ...], after: tuple[Pair, ...]) -> np.ndarray:
    for old, new in zip(before, after, strict=True):
        assert {old.chosen, old.rejected} == {new.chosen, new.rejected}
        assert (old.pair_id, old.prompt_id, old.context) == (new.pair_id, new.prompt_id, new.context)
    return np.array([old.chosen != new.chosen for old, new in zip(before, after, strict=True)])


def facts(data: Dataset, noise: str, seed: int = 0) -> NoiseFacts:
    found = with_noise(data, noise, seed).facts
    assert found is not None
    return found


@pytest.mark.parametrize("dial", ["flip", "near-ties", "longer-wins"])
@pytest.mark.parametrize("share", [0.1, 0.25, 0.333])
def test_a_dial_changes_exactly_its_share_of_all_pairs_of_train_and_of_dev(dial: str, share: float) -> None:
    noisy = with_noise(DATA, f"{dial}={share}", 3)
    for before, after in ((DATA.train, noisy.data.train), (DATA.dev, noisy.data.dev)):
        assert swapped(before, after).sum() == round(share * len(before)) > 0
    assert noisy.facts is not None
    assert noisy.facts.train_changed == round(share * len(DATA.train))
    assert (noisy.facts.train_pairs, noisy.facts.dev_pairs) == (len(DATA.train), len(DATA.dev))


@pytest.mark.parametrize("noise", ["flip=0.5", "near-ties=0.5", "longer-wins=0.3", "gaussian=2"])
def test_the_test_split_and_what_is_fine_tuned_on_stay_in_every_bit(noise: str) -> None:
    noisy = with_noise(DATA, noise, 0).data
    assert noisy.train != DATA.train
    assert noisy.dev != DATA.dev
    for split in ("test", "test_lenbalanced", "listwise_test", "sft", "tasks"):
        assert getattr(noisy, split) is getattr(DATA, split)


def test_a_swapped_pair_keeps_its_scores_in_place_and_its_true_quality_with_the_text() -> None:
    (after,) = with_noise(of(pair("a")), "flip=1", 0).data.train
    assert (after.chosen, after.rejected) == ("bad", "good")
    assert (after.score_chosen, after.score_rejected) == (2.0, 1.0)
    assert (after.true_chosen, after.true_rejected) == (3.0, 4.0)


def test_flips_fall_on_the_smallest_gaps_of_all_pairs() -> None:
    gaps = [3.0, 0.5, 2.0, 0.0, 1.0, 4.0]
    data = of(*(pair(str(i), scores=(5.0, 5.0 - gap)) for i, gap in enumerate(gaps)))
    flipped = swapped(data.train, with_noise(data, "near-ties=0.5", 0).data.train)
    assert np.flatnonzero(flipped).tolist() == [1, 3, 4]


def test_which_of_equal_gaps_flip_depends_on_the_seed_and_not_on_their_place() -> None:
    data = of(*(pair(str(i)) for i in range(10)))
    drawn = {tuple(swapped(data.train, with_noise(data, "near-ties=0.2", seed).data.train)) for seed in range(20)}
    assert len(drawn) > 5
    assert all(sum(flipped) == 2 for flipped in drawn)


def test_near_ties_without_a_score_on_both_sides_are_none() -> None:
    unknown = [pair(f"u{i}", scores=(float("nan"), 1.0)) for i in range(3)]
    data = of(*unknown, pair("far", scores=(9.0, 1.0)))
    assert swapped(data.train, with_noise(data, "near-ties=0.25", 0).data.train).tolist() == [False, False, False, True]
    with pytest.raises(HarnessError, match=r"changes 2 of 4 train labels.*there are 1; give near-ties=0.25 or less"):
        with_noise(data, "near-ties=0.5", 0)


def test_longer_wins_swaps_only_pairs_whose_rejected_response_is_longer_and_refuses_more_than_there_are() -> None:
    texts = [("long text", "short"), ("short", "long text"), ("same!", "alike"), ("s", "longer")]
    data = of(*(pair(str(i), *both) for i, both in enumerate(texts)))
    after = with_noise(data, "longer-wins=0.5", 0).data.train
    assert swapped(data.train, after).tolist() == [False, True, False, True]
    assert all(len(each.chosen) >= len(each.rejected) for each in after)
    with pytest.raises(HarnessError, match=r"changes 3 of 4 .* a rejected response that is longer, and there are 2"):
        with_noise(data, "longer-wins=0.75", 0)


def test_errors_of_scores_have_the_sd_that_was_asked_in_the_unit_of_the_scores_and_the_label_follows_them() -> None:
    data = of(*(pair(str(i), scores=(2.0, 1.0)) for i in range(4000)))
    noisy = with_noise(data, "gaussian=0.5", 0)
    flipped = swapped(data.train, noisy.data.train)
    scores = np.array([[each.score_chosen, each.score_rejected] for each in noisy.data.train])
    assert (scores[:, 0] >= scores[:, 1]).all()
    of_good = np.where(flipped, scores[:, 1], scores[:, 0])
    assert abs(of_good.mean() - 2.0) < 4 * 0.5 / np.sqrt(4000)
    assert abs(of_good.std() - 0.5) < 4 * 0.5 / np.sqrt(2 * 4000)
    # the gap, 1, has an error of sd 0.5 sqrt(2): it falls below 0 with P(Z < -1.414) = 0.0786
    assert abs(flipped.mean() - 0.0786) < 4 * np.sqrt(0.0786 * 0.9214 / 4000)
    assert facts(data, "gaussian=0.5").train_changed == flipped.sum()


def test_a_response_has_one_error_in_all_pairs_and_lists_of_its_split_and_no_lists_of_the_test_split() -> None:
    listwise = Listwise(
        prompt_id="p", context=TURN,
        responses=tuple(Response(response_id=text, text=text, score=score) for text, score in (("a", 3.0), ("b", 1.0))),
    )  # fmt: skip
    first = replace(pair("1", "a", "b", (3.0, 1.0)), prompt_id="p")
    second = replace(pair("2", "a", "c", (3.0, 2.5)), prompt_id="p")
    data = of(first, dev=(first, second), test=(first,), listwise_dev=(listwise,), listwise_test=(listwise,))
    noisy = with_noise(data, "gaussian=3", 1).data
    known: dict[str, set[float]] = {}
    for each in noisy.dev:
        known.setdefault(each.chosen, set()).add(each.score_chosen)
        known.setdefault(each.rejected, set()).add(each.score_rejected)
    for response in noisy.listwise_dev[0].responses:
        known.setdefault(response.text, set()).add(response.score)
    assert {text: len(scores) for text, scores in known.items()} == {"a": 1, "b": 1, "c": 1}
    (in_train,) = noisy.train
    of_train = {in_train.chosen: in_train.score_chosen, in_train.rejected: in_train.score_rejected}
    assert {of_train["a"]} != known["a"]
    assert noisy.listwise_test == (listwise,)


def test_without_any_score_there_is_nothing_to_err_on_and_the_error_says_what_to_do() -> None:
    data = of(pair("a", scores=(float("nan"), float("nan"))))
    with pytest.raises(HarnessError, match=r"--noise got gaussian=1.*no train pair has two; .* another dial"):
        with_noise(data, "gaussian=1", 0)


def test_the_same_seed_gives_the_same_labels_and_another_one_others() -> None:
    assert with_noise(DATA, "flip=0.1", 1).data.train == with_noise(DATA, "flip=0.1", 1).data.train
    assert with_noise(DATA, "flip=0.1", 1).data.train != with_noise(DATA, "flip=0.1", 2).data.train


@pytest.mark.parametrize("nothing", [None, "none", "flip=0", "gaussian=0"])
def test_no_noise_leaves_the_data_as_they_are(nothing: str | None) -> None:
    noisy = with_noise(DATA, nothing, 0)
    assert noisy.data is DATA
    assert noisy.facts is None


@pytest.mark.parametrize("wrong", ["flip", "flip=x", "flip=1.5", "flip=-1", "flip=nan", "gaussian=inf", "salt=0.1", ""])
def test_what_is_no_dial_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match="expected none, flip=SHARE, near-ties=SHARE, longer-wins=SHARE"):
        NoiseSetting.parse(wrong)


def test_words_say_the_share_that_was_changed() -> None:
    data = of(*(pair(str(i)) for i in range(8)), dev=tuple(pair(str(i)) for i in range(4)))
    assert facts(data, "flip=0.25").in_words == (
        "flip=0.25 changes 2 of 8 training labels (25.0%) and 1 of 4 dev labels (25.0%), and none of the test split"
    )
