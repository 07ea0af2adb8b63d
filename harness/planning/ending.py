"""How a worker is asked to end: at once or, where a training would be lost, when that is kept. Imports no torch."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager


class EndedError(BaseException):
    """The worker was asked to end, and what it was at is kept. No `Exception`: a stopped cell has not failed."""


class Ending:
    """Whether this process was asked to end, and whether it may at once."""

    def __init__(self) -> None:
        self.asked = False
        self._held = False

    def ask(self) -> None:
        """End now, or, inside `held`, have `asked` seen."""
        self.asked = True
        if not self._held:
            end_now()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Put the end off until the block is left. Raises `EndedError` where it was asked for by then."""
        self._held = True
        try:
            if self.asked:
                raise EndedError
            yield
        finally:
            self._held = False
        if self.asked:
            raise EndedError


def end_now() -> None:
    """End this process as the signal that asked for it would have."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
