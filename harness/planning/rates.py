"""`rates.json` in the cache folder: the FLOP/s that training reached on this machine, for the estimates of a plan."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from harness.run_folder.facts import Spend
from harness.run_folder.store import write_atomically

FILE = "rates.json"
ASSUMED_FLOPS = 20e9
"""FLOP/s of one CPU core that training is assumed to reach where no earlier run on this machine says better."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How fast training is expected to be."""

    flops_per_second: float
    source: str
    """Where the figure comes from, as the plan says it."""


def read_rate(cache: Path, preset: str) -> Rate:
    """Return the rate that the last cell of this preset reached here, or an assumption where there was none."""
    try:
        measured = float(json.loads((cache / FILE).read_text())[preset])
        return Rate(flops_per_second=measured, source="at the rate of the last run on this machine")
    except (OSError, ValueError, KeyError, TypeError):
        return Rate(
            flops_per_second=ASSUMED_FLOPS * (os.cpu_count() or 1),
            source=f"assuming {ASSUMED_FLOPS / 1e9:.0f} GFLOP/s per core; no earlier run on this machine",
        )


def remember_rate(cache: Path, preset: str, spend: Spend) -> None:
    """Keep the rate that a cell was trained at; where the file cannot be written, estimates stay an assumption."""
    if not (spend.steps and spend.flops and spend.seconds):
        return
    path = cache / FILE
    try:
        known = json.loads(path.read_text()) if path.exists() else {}
        write_atomically(path, json.dumps(known | {preset: spend.flops / spend.seconds}))
    except (OSError, ValueError, TypeError) as error:
        print(f"{FILE} was not written: {error}")
