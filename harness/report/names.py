"""Names of files and labels that every file system, LaTeX and Markdown take as they are."""

from __future__ import annotations

import re
from collections.abc import Iterable

LONGEST = 60


def plain_name(text: str) -> str:
    """Return text as small letters, digits and dashes: no dot, which \\includegraphics takes for a file's type."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:LONGEST].strip("-") or "unnamed"


def told_apart(texts: Iterable[str]) -> list[str]:
    """Return a plain name for each text, in order; the second of one name ends with -2, and so on."""
    names: list[str] = []
    for text in texts:
        name = stem = plain_name(text)
        number = 2
        while name in names:
            name, number = f"{stem}-{number}", number + 1
        names.append(name)
    return names
