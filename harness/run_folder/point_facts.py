"""What a record says of a point along its run. Imports no torch."""

from __future__ import annotations

from pydantic import Field

from harness.run_folder.generation_facts import GenerationFacts
from harness.run_folder.json_types import Count, Facts, Number


class DevFacts(Facts):
    """A point on the development split, by which it may be chosen."""

    metrics: dict[str, Number] = Field(default_factory=dict)
    """Every metric by name; null where it is missing."""
    files: dict[str, str] = Field(default_factory=dict)
    """sha256 of each of its tables there."""


class PointFacts(Facts):
    """A point along the run: the cell as it was when a fraction of its budget was spent."""

    fraction: float
    """Of the budget; 1 is the end, whose tables are the cell's own."""
    step: int
    """Optimiser steps by then."""
    pairs: Count = None
    """Pairs visited by then."""
    tokens: Count = None
    """Tokens visited by then, as in `spend`."""
    flops: Number = None
    """Floating-point operations by then, as in `spend`."""
    seconds: Number = None
    """Seconds by then, as in `spend`; keeping the weights took none of them."""
    metrics: dict[str, Number] = Field(default_factory=dict)
    """Every metric by name; null where it is missing, for the reason that the cell's own is."""
    files: dict[str, str] = Field(default_factory=dict)
    """sha256 of each of the point's tables."""
    generation: GenerationFacts | None = None
    """The answers by then, absent without `--generate`; at 1 those of the record, whose table is the cell's own."""
    dev: DevFacts | None = None
    """The point on the development split; absent without `--report best-on-dev`."""
