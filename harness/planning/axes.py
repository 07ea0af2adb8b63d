"""Axes: what a run file or the flags give several values becomes a run per combination of them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping
from typing import Any

from harness.api import HarnessError
from harness.planning.grid import crossed, with_options

AXES = ("dataset", "noise", "select", "budget", "learning_rate", "optimizer")
"""The settings that may have several values; for each value of one, those after it vary."""
DEFAULTS = {"optimizer": "adamw"}
"""What a setting is where a board's key has none; `none` for those that are not here."""


def expanded(values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the values of each run: every combination of what the axes have, the first value of each first.

    A list, `128,512` and `pairs=128|512` are several values; of a data set, whose path may have a comma, a list and
    `NAME:option=1|2` are; of a selector also `NAME:option=1,other=2|3,NAME`, as of losses. Raises `HarnessError` for an
    axis without a value.
    """
    choices = {name: _choices(name, values[name]) for name in AXES if name in values}
    for name, several in choices.items():
        if not several:
            raise HarnessError(f"--{name.replace('_', '-')} got {values[name]!r}, expected at least one value")
    return [{**values, **dict(zip(choices, each, strict=True))} for each in itertools.product(*choices.values())]


def _choices(name: str, value: Any) -> list[Any]:
    if isinstance(value, list | tuple):
        return [choice for each in value for choice in _choices(name, each)]
    if not isinstance(value, str):
        return [value]
    if name == "dataset":
        return [value] if os.path.exists(value) else _datasets(value)
    if name == "select":
        return _selectors(value)
    items = [item.strip().rpartition("=") for item in value.split(",")]
    return [f"{option}{equals}{each.strip()}" for option, equals, several in items for each in several.split("|")]


def _datasets(value: str) -> list[str]:
    """Return the data set once for every combination of the values of its options."""
    name, _, asked = value.partition(":")
    options = dict(option.partition("=")[::2] for option in asked.split(",")) if "|" in asked else {}
    each = [",".join(f"{option}={choice}" for option, choice in of.items()) for of in crossed(options, f"'{value}'")]
    return [f"{name}:{text}" for text in each] if options else [value]


def _selectors(value: str) -> list[str]:
    """Return each selector once for every combination of the values of its options; commas part these too."""
    asked = with_options(value, "--select", "selector", "share=0.4")
    return [
        f"{name}:{text}" if (text := ",".join(f"{option}={choice}" for option, choice in of.items())) else name
        for name, options in asked
        for of in crossed(options, f"selector '{name}'")
    ]
