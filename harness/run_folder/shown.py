"""What may be shown and written of text from outside: nothing that steers a terminal, and no secret.

Secrets are the values of environment variables whose names say so (`HF_TOKEN`, `OPENAI_API_KEY`, ...), passwords and
keys in URLs, and what has the form of a key of the hub or of OpenAI.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from harness.api.errors import HarnessError

SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)$", re.IGNORECASE)
SHORTEST = 8
"""Characters of a secret in the environment: a shorter one would be found by chance in any text."""
FORMS = (
    (re.compile(r"(://)[^\s/]+@"), r"\1...@"),
    (re.compile(r"([?&][^=&\s]*(?:key|token|secret|password|signature)=)[^&\s]+", re.IGNORECASE), r"\1..."),
    (re.compile(r"\b(hf_|sk-)[A-Za-z0-9_-]{16,}"), r"\1..."),
)
FORMULA = ("=", "+", "-", "@", "\t", "\n")
"""What a spreadsheet takes for the beginning of a formula."""


def printable(text: str) -> str:
    """Return text that cannot steer a terminal: control characters are shown as escapes."""
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text)


def without_secrets(text: str) -> str:
    """Return text with `...` in the place of every secret."""
    for form, instead in FORMS:
        text = form.sub(instead, text)
    values = {value for name, value in os.environ.items() if SECRET_NAME.search(name) and len(value) >= SHORTEST}
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, "...")
    return text


def for_the_terminal(text: str) -> str:
    """Return text without secrets that cannot steer a terminal."""
    return printable(without_secrets(text))


def reason_of(error: Exception) -> str:
    """Return what records and people are told of an error."""
    return without_secrets(str(error) if isinstance(error, HarnessError) else f"{type(error).__name__}: {error}")


def environment(beginnings: tuple[str, ...]) -> dict[str, str]:
    """Return the environment variables whose names begin so, without those that hold secrets, in order."""
    named = {name: value for name, value in sorted(os.environ.items()) if name.startswith(beginnings)}
    return {name: without_secrets(value) for name, value in named.items() if not SECRET_NAME.search(name)}


def csv_cells(cells: Sequence[object]) -> list[object]:
    """Return the cells of a line of a CSV file; text that a spreadsheet would compute begins with a `'`.

    A bare \\r, which Python's writer does not quote though readers take it for the end of a line, becomes \\n.
    """
    texts = [re.sub(r"\r\n?", "\n", cell) if isinstance(cell, str) else cell for cell in cells]
    return [f"'{cell}" if isinstance(cell, str) and cell.startswith(FORMULA) else cell for cell in texts]
