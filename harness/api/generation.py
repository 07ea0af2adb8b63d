"""Answers sampled from a model by an open scorer: what is asked for and what comes back. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

from harness.api.scores import ScoreRequest

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateRequest:
    """One answer to sample: token ids of the prompt, as the model's own template has them."""

    prompt: tuple[int, ...]
    seed: int
    """Of this answer alone, so that it can be sampled again without the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How answers are sampled."""

    stop: tuple[int, ...]
    """Tokens that end an answer: the template's end of turn. The one that ended it is part of the answer."""
    temperature: float = 1.0
    """0: the most likely token at each place."""
    top_p: float = 1.0
    """Share of the probability that tokens are sampled from, likeliest first; 1: all of it."""
    max_new_tokens: int = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Generated:
    """One sampled answer."""

    tokens: tuple[int, ...]
    """At least one; ends with a stop token where `finish` is `stop`."""
    finish: Literal["stop", "length"]
    """`length`: cut off at the most tokens that were allowed."""
    log_probs: np.ndarray
    """(tokens,) float64, nats: of each token under the model itself, at temperature 1 and top-p 1."""


class OpenGenerator(Protocol):
    """What an open scorer has that can sample too."""

    def generate(self, requests: Sequence[GenerateRequest], sampling: Sampling) -> list[Generated]:
        """Return one answer per request from the weights that are loaded, in their order.

        Raises `HarnessError` where a prompt with `max_new_tokens` is longer than the scorer was opened for.
        """

    def token_log_probs(self, requests: Sequence[ScoreRequest]) -> list[np.ndarray]:
        """Return the log-probs of each response's tokens in nats, (tokens,) float64 each, in the order asked."""
