"""Terms that a loss treats as constants. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_tape: ContextVar[Iterator[Tensor] | list[Tensor] | None] = ContextVar("tape", default=None)


def stop_gradient(value: Tensor) -> Tensor:
    """Return `value` as a constant: `detach`, declared.

    A weight or a margin computed from the policy goes through here, so that the conformance checks can hold it fixed
    when they compare the gradient with finite differences; after a bare `detach` the two disagree.
    """
    constant, tape = value.detach(), _tape.get()
    if tape is None:
        return constant
    if isinstance(tape, list):
        tape.append(constant)
        return constant
    return next(tape)


@contextmanager
def recording() -> Iterator[list[Tensor]]:
    """Yield a list that fills with the constants met inside, in order."""
    constants: list[Tensor] = []
    token = _tape.set(constants)
    try:
        yield constants
    finally:
        _tape.reset(token)


@contextmanager
def replaying(constants: list[Tensor]) -> Iterator[None]:
    """Give back the recorded constants instead of new ones, inside."""
    token = _tape.set(iter(constants))
    try:
        yield
    finally:
        _tape.reset(token)
