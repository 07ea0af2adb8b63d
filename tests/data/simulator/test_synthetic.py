"""The embedded data: true quality is known, noise does what it says, and no cheap cue gives quality away."""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from harness.api import Dataset, HarnessError, LoadOptions, Pair
from harness.data.simulator import tasks
from harness.data.simulator.responses import STYLES, WEIGHTS, Quality, response
from harness.data.simulator.synthetic import Settings, harness_datasets, make
from harness.data.simulator.tasks import FAMILIES, Task

SMALL = Settings(prompts_train=40, prompts_dev=10, prompts_test=20)
MIDDLE = Settings(prompts_train=300, prompts_dev=0, prompts_test=300)
BEST = Quality(completeness=1.0, format=1.0, concision=1.0, tone=1.0, correctness=1.0)
SUM = Task(
    family="arithmetic",
    request="Add 2 and 3.",
    frame="It is {answer}.",
    right="5",
    near="6",
    reason="Two and three make five.",
    tip="Use your fingers.",
)


@pytest.fixture(scope="module")
def data() -> Dataset:
    return make(Settings(), 0)


def test_true_quality_is_the_weighted_sum_worked_out_by_hand() -> None:
    quality = Quality(completeness=0.5, format=1.0, concision=0.0, tone=0.5, correctness=1.0)
    assert quality.true() == pytest.approx(1 + 4 * (0.13 + 0.21 + 0.0 + 0.085 + 0.16))


def test_the_best_response_is_worth_five_and_the_worst_one() -> None:
    worst = Quality(completeness=0.0, format=0.0, concision=0.0, tone=0.0, correctness=0.0)
    assert BEST.true() == pytest.approx(5.0)
    assert worst.true() == pytest.approx(1.0)
    assert sum(WEIGHTS.values()) == pytest.approx(1.0)


def test_the_best_response_holds_the_right_answer_and_every_part_in_the_style_asked_for() -> None:
    lines = response(np.random.default_rng(0), SUM, "numbers", BEST).split("\n")
    assert lines[1:-1] == ["1. It is 5.", "2. Two and three make five.", "3. Use your fingers."]


@pytest.mark.parametrize("style", STYLES)
def test_a_fault_in_any_part_changes_the_text(style: str) -> None:
    for part in WEIGHTS:
        for level in (0.0, 0.5) if part != "correctness" else (0.0,):
            faulty = Quality(**{**dict.fromkeys(WEIGHTS, 1.0), part: level})
            for seed in range(50):
                good, bad = (response(np.random.default_rng(seed), SUM, style, quality) for quality in (BEST, faulty))
                assert good != bad, (part, level, seed)


def test_right_answers_agree_with_answers_worked_out_from_the_prompt_text() -> None:
    rng, seen = np.random.default_rng(1), set()
    for _ in range(600):
        made = tasks.task(rng)
        numbers = [int(number) for number in re.findall(r"\d+", made.request)]
        if made.family == "arithmetic":
            assert int(made.right) == numbers[0] * numbers[1] - numbers[2]
        elif made.family == "sort numbers":
            assert made.right == ", ".join(map(str, sorted(numbers, reverse="from large" in made.request)))
        elif made.family == "compare":
            things = dict(zip(numbers, re.findall(r" a (\w+)", " " + made.request.lower()), strict=False))
            assert made.right == things[max(numbers) if "expensive" in made.request else min(numbers)]
        elif made.family == "convert" and "hours to minutes" in made.request:
            assert int(made.right) == 60 * numbers[0]
        assert made.right != made.near
        seen.add(made.family)
    assert len(seen) == len(FAMILIES) >= 8


def test_without_annotator_noise_no_label_is_flipped() -> None:
    quiet = make(replace(MIDDLE, annotator_noise=0.0), 0)
    assert _flipped(quiet) == 0.0


def test_more_annotator_noise_flips_more_labels() -> None:
    shares = [_flipped(make(replace(MIDDLE, annotator_noise=noise), 0)) for noise in (0.2, 0.5, 1.5)]
    assert 0.0 < shares[0] < shares[1] < shares[2] < 0.5


