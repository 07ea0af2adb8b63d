"""Noise in the labels of training and dev pairs, `--noise`: seeded, the same for every loss and model.

flip          round(p N) pairs, drawn at random, have chosen and rejected swapped
near-ties     the round(p N) pairs with the smallest gaps between their scores do, equal gaps in random order
longer-wins   round(p N) pairs do, drawn at random among those whose rejected response has more characters
gaussian      every response's score gets a normal error, one in all pairs and lists of its split; the label follows

N counts all pairs of the split, before a model leaves out any. A swapped pair keeps its scores in place: as with an
annotator who errs, the score goes with the label, so that losses that read scores are misled too. The test split and
what is fine-tuned on before training stay as they are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from harness.api import Dataset, HarnessError, Listwise, Pair
from harness.run_folder.facts import NoiseFacts
from harness.run_folder.label_noise import GAUSSIAN, NoiseSetting

STREAM = 23
"""Sets the random numbers apart from others of the same seed."""


@dataclass(frozen=True, kw_only=True)
class Noisy:
    """Data with noise in their labels, and what it changed."""

    data: Dataset
    facts: NoiseFacts | None = None
    """None without noise."""


def with_noise(data: Dataset, noise: str | None, seed: int) -> Noisy:
    """Return the data with the labels of training and dev pairs changed as `noise` says; None: as they are.

    Raises `HarnessError` where scores or pairs to change are missing.
    """
    setting = NoiseSetting.parse(noise) if noise else None
    if setting is None:
        return Noisy(data=data)
    of_train, of_dev = (np.random.default_rng([seed, STREAM, number]) for number in range(2))
    train = _changed(data.train, data.listwise_train, setting, "train", of_train)
    dev = _changed(data.dev, data.listwise_dev, setting, "dev", of_dev)
    facts = NoiseFacts(
        setting=str(setting),
        train_pairs=len(data.train),
        train_changed=train.labels,
        dev_pairs=len(data.dev),
        dev_changed=dev.labels,
    )
    noisy = replace(data, train=train.pairs, listwise_train=train.lists, dev=dev.pairs, listwise_dev=dev.lists)
    return Noisy(data=noisy, facts=facts)


class _Changed(NamedTuple):
    """A split with noise, and how many of its pairs have another response chosen than before."""

    pairs: tuple[Pair, ...]
    lists: tuple[Listwise, ...]
    labels: int


def _changed(
    pairs: Sequence[Pair], lists: tuple[Listwise, ...], setting: NoiseSetting, split: str, rng: np.random.Generator
) -> _Changed:
    if setting.dial == GAUSSIAN:
        return _with_other_scores(pairs, lists, setting, split, rng)
    swapped = _swapped(pairs, setting, split, rng)
    return _Changed(swap_labels(pairs, swapped), lists, int(swapped.sum()))


def swap_labels(pairs: Sequence[Pair], swapped: np.ndarray) -> tuple[Pair, ...]:
    """Return the pairs with chosen and rejected exchanged where `swapped`, (pairs,) bool; scores stay in place."""
    return tuple(_swap(pair) if swap else pair for pair, swap in zip(pairs, swapped, strict=True))


def _swap(pair: Pair) -> Pair:
    return replace(
        pair,
        chosen=pair.rejected,
        rejected=pair.chosen,
        true_chosen=pair.true_rejected,
        true_rejected=pair.true_chosen,
    )


def _swapped(pairs: Sequence[Pair], setting: NoiseSetting, split: str, rng: np.random.Generator) -> np.ndarray:
    """Return which labels change, (pairs,) bool: exactly the share of all pairs that the setting says."""
    count, order = round(setting.amount * len(pairs)), rng.permutation(len(pairs))
    what = "a label"
    if setting.dial == "near-ties":
        gaps = np.abs([pair.score_chosen - pair.score_rejected for pair in pairs])
        order = order[np.isfinite(gaps[order])]
        order, what = order[np.argsort(gaps[order], kind="stable")], "scores on both sides"
    elif setting.dial == "longer-wins":
        longer = np.array([len(pair.rejected) > len(pair.chosen) for pair in pairs], dtype=bool)
        order, what = order[longer[order]], "a rejected response that is longer"
    if len(order) < count:
        most = math.floor(1000 * len(order) / len(pairs)) / 1000
        raise HarnessError(
            f"--noise got {setting}, which changes {count} of {len(pairs)} {split} labels, expected as many pairs with "
            f"{what}, and there are {len(order)}; give {setting.dial}={most:g} or less"
        )
    swapped = np.zeros(len(pairs), dtype=bool)
    swapped[order[:count]] = True
    return swapped


def _with_other_scores(
    pairs: Sequence[Pair], lists: Sequence[Listwise], setting: NoiseSetting, split: str, rng: np.random.Generator
) -> _Changed:
    """Return pairs and lists with a normal error in every score, the pairs ordered by it, and how many labels changed.

    A response has one error wherever it stands in the split. Pairs without two scores stay as they are.
    """
    if pairs and not any(np.isfinite(pair.score_chosen - pair.score_rejected) for pair in pairs):
        raise HarnessError(
            f"--noise got {setting}, which changes scores, and no {split} pair has two; expected data with scores, or "
            "another dial, such as flip"
        )
    errors: dict[tuple[str, str], float] = {}

    def of(prompt_id: str, text: str, score: float) -> float:
        key = prompt_id, text
        if key not in errors:
            errors[key] = setting.amount * rng.standard_normal()
        return score + errors[key]

    noisy, changed = [], 0
    for pair in pairs:
        if not np.isfinite(pair.score_chosen - pair.score_rejected):
            noisy.append(pair)
            continue
        scored = replace(
            pair,
            score_chosen=of(pair.prompt_id, pair.chosen, pair.score_chosen),
            score_rejected=of(pair.prompt_id, pair.rejected, pair.score_rejected),
        )
        if scored.score_rejected > scored.score_chosen:
            scored, changed = _by_score(scored), changed + 1
        noisy.append(scored)
    return _Changed(tuple(noisy), tuple(_scored_list(each, of) for each in lists), changed)


def _by_score(pair: Pair) -> Pair:
    """Return the pair with its two responses exchanged, scores with them."""
    return replace(_swap(pair), score_chosen=pair.score_rejected, score_rejected=pair.score_chosen)


def _scored_list(prompt: Listwise, score: Callable[[str, str, float], float]) -> Listwise:
    responses = [replace(each, score=score(prompt.prompt_id, each.text, each.score)) for each in prompt.responses]
    return replace(prompt, responses=tuple(responses))
