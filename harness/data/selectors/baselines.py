"""The selectors that others are to beat: at random, by the score margin alone, by what the start model has right."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from harness.api import Candidate, Selector, StartLogps, hookimpl, mean_gaps, score_margins


@dataclass(frozen=True, kw_only=True)
class Random(Selector):
    """Pairs drawn at random, without replacement."""

    name: ClassVar[str] = "random"

    def select(
        self, pairs: Sequence[Candidate], logps: StartLogps | None, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        return self.top(rng.random(len(pairs)))


@dataclass(frozen=True, kw_only=True)
class LargestMargin(Selector):
    """The pairs whose chosen response scores highest above the rejected one."""

    name: ClassVar[str] = "largest-margin"
    needs_scores: ClassVar[bool] = True

    def select(
        self, pairs: Sequence[Candidate], logps: StartLogps | None, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        return self.top(score_margins(pairs))


@dataclass(frozen=True, kw_only=True)
class SmallestMargin(Selector):
    """The pairs whose two scores are closest."""

    name: ClassVar[str] = "smallest-margin"
    needs_scores: ClassVar[bool] = True

    def select(
        self, pairs: Sequence[Candidate], logps: StartLogps | None, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        return self.top(-np.abs(score_margins(pairs)))


@dataclass(frozen=True, kw_only=True)
class Easiest(Selector):
    """The pairs that the start checkpoint has most clearly right: by its mean log-prob per token, chosen - rejected."""

    name: ClassVar[str] = "easiest"
    needs_logps: ClassVar[bool] = True

    def select(
        self, pairs: Sequence[Candidate], logps: StartLogps | None, rng: np.random.Generator
    ) -> NDArray[np.int64]:
        assert logps is not None
        return self.top(mean_gaps(pairs, logps))


@hookimpl
def harness_selectors() -> list[type[Selector]]:
    """Return the baselines."""
    return [Random, LargestMargin, SmallestMargin, Easiest]
