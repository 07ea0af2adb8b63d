"""DCRM (arXiv:2506.14157): much reward for little difference between the two responses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.api import Candidate, Selector, StartLogps, best_of_each_prompt, hookimpl, score_margins

EPSILON = 1.0


@dataclass(frozen=True, kw_only=True)
class DCRM(Selector):
    """The pairs with the highest (sigmoid(score margin) - 0.5) / (edit + |log-prob gap| + 1).

    `edit` is the Levenshtein distance in tokens, the gap that of summed log-probs under the start checkpoint, in nats.
    Both grow with length, so that short pairs are preferred. The formula is as a third party states it; the authors'
    code was not to be had. `DCRMPairing` pairs anew by it.
    """

    name: ClassVar[str] = "dcrm"
    needs_scores: ClassVar[bool] = True
    needs_logps: ClassVar[bool] = True

    def select(
        self, pairs: Sequence[Candidate], logps: StartLogps | None, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        assert logps is not None
        return self.top(dcrm(pairs, logps))


@dataclass(frozen=True, kw_only=True)
class DCRMPairing(Selector):
    """Best of N^2: of each prompt with N scored responses the pair with the highest DCRM, of these the best."""

    name: ClassVar[str] = "dcrm-pairing"
    needs_lists: ClassVar[bool] = True
    needs_logps: ClassVar[bool] = True

    def select(
        self, pairs: Sequence[Candidate], logps: StartLogps | None, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        assert logps is not None
        return best_of_each_prompt(pairs, dcrm(pairs, logps))


def dcrm(pairs: Sequence[Candidate], logps: StartLogps) -> NDArray[np.float64]:
    """Return the metric of each pair, (pairs,)."""
    edits = np.array([levenshtein(pair.chosen_ids, pair.rejected_ids) for pair in pairs], dtype=np.float64)
    reward = np.tanh(score_margins(pairs) / 2) / 2  # = sigmoid(margin) - 0.5, which cannot overflow
    found: NDArray[np.float64] = reward / (edits + np.abs(logps.chosen - logps.rejected) + EPSILON)
    return found


def levenshtein(left: Sequence[int], right: Sequence[int]) -> int:
    """Return the fewest insertions, deletions and replacements of a token that make `right` of `left`."""
    others, steps = np.asarray(right, dtype=np.int64), np.arange(len(right) + 1)
    row = steps.copy()
    for token in left:
        best = row + 1  # the token deleted
        best[1:] = np.minimum(best[1:], row[:-1] + (others != token))  # replaced, or the same
        row = np.minimum.accumulate(best - steps) + steps  # further ones inserted
    return int(row[-1])


@hookimpl
def harness_selectors() -> list[type[Selector]]:
    """Return DCRM, among the pairs of the data and as pairing anew."""
    return [DCRM, DCRMPairing]
