"""Scorers, which give the summed log-prob of each given response: the types in `harness_scorers`. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreRequest:
    """One response to score: token ids only, never text, so that no scorer can add a chat template or a BOS token."""

    prompt: tuple[int, ...]
    response: tuple[int, ...]
    """At least one token; the end-of-turn token is part of it."""


@dataclass(frozen=True, kw_only=True)
class ScorerOptions:
    """How a scorer is opened."""

    dtype: str = "float32"
    """`float32` or `bfloat16`: the dtype of weights and activations."""
    max_length: int = 2048
    """Tokens of the longest prompt + response that will be asked for."""
    max_new_tokens: int = 0
    """Of the longest answer that will be sampled, counted in `max_length` too; 0: none will be."""
    seed: int = 0
    trust_remote_code: bool = False
    """Whether the checkpoint may run code of its own; only if the user asked for it."""


class OpenScorer(Protocol):
    """A scorer that holds one model's weights and can take other weights of the same architecture."""

    def load(self, checkpoint: Path) -> None:
        """Replace the weights by those of `checkpoint`, a folder written by `save_pretrained`; same architecture.

        Raises `HarnessError` if names or shapes of the weights differ from those the scorer was opened with.
        """

    def score(self, requests: Sequence[ScoreRequest]) -> np.ndarray:
        """Return the summed log-prob of each response in nats, (len(requests),) float64, in their order."""

    def close(self) -> None:
        """Free the memory."""


def _known_already() -> bool:
    return False


@dataclass(frozen=True, kw_only=True)
class ScorerSource:
    """A named scorer that a plugin brings."""

    name: str
    version: Callable[[], str]
    """Returns the version of the library that scores. Sources are pickled for workers: functions, no lambdas."""
    why_not: Callable[[], str | None]
    """Returns why this scorer cannot run here, or None if it can."""
    untried: Callable[[], bool] = _known_already
    """Returns whether `why_not` would first have to start the scorer to find out, which takes seconds.

    A dry run that sees True does not ask `why_not` and plans as if the scorer could run."""
    generates: bool = False
    """Whether what it opens can sample answers too: `harness.api.OpenGenerator`."""
    open: Callable[[Path, ScorerOptions], OpenScorer]
    """Start the scorer with the checkpoint in this folder."""
