"""Losses around another loss. Imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.api.loss import Comparison, Domain, Loss, require, wraps
from harness.api.pairs import ResponseLogps

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Wrapper(Loss):
    """A loss that changes the weight or the margin of `base`: what it needs and what it rewards are the base's.

    A subclass writes `terms`, and overrides what it changes; a field `base` with another default where it wants one.
    A wrapper's own `__post_init__` calls `super().__post_init__()`.
    """

    base: Loss = wraps("simpo")  # noqa: RUF009  # it is a field specifier, evaluated once

    def __post_init__(self) -> None:
        require(isinstance(self.base, Loss), f"base got {self.base!r}, expected a Loss; build it or use from_options")
        require(not self.base.stateful, f"base got '{self.base.name}', which keeps a state between steps; take another")

    @property
    def needs_reference(self) -> bool:
        """As the base."""
        return self.base.needs_reference

    @property
    def needs_reference_tokens(self) -> bool:
        """As the base."""
        return self.base.needs_reference_tokens

    @property
    def needs_kl(self) -> bool:
        """As the base."""
        return self.base.needs_kl

    @property
    def needs_log_sum_sq(self) -> bool:
        """As the base."""
        return self.base.needs_log_sum_sq

    @property
    def batch_coupled(self) -> bool:
        """As the base."""
        return self.base.batch_coupled

    @property
    def needs_columns(self) -> tuple[str, ...]:
        """As the base."""
        return self.base.needs_columns

    @property
    def comparison(self) -> Comparison:
        """As the base."""
        return self.base.comparison

    @property
    def length_normalised(self) -> bool:
        """As the base."""
        return self.base.length_normalised

    @property
    def monotone(self) -> bool:
        """As the base."""
        return self.base.monotone

    @property
    def saturates(self) -> bool:
        """As the base."""
        return self.base.saturates

    @property
    def domain(self) -> Domain:
        """As the base."""
        return self.base.domain

    def prepare(self, pairs: pd.DataFrame) -> Mapping[str, np.ndarray]:
        """Return the base's columns."""
        return self.base.prepare(pairs)

    def reward(self, response: ResponseLogps) -> Tensor:
        """Return the base's reward, (B,): weights and margins are part of the loss, never of the reward."""
        return self.base.reward(response)
