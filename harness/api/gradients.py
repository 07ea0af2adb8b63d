"""`stop_gradient`: how a loss declares that a term is held constant. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_tape: ContextVar[Iterator[Tensor] | list[Tensor] | None] = ContextVar("tape", default=None)
"""None outside of checks; a list while constants are recorded; an iterator over them while they are replayed."""


def stop_gradient(value: Tensor) -> Tensor:
    """Return `value` detached, declared to be a constant.

    A weight or a margin computed from the policy goes through here. The conformance checks compare the gradient with
    finite differences and must hold such a term fixed while they move the inputs: they record the constants of a first
    call and give the same ones back in later calls. A bare `detach` is invisible to them, and the two would disagree.
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
    """Yield a list to which every constant declared inside the block is added, in order."""
    constants: list[Tensor] = []
    token = _tape.set(constants)
    try:
        yield constants
    finally:
        _tape.reset(token)


@contextmanager
def replaying(constants: list[Tensor]) -> Iterator[None]:
    """Let `stop_gradient` return the recorded constants, in order, inside the block."""
    token = _tape.set(iter(constants))
    try:
        yield
    finally:
        _tape.reset(token)
