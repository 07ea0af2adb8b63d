"""Options that are given as text, read as the type that the dataclass field has. Imports no torch."""

from __future__ import annotations

import typing
from typing import Any

from harness.api.errors import HarnessError


def read_option(whose: str, option: str, value: Any, hint: Any) -> Any:
    """Return `value`, which may be text, as the type `hint`.

    Raises `HarnessError`, which begins with `whose`, where it is of another type.
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError

    literal = typing.get_origin(hint) is typing.Literal
    named = isinstance(hint, type) and not typing.get_args(hint)
    kinds = (hint, *typing.get_args(hint))
    plain = hint.__name__ if named else str(hint).replace("typing.", "")
    expected = f"one of {', '.join(map(str, kinds[1:]))}" if literal else plain
    if isinstance(value, str) and value.lower() in ("none", "null") and type(None) in kinds:
        return None
    try:
        if isinstance(value, bool) and (int in kinds or float in kinds) and bool not in kinds:
            raise ValueError
        read = TypeAdapter(hint, config=ConfigDict(allow_inf_nan=False)).validate_python(value)
    except (ValidationError, ValueError):
        raise HarnessError(
            f"{whose}: option '{option}' got {value!r}, expected {expected}; write {option}=VALUE of that kind"
        ) from None
    return read
