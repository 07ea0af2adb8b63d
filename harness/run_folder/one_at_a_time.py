"""Work that several processes would do alike, done by the first while the others wait for it. Imports no torch."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCKS = "locks"
"""The folder of the cache with an empty file for each such work."""


@contextmanager
def one_at_a_time(cache: Path, what: str) -> Iterator[None]:
    """Hold off every other process that comes to the same work, called `what`, until the block is left.

    Whoever waited looks at what is there now. On a file system without locks nobody waits.
    """
    folder = cache / LOCKS
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / hashlib.sha256(what.encode()).hexdigest()[:16], "w") as file:
        with contextlib.suppress(OSError):  # the work is done twice then, and each result is put into its place whole
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
