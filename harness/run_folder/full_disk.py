"""A disk that is full, said in one line: which folder, how much is free and needed, what may be deleted."""

from __future__ import annotations

import errno
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.api.errors import HarnessError

NUMBERS = (errno.ENOSPC, errno.EDQUOT)
WORDS = ("No space left on device", "Disk quota exceeded")
"""What errors say that libraries raise without a number."""


def is_full(error: BaseException) -> bool:
    """Return whether an error says that a disk is full."""
    return (isinstance(error, OSError) and error.errno in NUMBERS) or any(words in str(error) for words in WORDS)


def full(folder: Path, what: str, needed: int | None = None) -> HarnessError:
    """Return the error for a disk without room for `what` in `folder`; `needed` in bytes where it is known."""
    free = _free(folder)
    room = "no space is left" if free is None else f"{_size(free)} are free"
    expected = "more" if needed is None else _size(needed)
    return HarnessError(
        f"the disk of {folder} is full: {room}, expected {expected} for {what}; delete what is not needed there, such "
        "as kept checkpoints (cells/*/weights) of other runs and old models of the cache (HARNESS_CACHE, HF_HOME), or "
        "name another --output-dir"
    )


@contextmanager
def told(folder: Path, what: str, needed: int | None = None) -> Iterator[None]:
    """Raise the error of a full disk inside as one `HarnessError` that names the folder and what was written."""
    try:
        yield
    except HarnessError:
        raise
    except Exception as error:  # each library has its own type
        if is_full(error):
            raise full(folder, what, needed) from error
        raise


def print_trouble(text: str) -> None:
    """Print to the log, which may lie on a disk that is full: what is said there must not become the trouble."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def require_room(folder: Path, needed: int, what: str) -> None:
    """Raise `HarnessError` where fewer bytes than `needed` are free for `what` in `folder`."""
    free = _free(folder)
    if free is not None and free < needed:
        raise full(folder, what, needed)


def _free(folder: Path) -> int | None:
    """Return the free bytes of the disk of a folder that need not be there yet; None where they cannot be told."""
    try:
        return shutil.disk_usage(next(place for place in (folder, *folder.absolute().parents) if place.exists())).free
    except (OSError, StopIteration):
        return None


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e7 else f"{count / 1e6:.2f} MB"
