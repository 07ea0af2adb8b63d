"""The options of a loss, the values that their types allow, and the same loss with other values."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Iterator
from typing import Any

from harness.api.errors import HarnessError
from harness.api.loss import Loss


def own_options(loss: Loss, *, nested: bool = False) -> dict[str, dataclasses.Field[Any]]:
    """Return the fields that are options; those that hold another loss only with `nested`."""
    return {
        field.name: field
        for field in dataclasses.fields(loss)
        if field.init and (nested or not isinstance(getattr(loss, field.name), Loss))
    }


def alternatives(loss: Loss, option: str) -> Iterator[Loss]:
    """Yield `loss` with other values of `option` that it accepts: the likeliest to change something first."""
    hint, value = typing.get_type_hints(type(loss))[option], getattr(loss, option)
    for other in _other_values(loss, option, hint, value):
        if other == value and type(other) is type(value):
            continue
        try:
            yield dataclasses.replace(loss, **{option: other})
        except HarnessError:
            continue


def _other_values(loss: Loss, option: str, hint: Any, value: Any) -> list[Any]:
    if allowed := choices(hint):
        return list(allowed)
    if bool in kinds(hint):
        return [not value]
    if not numeric(hint):
        return []
    spread = loss.search_space.get(option)
    numbers = [] if spread is None else [spread.low, spread.high]
    if value is not None:
        numbers += [value * 1.5, value * 0.5, value + 0.25, value - 0.25, value * 0.01]
    numbers += [0.1, 0.9, 0.0, 1.0, 2.0, 4.0, -1.0, 0.01, 100.0]
    whole = float not in kinds(hint)
    others = list(dict.fromkeys(round(number) if whole else float(number) for number in numbers))
    return [*others, None] if type(None) in kinds(hint) else others


def kinds(hint: Any) -> tuple[Any, ...]:
    """Return the types that an annotation allows: those of a union, else the annotation itself."""
    return (
        typing.get_args(hint)
        if isinstance(hint, types.UnionType) or typing.get_origin(hint) is typing.Union
        else (hint,)
    )


def choices(hint: Any) -> tuple[Any, ...]:
    """Return the values that a `Literal` allows; empty for other annotations."""
    return tuple(
        choice for kind in kinds(hint) if typing.get_origin(kind) is typing.Literal for choice in typing.get_args(kind)
    )


def numeric(hint: Any) -> bool:
    """Return whether an annotation allows numbers."""
    allowed = kinds(hint)
    return (float in allowed or int in allowed) and bool not in allowed