def test_annotator_noise_has_the_spread_asked_for(data: Dataset) -> None:
    inner = [r for prompt in data.listwise_test for r in prompt.responses if 2.0 < r.true_quality < 4.0]
    spread = np.std([r.score - r.true_quality for r in inner])
    assert spread == pytest.approx(math.hypot(0.4, 0.1 / math.sqrt(12)), rel=0.1)  # noise, and rounding to 0.1


def test_noise_changes_scores_but_no_text() -> None:
    quiet, loud = (make(replace(SMALL, annotator_noise=noise), 0) for noise in (0.0, 1.0))
    assert quiet.sft == loud.sft
    assert [p.score_chosen for p in quiet.test] != [p.score_chosen for p in loud.test]


def test_prompt_bias_pairs_good_with_good_and_bad_with_bad_for_exactly_its_share_of_the_training_prompts() -> None:
    settings = Settings(prompts_train=40, prompts_dev=3, prompts_test=5)
    plain, biased = make(settings, 1), make(replace(settings, prompt_bias=0.3), 1)

    def halves(data: Dataset) -> dict[str, list[set[str]]]:
        of: dict[str, list[set[str]]] = {}
        for pair in data.train:
            of.setdefault(pair.prompt_id, []).append({pair.chosen, pair.rejected})
        return of

    def in_halves(data: Dataset, prompt_id: str) -> bool:
        pairs = [pair for pair in data.train if pair.prompt_id == prompt_id]
        low, high = sorted(sorted((pair.true_chosen, pair.true_rejected)) for pair in pairs)
        return low[1] < high[0]

    before, after = halves(plain), halves(biased)
    changed = [prompt for prompt in before if before[prompt] != after[prompt]]
    assert 0 < len(changed) <= 12  # of 0.3 * 40; some were in halves already
    assert all(in_halves(biased, prompt) for prompt in changed)
    assert all(before[prompt][0] | before[prompt][1] == after[prompt][0] | after[prompt][1] for prompt in before)
    whole = make(replace(settings, prompt_bias=1.0), 1)
    assert all(in_halves(whole, prompt) for prompt in before)
    assert (biased.test, biased.dev, biased.sft) == (plain.test, plain.dev, plain.sft)
    assert "prompt_bias=0.3" in biased.source
    assert "prompt_bias" not in plain.source


def test_under_prompt_bias_the_only_pair_of_a_prompt_is_as_often_of_good_as_of_bad_responses() -> None:
    data = make(Settings(prompts_train=400, prompts_dev=0, prompts_test=0, train_pairs_per_prompt=1, prompt_bias=1), 0)
    middle = np.median([quality for pair in data.train for quality in (pair.true_chosen, pair.true_rejected)])
    good = sum(pair.true_chosen + pair.true_rejected > 2 * middle for pair in data.train)
    assert 160 < good < 240  # 200 expected, sd 10


def test_the_notes_count_ties_and_flips(data: Dataset) -> None:
    ties = sum(pair.score_chosen == pair.score_rejected for pair in data.train)
    assert f"train: {ties} of {len(data.train)} pairs are ties" in data.notes[0]
    assert f"flipped {_flipped(data):.1%}" in data.notes[1]
    assert "seed=0" in data.source
    assert "annotator_noise=0.4" in data.source


def test_no_prompt_text_is_in_two_splits_or_twice_in_one(data: Dataset) -> None:
    splits = [{pair.prompt for pair in split} for split in (data.train, data.dev, data.test)]
    assert [len(split) for split in splits] == [1200, 150, 200]
    assert len(set.union(*splits)) == 1550


def test_a_prompt_drawn_twice_is_used_once_and_running_out_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "task", lambda rng: SUM)  # leaves 4 ways to ask for the parts x 10 to ask for a style
    few = make(Settings(prompts_train=20, prompts_dev=5, prompts_test=10), 0)
    assert len({pair.prompt for pair in (*few.train, *few.dev, *few.test)}) == 35
    with pytest.raises(HarnessError, match="more than 40 prompts"):
        make(Settings(prompts_train=31, prompts_dev=5, prompts_test=5), 0)


