"""What a conformance check takes beside the loss (`Kit`, `Golden`) and how it answers (`Result`)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.api.errors import HarnessError
from harness.api.loss import Loss
from harness.api.pairs import PairLogps

What = Literal["values", "mean", "preference", "reward"]


class NotApplicable(Exception):  # noqa: N818  # an answer, not an error
    """Raised by a check whose rule does not apply to this loss, with the reason."""


@dataclass(frozen=True, kw_only=True)
class Golden:
    """Numbers computed by other code or by hand that a loss must give."""

    loss: str
    """Name of the loss."""
    pairs: PairLogps
    expected: Sequence[float]
    """In the order of the pairs; one number for "mean"; for "reward" first the chosen, then the rejected responses."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Set on top of the defaults."""
    what: What = "values"
    """What `expected` holds: the loss of each pair, its mean, its preference part, or the rewards."""
    rtol: float = 1e-10
    """Relative tolerance."""
    source: str = ""
    """Where the numbers come from: code with its version, or a calculation by hand."""


@dataclass(frozen=True, kw_only=True)
class Kit:
    """What the checks need beside the loss."""

    resolve: Callable[[str, Mapping[str, Any]], Loss | None]
    """(name, options) -> that loss, or None if it is not installed; raises `HarnessError` for wrong options."""
    golden: Sequence[Golden] = ()
    """Golden values; those of other losses are ignored."""

    def lookup(self, name: str, options: Mapping[str, Any]) -> Loss:
        """Return the loss of that name; `Loss.from_options` takes this method as its `resolve`."""
        loss = self.resolve(name, options)
        if loss is None:
            raise HarnessError(f"got loss '{name}', which is not installed; install it or name another")
        return loss

    def rebuilt(self, loss: Loss, options: Mapping[str, Any]) -> Loss:
        """Return `loss` with `options` set on top of its own, read as from a run file."""
        return type(loss).from_options({**loss.options(), **options}, self.lookup)


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of one check."""

    name: str
    """Name of the rule."""
    status: Literal["passed", "failed", "not applicable"]
    message: str = ""
    """Why the check failed or does not apply."""


def applies(condition: bool, reason: str) -> None:
    """Raise `NotApplicable(reason)` unless `condition` holds."""
    if not condition:
        raise NotApplicable(reason)
