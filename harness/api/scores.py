"""Scorers: summed log-probs of given responses. The types that `harness_scorers` speaks of. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRequest:
    """One response to be scored: token ids only, never text, so that no template or BOS can slip in."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]
    """At least one token; the end-of-turn token is part of it."""


@dataclass(frozen=True, kw_only=True)
class ScorerOptions:
    """How a scorer is opened."""

    dtype: str = "float32"
    """`float32` or `bfloat16`: the dtype of weights and activations."""
    max_length: int = 2048
    """Longest prompt + response in tokens that will be asked for."""
    seed: int = 0
    trust_remote_code: bool = False
    """Whether the checkpoint may run code of its own; only where the user asked for it."""


class OpenScorer(Protocol):
    """A scorer that holds one model's weights and can take other weights of the same architecture."""

    def load(self, checkpoint: Path) -> None:
        """Swap in the weights of `checkpoint`, a folder in the layout of `save_pretrained` with the same architecture.

        Raises `HarnessError` where the weight names or shapes differ from those the scorer was opened with.
        """

    def score(self, requests: Sequence[ScoreRequest]) -> np.ndarray:
        """Return the summed log-prob of each response in nats, (len(requests),) float64, in the order asked."""

    def close(self) -> None:
        """Free the memory."""


def _tried() -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class ScorerSource:
    """A named scorer that a plugin brings."""

    name: str
    version: Callable[[], str]
    """The version of the library that scores."""
    why_not: Callable[[], str | None]
    """Why this scorer cannot run here, or None where it can. Like all of a source it goes to a worker: no lambda."""
    untried: Callable[[], bool] = _tried
    """Whether `why_not` would now try it, which takes seconds: a dry run of a new folder then takes it as it is."""
    open: Callable[[Path, ScorerOptions], OpenScorer]
    """Start the scorer with the checkpoint in this folder."""
