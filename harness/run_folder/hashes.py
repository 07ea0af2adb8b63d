"""Hashes by which damage to a file is found: a bit that flipped, a write that was cut. Imports no torch.

They say nothing of who wrote a file: whoever changes it can change its hash too. `harness verify` looks for that.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from harness.api.errors import HarnessError

SEAL = "sha256"
"""The last key of a sealed JSON file: the hash of the text without it."""
_SEALED = re.compile(r',\n( *)"sha256": "([^"\n]*)"\n}(\n?)\Z')


def file_hash(path: Path) -> str:
    """Return `sha256:` and the hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def hashes_below(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """Return the hash of each file by its path in `folder`."""
    return {path.relative_to(folder).as_posix(): file_hash(path) for path in sorted(files)}


def damaged(folder: Path, known: Mapping[str, str]) -> list[str]:
    """Return the files in `folder` that are missing or not what they were when their hashes were taken."""
    return [
        name for name, hashed in known.items() if not (folder / name).is_file() or file_hash(folder / name) != hashed
    ]


def sealed(text: str) -> str:
    """Return an object of indented JSON with the hash of its text as its last key."""
    body, end = text.rstrip("\n"), "\n" if text.endswith("\n") else ""
    assert body.endswith("\n}"), "JSON with indentation"
    indent = re.match(r"{\n( *)", body)
    assert indent is not None
    return f'{body[:-2]},\n{indent[1]}"{SEAL}": "{_of(text)}"\n}}{end}'


def unsealed(text: str) -> str:
    """Return JSON without the seal, if it has one at its end. Raises `ValueError` where it seals another text."""
    found = _SEALED.search(text)
    if found is None:
        return text
    body = f"{text[: found.start()]}\n}}{found[3]}"
    if _of(body) != found[2]:
        raise ValueError(f"a text with another hash than its key {SEAL}")
    return body


def require_whole(path: Path, known: str | None) -> None:
    """Raise `HarnessError` where a table is there and is not the one whose hash its record knows."""
    if known is not None and path.is_file() and file_hash(path) != known:
        raise HarnessError(
            f"{path}: got other bytes than its record knows by their sha256, expected those that were written: it is "
            "damaged or was changed; delete the cell's folder and run again"
        )


def _of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