def test_more_training_prompts_change_no_test_prompt() -> None:
    fewer, more = (make(Settings(prompts_train=count, prompts_test=20), 0) for count in (10, 50))
    assert fewer.test == more.test
    assert fewer.train == more.train[: len(fewer.train)]


def test_every_pair_is_valid(data: Dataset) -> None:
    for split in (data.train, data.dev, data.test):
        assert len({pair.pair_id for pair in split}) == len(split)
        for pair in split:
            assert re.fullmatch(r"[0-9a-f]{64}", pair.prompt_id)
            assert [turn.role for turn in pair.context] == ["user"]
            assert pair.chosen.strip() and pair.rejected.strip() and pair.chosen != pair.rejected  # noqa: PT018 - one fact
            assert 1.0 <= pair.score_rejected <= pair.score_chosen <= 5.0
            assert 1.0 <= min(pair.true_chosen, pair.true_rejected) < max(pair.true_chosen, pair.true_rejected) <= 5.0


def test_listwise_splits_hold_four_responses_of_different_quality_to_the_same_prompts(data: Dataset) -> None:
    assert {prompt.prompt_id for prompt in data.listwise_test} == {pair.prompt_id for pair in data.test}
    assert {prompt.prompt_id for prompt in data.listwise_dev} == {pair.prompt_id for pair in data.dev}
    for prompt in (*data.listwise_dev, *data.listwise_test):
        assert len({r.text for r in prompt.responses}) == len({r.true_quality for r in prompt.responses}) == 4
    ids = [r.response_id for prompt in (*data.listwise_dev, *data.listwise_test) for r in prompt.responses]
    assert len(set(ids)) == len(ids)


def test_gaps_run_from_tiny_to_large(data: Dataset) -> None:
    gaps = [abs(pair.true_chosen - pair.true_rejected) for pair in data.test]
    assert min(gaps) < 0.1
    assert max(gaps) > 2.5


def test_prompts_and_responses_have_the_size_of_short_chat(data: Dataset) -> None:
    prompts = [len(prompt.context[0].content.split()) for prompt in data.listwise_test]
    words = [len(r.text.split()) for prompt in data.listwise_test for r in prompt.responses]
    assert min(prompts) >= 12
    assert max(prompts) <= 50
    assert np.percentile(words, [1, 99]) == pytest.approx([42, 42], abs=28)


def test_the_length_balanced_pairs_are_test_pairs_of_like_length(data: Dataset) -> None:
    assert 50 < len(data.test_lenbalanced) < len(data.test)
    assert set(data.test_lenbalanced) <= set(data.test)
    for pair in data.test_lenbalanced:
        assert 0.8 < len(pair.chosen) / len(pair.rejected) < 1.25


