"""A scorer whose engine may die: started anew once, with the weights it had, for what it was asked."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from harness.api import Generated, GenerateRequest, HarnessError, OpenGenerator, OpenScorer, Sampling, ScoreRequest

if TYPE_CHECKING:
    import numpy as np

T = TypeVar("T")


class Restarting:
    """An `OpenScorer`, and an `OpenGenerator` where what it opens is one.

    What a scorer refuses with a `HarnessError` is its answer; any other error is its end. It is then started anew, once
    for each thing that is asked of it.
    """

    def __init__(self, name: str, start: Callable[[], OpenScorer], restarts: Callable[[str], None]) -> None:
        self._name, self._start, self._restarts = name, start, restarts
        self._engine: OpenScorer | None = start()
        self._weights: Path | None = None  # None: those it was started with

    def load(self, checkpoint: Path) -> None:
        """Replace the weights; see `OpenScorer.load`."""
        self._asked(lambda engine: engine.load(checkpoint))
        self._weights = checkpoint

    def score(self, requests: Sequence[ScoreRequest]) -> np.ndarray:
        """Return the summed log-prob of each response; see `OpenScorer.score`."""
        return self._asked(lambda engine: engine.score(requests))

    def generate(self, requests: Sequence[GenerateRequest], sampling: Sampling) -> list[Generated]:
        """Return an answer per request; see `OpenGenerator.generate`."""
        return self._asked(lambda engine: cast(OpenGenerator, engine).generate(requests, sampling))

    def token_log_probs(self, requests: Sequence[ScoreRequest]) -> list[np.ndarray]:
        """Return the log-probs of each response's tokens; see `OpenGenerator.token_log_probs`."""
        return self._asked(lambda engine: cast(OpenGenerator, engine).token_log_probs(requests))

    def close(self) -> None:
        """Free the memory."""
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def _asked(self, ask: Callable[[OpenScorer], T]) -> T:
        """Return what the engine gives. Raises `HarnessError` where it dies a second time; the next ask has another."""
        try:
            return ask(self._alive())
        except HarnessError:
            raise
        except Exception as error:
            first = _told(error)
        self._give_up()  # only here: the error held what it was computed with
        self._restarts(first)
        try:
            return ask(self._alive())
        except HarnessError:
            raise
        except Exception as error:
            self._give_up()
            raise HarnessError(
                f"scorer '{self._name}' died twice: {first}; then, started anew: {_told(error)}; pass another --scorer"
            ) from error

    def _alive(self) -> OpenScorer:
        if self._engine is None:
            self._engine = self._start()
            if self._weights is not None:
                self._engine.load(self._weights)
        return self._engine

    def _give_up(self) -> None:
        with contextlib.suppress(Exception):  # it is dead
            self.close()
        self._engine = None


def _told(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}".rstrip(": ")
