"""How large and how deep files from others may be, so that a small one cannot fill the memory or the disk."""

from __future__ import annotations

import json
from pathlib import Path
from typing import IO, Any

JSON_BYTES = 2**28
"""Of a JSON file of a run: 256 MiB, some hundred times the largest board."""
DEEPEST = 100
"""Levels of lists and objects within each other in JSON; a record has six."""
UNPACKED_BYTES, UNPACKED_RATIO = 2**30, 200
"""An archive may hold a GiB, and above that 200 times its own size."""


def json_of(text: str) -> Any:
    """Return what JSON text says. Raises `ValueError` for what is none, and for levels beyond `DEEPEST`."""
    try:
        content = json.loads(text)
    except RecursionError:
        raise _too_deep() from None
    level = [content]
    for _ in range(DEEPEST):
        level = [inner for each in level if isinstance(each, dict | list) for inner in _inside(each)]
        if not level:
            return content
    raise _too_deep()


def check_size(path: Path) -> None:
    """Raise `ValueError` for a file that is too large to be JSON of a run, `OSError` for one that is not there."""
    size = path.stat().st_size
    if size > JSON_BYTES:
        raise ValueError(f"{size:,} bytes, expected at most {JSON_BYTES:,}")


def read_json(path: Path) -> Any:
    """Return what a JSON file says. Raises `OSError`, and `ValueError` also for a file that is too large or deep."""
    check_size(path)
    return json_of(path.read_text(encoding="utf-8"))


def unpacked(opened: IO[bytes], size: int) -> bytes:
    """Return the whole content of an opened archive of `size` bytes. Raises `ValueError` where it swells too far."""
    most = max(UNPACKED_BYTES, UNPACKED_RATIO * size)
    content = opened.read(most + 1)
    if len(content) > most:
        raise ValueError(f"{size:,} bytes unpack to more than {most:,}")
    return content


def _inside(value: dict[str, Any] | list[Any]) -> list[Any]:
    return list(value.values()) if isinstance(value, dict) else value


def _too_deep() -> ValueError:
    return ValueError(f"lists and objects more than {DEEPEST} levels deep")
