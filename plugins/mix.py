"""Mix: a weighted sum of two losses, either of which may be a mix again.

Formula: weight * l + other_weight * l', l the base's loss, l' the other's, each with its own preference and auxiliary
part.
Reward: the base's.
Source: no paper of its own; DPO with an NLL (`rpo`) and losses like it are mixes of two.
Provenance: [R] a sum; what it sums is told by the losses in it.
Traps: the order matters: reward, kind and length normalisation are the base's, so `mix:base=dpo,other=simpo` is ranked
by DPO's reward and `mix:base=simpo,other=dpo` by SimPO's. The values of two losses differ in scale; weights of 1 are no
equal shares of the gradient. Losses that keep a state between steps cannot be mixed. What each loss prepares has its
place as a prefix, `base.weight` beside `other.weight`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from harness.api import (
    Domain,
    Limit,
    Loss,
    MovingReference,
    PairLogps,
    Range,
    Terms,
    Wrapper,
    hookimpl,
    require,
    wraps,
)

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Mix(Wrapper):
    """weight * the base loss + other_weight * the other loss."""

    name: ClassVar[str] = "mix"
    search_space: ClassVar[Mapping[str, Range]] = {"other_weight": Range(low=0.01, high=2.0, log=True)}

    base: Loss = wraps("dpo")  # noqa: RUF009  # it is a field specifier, evaluated once
    """The first loss, whose reward ranks; its options follow as `base.<option>`. Default: with the other's, `rpo`."""
    other: Loss = wraps("sft")  # noqa: RUF009  # as above
    """The second loss; its options follow as `other.<option>`. Default: the NLL."""
    weight: float = 1.0
    """Weight of the base, above 0. Default: a plain sum."""
    other_weight: float = 1.0
    """Weight of the other, at least 0. Default: a plain sum."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            isinstance(self.other, Loss), f"other got {self.other!r}, expected a Loss; build it or use from_options"
        )
        require(
            not self.other.stateful, f"other got '{self.other.name}', which keeps a state between steps; choose another"
        )
        one_reference = self.base.moving_reference == self.other.moving_reference
        require(
            one_reference or not (self.base.needs_reference and self.other.needs_reference),
            f"got '{self.base.name}' and '{self.other.name}' with references that move differently, expected one; "
            "choose another",
        )
        require(0 < self.weight < math.inf, f"weight got {self.weight}, expected a finite number above 0")
        second = self.other_weight
        require(0 <= second < math.inf, f"other_weight got {second}, expected a finite number of at least 0")

    @property
    def needs_reference(self) -> bool:
        """If either does."""
        return self.base.needs_reference or self.other.needs_reference

    @property
    def needs_reference_tokens(self) -> bool:
        """If either does."""
        return self.base.needs_reference_tokens or self.other.needs_reference_tokens

    @property
    def needs_kl(self) -> bool:
        """If either does."""
        return self.base.needs_kl or self.other.needs_kl

    @property
    def needs_log_sum_sq(self) -> bool:
        """If either does."""
        return self.base.needs_log_sum_sq or self.other.needs_log_sum_sq

    @property
    def needs_token_kl(self) -> bool:
        """If either does."""
        return self.base.needs_token_kl or self.other.needs_token_kl

    @property
    def needs_reference_entropy(self) -> bool:
        """If either does."""
        return self.base.needs_reference_entropy or self.other.needs_reference_entropy

    @property
    def batch_coupled(self) -> bool:
        """If either is."""
        return self.base.batch_coupled or self.other.batch_coupled

    @property
    def moving_reference(self) -> MovingReference | None:
        """That of whichever has one."""
        return self.base.moving_reference or self.other.moving_reference

    @property
    def needs_columns(self) -> tuple[str, ...]:
        """What either needs."""
        return tuple(dict.fromkeys((*self.base.needs_columns, *self.other.needs_columns)))

    @property
    def monotone(self) -> bool:
        """If both are."""
        return self.base.monotone and self.other.monotone

    @property
    def saturates(self) -> bool:
        """If both do: where one has a gradient, the sum has."""
        return self.base.saturates and (self.other.saturates or self.other_weight == 0)

    @property
    def domain(self) -> Domain:
        """Where both are finite."""
        first, second = self.base.domain, self.other.domain
        return Domain(
            lowest_sum=max(first.lowest_sum, second.lowest_sum),
            lowest_token=max(first.lowest_token, second.lowest_token),
            longest=min(first.longest, second.longest),
        )

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Without the other it is the base."""
        alone = {"weight": 1.0, "other_weight": 0.0}
        return (Limit(options=alone, equals=self.base.name, equals_options=self.base.options()),)

    def prepare(self, pairs: pd.DataFrame) -> Mapping[str, np.ndarray]:
        """Return what both prepare, (len(pairs),) each, named by the place of the loss."""
        first, second = self.base.prepare(pairs), self.other.prepare(pairs)
        named = {f"base.{name}": values for name, values in first.items()}
        return named | {f"other.{name}": values for name, values in second.items()}

    def terms(self, pairs: PairLogps) -> Terms:
        """Return the weighted sums of both preference and of both auxiliary terms, (B,) each."""
        first, second = self.base.terms(self._seen(pairs, "base")), self.other.terms(self._seen(pairs, "other"))
        return Terms(
            self.weight * first.preference + self.other_weight * second.preference,
            self.weight * first.auxiliary + self.other_weight * second.auxiliary,
        )

    def _seen(self, pairs: PairLogps, place: str) -> PairLogps:
        """Return the pairs with the columns that the loss at this place knows, under the names that it knows."""
        loss: Loss = getattr(self, place)
        own = {name.removeprefix(f"{place}."): at for name, at in pairs.columns.items() if name.startswith(f"{place}.")}
        return replace(pairs, columns={**{name: pairs.columns[name] for name in loss.needs_columns}, **own})


@hookimpl
def harness_losses() -> list[type[Loss]]:
    """Return this file's loss."""
    return [Mix]
