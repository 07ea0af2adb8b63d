"""Losses around another loss. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from harness.api.declarations import ComparisonKind, Domain, MovingReference
from harness.api.loss import Loss, require, wraps
from harness.api.pairs import ResponseLogps

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor


def with_inner(loss: Loss) -> Iterator[Loss]:
    """Yield a loss and every loss that it wraps."""
    yield loss
    for field in fields(loss):
        if isinstance(inner := getattr(loss, field.name), Loss):
            yield from with_inner(inner)


@dataclass(frozen=True, kw_only=True)
class Wrapper(Loss):
    """A loss that changes the weight or the margin of another loss, `base`; traits and reward are those of `base`.

    A subclass writes `terms` and overrides whatever else it changes; to change the default base it declares the field
    `base` again. A subclass with a `__post_init__` of its own calls `super().__post_init__()` in it.
    """

    base: Loss = wraps("simpo")  # noqa: RUF009  # it is a field specifier, evaluated once

    def __post_init__(self) -> None:
        require(isinstance(self.base, Loss), f"base got {self.base!r}, expected a Loss; build it or use from_options")
        require(
            not self.base.stateful, f"base got '{self.base.name}', which keeps a state between steps; choose another"
        )

    @property
    def needs_reference(self) -> bool:
        """As for the base."""
        return self.base.needs_reference

    @property
    def reward_needs_reference(self) -> bool:
        """As for the base."""
        return self.base.reward_needs_reference

    @property
    def needs_reference_tokens(self) -> bool:
        """As for the base."""
        return self.base.needs_reference_tokens

    @property
    def needs_kl(self) -> bool:
        """As for the base."""
        return self.base.needs_kl

    @property
    def needs_log_sum_sq(self) -> bool:
        """As for the base."""
        return self.base.needs_log_sum_sq

    @property
    def needs_token_kl(self) -> bool:
        """As for the base."""
        return self.base.needs_token_kl

    @property
    def needs_reference_entropy(self) -> bool:
        """As for the base."""
        return self.base.needs_reference_entropy

    @property
    def batch_coupled(self) -> bool:
        """As for the base."""
        return self.base.batch_coupled

    @property
    def needs_columns(self) -> tuple[str, ...]:
        """As for the base."""
        return self.base.needs_columns

    @property
    def moving_reference(self) -> MovingReference | None:
        """As for the base."""
        return self.base.moving_reference

    @property
    def comparison(self) -> ComparisonKind:
        """As for the base."""
        return self.base.comparison

    @property
    def length_normalised(self) -> bool:
        """As for the base."""
        return self.base.length_normalised

    @property
    def monotone(self) -> bool:
        """As for the base."""
        return self.base.monotone

    @property
    def saturates(self) -> bool:
        """As for the base."""
        return self.base.saturates

    @property
    def domain(self) -> Domain:
        """As for the base."""
        return self.base.domain

    def prepare(self, pairs: pd.DataFrame) -> Mapping[str, np.ndarray]:
        """Return the columns that the base prepares."""
        return self.base.prepare(pairs)

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return the base's reward, (B,): weights and margins are part of the loss, never of the reward."""
        return self.base.reward(response)
