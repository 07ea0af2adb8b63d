"""Frozen types that are read from JSON once and written back with what they do not know. Imports no torch."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainValidator
from pydantic_core import PydanticCustomError


def _python(value: Any) -> Any:
    """Return a number of numpy's as Python's."""
    return value.item() if type(value).__module__ == "numpy" else value


def _whole(value: Any) -> Any:
    """Return a count as an int where it is whole, however it is written."""
    value = _python(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _number(value: Any) -> float | None:
    """Return a number as it is given, and None for one that is not finite, which JSON cannot say."""
    value = _python(value)
    if value is not None and type(value) not in (int, float):
        raise PydanticCustomError("number", "expected a number or null")
    return value if value is not None and math.isfinite(value) else None


Number = Annotated[int | float | None, PlainValidator(_number)]
"""null stands for a number that is missing."""
Count = Annotated[int | None, BeforeValidator(_whole)]


class Facts(BaseModel):
    """Named values of a file, in the order of its keys."""

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, protected_namespaces=())

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Self:
        """Return the facts with this content, as JSON has it; null stands for the default where there is one.

        Numbers of numpy's and paths are taken as JSON would have them. Raises `pydantic.ValidationError`.
        """
        return cls.model_validate_json(json.dumps(_with_defaults(cls, plain(content))))

    def as_json(self) -> dict[str, Any]:
        """Return what was given, unknown keys too, as JSON has it and in the order of the fields."""
        return {name: plain(value) for name, value in self.given().items()}

    def given(self) -> dict[str, object]:
        """Return the values that were given, by name and in the order of the fields, unknown keys behind them."""
        fields = type(self).model_fields
        names = [name for name, field in fields.items() if not field.exclude] + list(self.model_extra or {})
        return {name: getattr(self, name) for name in names if name in self.model_fields_set}

    def numbers(self) -> dict[str, float]:
        """Return the values that are numbers, unknown keys too; yes and no are none."""
        numbers = {name: value for name, value in self.given().items() if isinstance(value, int | float)}
        return {name: value for name, value in numbers.items() if not isinstance(value, bool)}


def _with_defaults(facts: type[Facts], content: dict[str, Any]) -> dict[str, Any]:
    """Return content without the nulls of fields that have another default, in inner facts too."""
    kept = {}
    for name, value in content.items():
        field = facts.model_fields.get(name)
        by_default = None if field is None or field.is_required() else field.get_default(call_default_factory=True)
        if value is None and by_default is not None:
            continue
        inner = _facts_of(field.annotation) if field is not None else None
        kept[name] = _with_defaults(inner, value) if inner is not None and isinstance(value, dict) else value
    return kept


def _facts_of(annotation: Any) -> type[Facts] | None:
    """Return the type of inner facts that a field has, alone or beside None."""
    kinds = [kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type) and issubclass(kind, Facts)]
    return kinds[0] if kinds else None


def plain(value: Any) -> Any:
    """Return `value` as JSON has it: numpy scalars and arrays as Python's, numbers that are not finite as None."""
    if isinstance(value, Facts):
        return value.as_json()
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if type(value).__module__ == "numpy":
        return plain(value.tolist())
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return str(value) if isinstance(value, Path) else value
