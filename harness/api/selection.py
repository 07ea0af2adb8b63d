"""Selectors, which say what of the training pairs is trained on: the types in `harness_selectors`. Imports no torch.

A selector sees training pairs as `Candidate`s: there is no way from them to the test split or to true quality.
"""

from __future__ import annotations

import dataclasses
import typing
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

from harness.api.data import NAN, Message
from harness.api.errors import HarnessError
from harness.api.option_values import read_option

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A training pair as a selector sees it: labels and scores with the noise that the run puts into them."""

    pair_id: str
    prompt_id: str
    """Shared by all pairs of one prompt."""
    context: tuple[Message, ...]
    chosen: str
    rejected: str
    score_chosen: float = NAN
    score_rejected: float = NAN
    chosen_ids: tuple[int, ...]
    """The tokens of the response as the model reads it, cut to its lengths."""
    rejected_ids: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class StartLogps:
    """What the start checkpoint says of the candidates: (pairs,) float64 each, nats, summed over response tokens."""

    chosen: NDArray[np.float64]
    rejected: NDArray[np.float64]
    probe: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
    """The same, chosen and rejected, under the probe, for a selector that has one."""


@dataclass(frozen=True, kw_only=True)
class Selector(ABC):
    """A way to choose training pairs; a frozen dataclass whose fields are its options, as those of a loss are."""

    name: ClassVar[str]
    needs_scores: ClassVar[bool] = False
    """Whether every candidate must have two scores."""
    needs_logps: ClassVar[bool] = False
    """Whether the start checkpoint is run over all candidates, which is charged to the budget."""
    needs_lists: ClassVar[bool] = False
    """Whether it pairs anew: the candidates are all pairs of the training lists, in the place of the data's pairs.

    Of two responses to a prompt with different scores, the one with the higher score is chosen.
    """

    share: float = 0.5
    """Of the training pairs, what is kept."""

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise HarnessError(f"share got {self.share}, expected above 0 and up to 1")

    @property
    def probe_pairs(self) -> int:
        """On how many random pairs a probe is trained by DPO before; 0: none. It needs `needs_logps` and is charged."""
        return 0

    @abstractmethod
    def select(
        self, pairs: Sequence[Candidate], logps: StartLogps | None, rng: np.random.Generator
    ) -> NDArray[np.int64] | NDArray[np.float64]:
        """Return what to train on: whole numbers are indices of pairs, floats weights, one per pair.

        Indices: `self.count(len(pairs))` of them, each once, in any order. Weights: as many above 0, the others 0; a
        pair is visited as often as its weight says, relative to the mean of those above 0. With `needs_lists`:
        indices of at most one pair per prompt, the best first; as many of them are kept as if the candidates were the
        data's pairs.

        `logps` is None unless the selector declares `needs_logps`. `rng` is seeded by --data-seed; a selector uses no
        other randomness.
        """

    def count(self, pairs: int) -> int:
        """Return how many of so many pairs are kept."""
        return round(self.share * pairs)

    def top(self, values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the indices of the share of pairs with the highest values; of equal ones those that come first."""
        import numpy as np

        highest = np.argsort(-np.asarray(values, dtype=np.float64), kind="stable")
        return highest[: self.count(len(highest))]

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> Self:
        """Return the selector with `options` set; text values are read as the field's type.

        Raises `HarnessError` for an unknown option, a value of the wrong type and one that the selector refuses.
        """
        hints, whose = typing.get_type_hints(cls), f"selector '{cls.name}'"
        fields = [field.name for field in dataclasses.fields(cls)]
        for option in options:
            if option not in fields:
                raise HarnessError(f"{whose} has no option '{option}'; its options are {', '.join(fields)}")
        values = {name: read_option(whose, name, value, hints[name]) for name, value in options.items()}
        try:
            return cls(**values)
        except HarnessError as error:
            raise HarnessError(f"{whose}: {error}") from None

    def __str__(self) -> str:
        """The selector with all its options, as `--select` has it."""
        options = [f"{field.name}={_plain(getattr(self, field.name))}" for field in dataclasses.fields(self)]
        return f"{self.name}:{','.join(options)}"


def best_of_each_prompt(pairs: Sequence[Candidate], values: Sequence[float] | NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the index of the pair with the highest value of each prompt, the highest first; of equal ones the first.

    What a selector with `needs_lists` returns.
    """
    import numpy as np

    best: dict[str, int] = {}
    for index in np.argsort(-np.asarray(values, dtype=np.float64), kind="stable").tolist():
        best.setdefault(pairs[index].prompt_id, index)
    return np.array(list(best.values()), dtype=np.int64)


def score_margins(pairs: Sequence[Candidate]) -> NDArray[np.float64]:
    """Return the score of the chosen response minus that of the rejected one, (pairs,)."""
    import numpy as np

    return np.array([pair.score_chosen - pair.score_rejected for pair in pairs], dtype=np.float64)


def mean_gaps(pairs: Sequence[Candidate], logps: StartLogps) -> NDArray[np.float64]:
    """Return the mean log-prob per token of the chosen response minus that of the rejected one, (pairs,), nats."""
    import numpy as np

    chosen = np.array([len(pair.chosen_ids) for pair in pairs])
    rejected = np.array([len(pair.rejected_ids) for pair in pairs])
    gaps: NDArray[np.float64] = logps.chosen / chosen - logps.rejected / rejected
    return gaps


def _plain(value: Any) -> str:
    return f"{value:.10g}" if isinstance(value, float) else str(value)