def test_a_fresh_interpreter_with_another_hash_seed_makes_the_same_data() -> None:
    code = (
        "from harness.data.simulator.synthetic import Settings, make; "
        "print(make(Settings(prompts_train=40, prompts_dev=10, prompts_test=20), 7).fingerprint)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "12345"}
    run = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == make(SMALL, 7).fingerprint


def test_another_seed_makes_other_data() -> None:
    assert make(SMALL, 1).fingerprint != make(SMALL, 2).fingerprint


def test_empty_splits_are_allowed() -> None:
    none = make(Settings(prompts_train=0, prompts_dev=0, prompts_test=0), 0)
    assert not any((none.train, none.dev, none.test, none.test_lenbalanced, none.listwise_dev, none.listwise_test))


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(HarnessError, match="test_pairs_per_prompt got 7, expected 1 to 6"):
        Settings(test_pairs_per_prompt=7)
    with pytest.raises(HarnessError, match=r"annotator_noise got -0\.1"):
        Settings(annotator_noise=-0.1)
    with pytest.raises(HarnessError, match="prompts_train got -1"):
        Settings(prompts_train=-1)
    with pytest.raises(HarnessError, match="seed got -1"):
        make(SMALL, -1)


def test_the_plugin_brings_the_data_of_the_seed_asked_for(data: Dataset) -> None:
    (source,) = harness_datasets()
    assert source.name == "embedded"
    assert source.load(LoadOptions(seed=0)).fingerprint == data.fingerprint


# What makes it worth training on: quality can be learnt from the text, and no cheap cue gives it away. With 600 test
# pairs the standard error of an accuracy is 0.02, so three seeds stand well inside each band.


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_longer_response_wins_about_as_often_as_not_and_a_bag_of_words_learns_better_from_600_pairs(
    seed: int,
) -> None:
    data = make(MIDDLE, seed)
    assert len(data.train) == len(data.test) == 600
    assert 0.45 < _accuracy(data.test, len) < 0.60
    assert _accuracy(data.test, _bag_of_words(data.train)) > 0.70


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_response_a_language_model_finds_likelier_is_not_the_better_one(data: Dataset, order: int) -> None:
    """An n-gram model of all responses alike, in the role of the fine-tuned model before preference training."""
    assert 0.40 < _accuracy(data.test, _mean_logp([text for _, text in data.sft[::2]], order)) < 0.60


def _flipped(data: Dataset) -> float:
    labelled = [pair for pair in data.train if pair.score_chosen > pair.score_rejected]
    return sum(pair.true_chosen < pair.true_rejected for pair in labelled) / len(labelled)


def _accuracy(pairs: tuple[Pair, ...], score: Callable[[str], float]) -> float:
    """Return the share of pairs whose chosen response scores higher; a tie counts half."""
    margins = np.array([score(pair.chosen) - score(pair.rejected) for pair in pairs])
    return float(np.mean((margins > 0) + 0.5 * (margins == 0)))


def _tokens(text: str) -> list[str]:
    return re.findall(r"\n|\w+|[^\w\s]", text)


def _mean_logp(texts: list[str], order: int) -> Callable[[str], float]:
    """Return the mean log-prob per token under an interpolated n-gram model of that order fitted on `texts`."""
    grams: Counter[tuple[str, ...]] = Counter()
    contexts: Counter[tuple[str, ...]] = Counter()
    padding = ["<s>"] * (order - 1)
    for text in texts:
        words = [*padding, *_tokens(text), "</s>"]
        for end in range(order - 1, len(words)):
            for length in range(order):
                contexts[tuple(words[end - length : end])] += 1
                grams[tuple(words[end - length : end + 1])] += 1
    vocabulary = len({gram for gram in grams if len(gram) == 1})

    def score(text: str) -> float:
        words = [*padding, *_tokens(text), "</s>"]
        total = 0.0
        for end in range(order - 1, len(words)):
            p = 1 / vocabulary
            for length in range(order):
                context = tuple(words[end - length : end])
                p = (grams[(*context, words[end])] + 2 * p) / (contexts[context] + 2)
            total += math.log(p)
        return total / (len(words) - order + 1)

    return score


def _bag_of_words(pairs: tuple[Pair, ...]) -> Callable[[str], float]:
    """Return the score of a logistic regression on differences of word counts, with a small ridge."""
    words = sorted({word for pair in pairs for text in (pair.chosen, pair.rejected) for word in _tokens(text)})
    column = {word: index for index, word in enumerate(words)}

    def counts(text: str) -> np.ndarray:
        known = [column[word] for word in _tokens(text) if word in column]
        return np.bincount(known, minlength=len(words)).astype(float)

    differences = np.array([counts(pair.chosen) - counts(pair.rejected) for pair in pairs])
    weights = np.zeros(len(words))
    for _ in range(300):
        wrong = 1 / (1 + np.exp(differences @ weights))
        weights += 0.5 * (differences.T @ wrong / len(pairs) - 0.01 * weights)
    return lambda text: float(counts(text) @ weights)
