"""What a loss declares of itself: how it compares two responses, what may be tuned, where it is finite, special cases.

Imports no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

ComparisonKind = Literal["pairwise", "pointwise", "unpaired"]
"""How the two responses of a pair enter the loss: see `Loss.comparison`."""


@dataclass(frozen=True, kw_only=True)
class Range:
    """The values that tuning may try for an option: a closed interval, on a log scale where that is natural."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True, kw_only=True)
class Domain:
    """The log-probs for which a loss promises a finite value and a finite gradient, in float32."""

    lowest_sum: float = -1e4
    """Lowest summed log-prob of a response under the policy or the reference, nats."""
    lowest_token: float = -50.0
    """Lowest log-prob of a token, nats; a response lies above both bounds."""
    longest: int = 8192
    """Tokens of the longest response; the shortest has 1."""


@dataclass(frozen=True, kw_only=True)
class MovingReference:
    """A reference model that follows the policy: every so many steps its weights become a mix of the two models'."""

    share: float
    """Of the policy, above 0 and up to 1, which replaces the reference by the policy."""
    every: int
    """Optimiser steps from one move to the next, at least 1."""


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A special case that a loss declares: under `options` it equals `scale` times another loss, gradient included."""

    options: Mapping[str, Any]
    """Set on top of the loss's own options."""
    equals: str
    """Name of the other loss; where it is not installed, the check says so and skips the case."""
    equals_options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the other loss."""
    columns: Mapping[str, Any] = field(default_factory=dict)
    """Columns of the training pairs held at one value for all pairs, for example equal scores or equal texts."""
    scale: float = 1.0
    """Constant factor between the two losses."""
    tolerance: float = 1e-6
    """Relative to the largest value; a limit that is only approached needs more."""
