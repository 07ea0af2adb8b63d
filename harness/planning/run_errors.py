"""What is said of a value that no run can have."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from pydantic import ValidationError

from harness.api import HarnessError


def wrong_value(error: ValidationError, fields: Sequence[str]) -> HarnessError:
    """Return the error, one line, for the first value that is wrong; `fields`: those that a run has."""
    first = error.errors()[0]
    if not first["loc"]:  # two options that do not fit together: the message names both
        return HarnessError(first["msg"].removeprefix("Value error, "))
    option = str(first["loc"][0]).replace("_", "-")
    if first["type"] == "extra_forbidden":
        known = [name.replace("_", "-") for name in fields]
        close = difflib.get_close_matches(option, known, n=1)
        hint = f" (did you mean '{close[0]}'?)" if close else ""
        return HarnessError(f"run file: got key '{option}', expected one of {', '.join(known)}{hint}")
    message = first["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
    return HarnessError(f"--{option} got {first['input']!r}: {message}")
