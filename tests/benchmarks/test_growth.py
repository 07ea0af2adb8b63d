"""How time and memory grow: with pairs, losses, the length of responses and the vocabulary.

Slopes of log-log fits over 1x, 2x, 4x, 8x: 1 is linear, 0 is constant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from benchmarks import corpus
from benchmarks.driver import Worker, above_model

from harness.api import Message, Pair

TIMES = (1, 2, 4, 8)
REPETITIONS = 3
SETTING = {"dtype": "float32", "micro_pairs": 4, "batch_pairs": 4, "learning_rate": 1e-4}
SEVEN = ("simpo", "cpo", "ipo", "alphapo", "dpo", "gapo", "gappo")


def slope(values: Mapping[int, float]) -> float:
    """Return the slope of the log-log fit."""
    return float(np.polyfit(np.log(list(values)), np.log(list(values.values())), 1)[0])


def show(what: str, values: Mapping[int, float]) -> float:
    """Print the values and their slope; return it."""
    found = slope(values)
    print(f"\n{what}: " + ", ".join(f"{k}: {v:.3g}" for k, v in values.items()) + f"; slope {found:.2f}", end="")
    return found


@pytest.mark.bench
def test_time_is_linear_in_pairs_and_memory_does_not_grow(workers: Callable[[str], Worker], tmp_path: Path) -> None:
    """Steps of four pairs of one length, 2 to 16 of them."""
    ours, folder = workers("ours"), str(tmp_path)
    corpus.write(tmp_path, corpus.small(4096), some=_of_length(100, 8 * TIMES[-1]))
    seconds, memory = {}, {}
    ours("prepare", folder=folder, n_pairs=8, **SETTING)
    ours("train", loss="simpo")
    for pairs in (8 * times for times in TIMES):
        prepared = ours("prepare", folder=folder, n_pairs=pairs, **SETTING)
        runs = [ours("train", loss="simpo") for _ in range(REPETITIONS)]
        # the first step is not timed
        seconds[pairs] = min(run["step_seconds"] for run in runs) / (pairs - 4) / prepared["tokens"] * pairs**2
        memory[pairs] = float(runs[0]["peak_bytes"])
    assert 0.7 < show("seconds by pairs", seconds) < 1.1  # a machine that speeds up meanwhile shows less than 1
    assert show("peak bytes by pairs", memory) < 0.1


@pytest.mark.bench
def test_time_is_linear_in_losses_and_memory_does_not_grow(
    workers: Callable[[str], Worker], folder_of: Callable[[int | str], str]
) -> None:
    """The first 1, 2, 4, 7 losses of a sweep, reference passes included."""
    ours = workers("ours")
    ours("prepare", folder=folder_of(4096), n_pairs=8, **SETTING)
    ours("train", loss="simpo")
    each, peaks = [], []
    for name in SEVEN:
        runs = [ours("train", loss=name, share_reference=True) for _ in range(REPETITIONS)]
        paid = max(run["reference_seconds"] for run in runs)  # the first loss that needs it pays
        each.append(min(run["seconds"] for run in runs) + paid)
        peaks.append(float(runs[0]["peak_bytes"]))
    counts = (1, 2, 4, 7)
    assert 0.8 < show("seconds by losses", {count: sum(each[:count]) for count in counts}) < 1.2
    assert show("peak bytes by losses", {count: max(peaks[:count]) for count in counts}) < 0.1


@pytest.mark.bench
def test_time_grows_with_the_length_of_responses_no_faster_than_attention(
    workers: Callable[[str], Worker], tmp_path: Path
) -> None:
    """Eight pairs with responses of 32 to 256 words: linear but for attention's square."""
    ours = workers("ours")
    seconds, memory = {}, {}
    for words in (32 * times for times in TIMES):
        folder = tmp_path / str(words)
        corpus.write(folder, corpus.small(4096), some=_of_length(words))
        prepared = ours("prepare", folder=str(folder), n_pairs=8, **SETTING)
        runs = [ours("train", loss="simpo") for _ in range(REPETITIONS)]
        seconds[prepared["tokens"]] = min(run["step_seconds"] for run in runs)
        memory[prepared["tokens"]] = float(runs[0]["peak_bytes"])
    assert show("seconds by tokens", seconds) < 1.5
    assert show("peak bytes by tokens", memory) < 1.1


@pytest.mark.bench
def test_no_memory_grows_with_tokens_times_vocabulary(
    workers: Callable[[str], Worker], folder_of: Callable[[int | str], str]
) -> None:
    """The mixed difference of peak memory over tokens and vocabulary, in units of a full fp32 tensor of logits."""
    few, many = 4, 16
    small, *_, large = vocabularies = [4096 * times for times in TIMES]
    peak, tokens, seconds = {}, {}, {}
    for vocabulary in vocabularies:
        for pairs in (few, many):
            ours = workers("ours")  # a fresh process each: what an earlier run freed would hide
            setting = {**SETTING, "micro_pairs": pairs, "batch_pairs": pairs}
            prepared = ours("prepare", folder=folder_of(vocabulary), n_pairs=pairs, **setting)
            run = ours("train", loss="simpo")
            peak[pairs, vocabulary] = above_model(run, prepared)
            tokens[pairs], seconds[pairs, vocabulary] = prepared["tokens"], run["seconds"]
    mixed = peak[many, large] - peak[many, small] - peak[few, large] + peak[few, small]
    full = 4 * (tokens[many] - tokens[few]) * (large - small)
    for pairs in (few, many):
        show(f"seconds by vocabulary, {pairs} pairs", {size: seconds[pairs, size] for size in vocabularies})
        show(f"bytes above the model by vocabulary, {pairs} pairs", {size: peak[pairs, size] for size in vocabularies})
    print(f"\nmixed difference {mixed / full:.3f} of full logits", end="")
    assert mixed < 0.1 * full


def _of_length(words: int, count: int = 8) -> list[Pair]:
    rng = np.random.default_rng(0)
    lexicon = [f"w{index}" for index in range(50)]

    def text(words: int) -> str:
        return " ".join(rng.choice(lexicon, words))

    return [
        Pair(
            pair_id=str(index),
            prompt_id=str(index),
            context=(Message(role="user", content=text(20)),),
            chosen=text(words),
            rejected=text(words),
        )
        for index in range(count)
    ]
