"""`rates.json` in the cache folder: the FLOP/s that training reached on this machine, for the estimates of a plan.

The last cells of each kind of training and, within it, number of parameters: a large model computes far more of the
time than a nano model, whose rate says nothing about it, and a machine that is shared is now fast and now slow.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from harness.api import HarnessError
from harness.planning.processors import threads_each
from harness.planning.run_file import Run
from harness.run_folder.facts import Spend
from harness.run_folder.store import write_atomically

FILE = "rates.json"
NANO_PARAMETERS = 1_000_000
ASSUMED_FLOPS = 20e9
"""FLOP/s of one CPU core that training a nano model is assumed to reach where no earlier run here says better."""
ALIKE = 2.0
"""A rate is taken for models of up to so many times as many parameters as the measured one, or as few."""
REACHED = 0.9
"""Share of the rate of bare matrix products that training, reference and scoring passes reach. Measured in fp32: 0.7 to
1.4 on one core for Llamas of 10M to 135M parameters, 0.8 to 1.0 on two for SmolLM2-135M."""
WIDE = 256
"""Width from which it does; below, its share falls with the width."""
WIDEST = 2048
"""Products of wider layers are as fast as those of this width, and not timed for themselves."""
MEASURE_LIMIT = 30.0
"""Seconds after which timing them is given up."""
KEPT = 5
"""Cells of one size whose rates are kept."""


@dataclass(frozen=True, kw_only=True)
class Rate:
    """How fast training is expected to be."""

    slowest: float
    """FLOP/s of the slowest of the cells that it is judged by."""
    fastest: float
    source: str
    """Where the figure comes from, as the plan says it."""
    computed: bool = False
    """Whether it is of the products that are computed, and not of the FLOPs that a budget counts."""


@cache
def measured_rate(width: int, inner: int) -> Rate | None:
    """Return the rate to expect of a model with layers so wide on all cores, from products of that size, timed now.

    In fp32 products, whatever the dtype. None where they cannot be timed.
    """
    sizes = [str(min(width, WIDEST)), str(min(inner, 4 * WIDEST))]
    one_thread = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "MKL", "OMP", "VECLIB")}
    command = [sys.executable, "-m", "harness.planning.product_speed", *sizes]
    try:
        done = subprocess.run(
            command, env=os.environ | one_thread, capture_output=True, text=True, check=True, timeout=MEASURE_LIMIT
        )
        reached = float(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    rate = REACHED * min(1.0, width / WIDE) * reached * threads_each()
    return Rate(slowest=rate, fastest=rate, source="by matrix products timed just now", computed=True)


def read_rate(cache: Path, run: Run, parameters: int) -> Rate | None:
    """Return the rate that the last such trainings of a model of about this size reached here.

    Without one it is assumed for a nano model, and None for any other: not known.
    """
    rates = _nearest(cache, _kind(run), parameters)
    if rates:
        source = "at the rate of the last such cells on this machine"
        return Rate(slowest=min(rates), fastest=max(rates), source=source)
    if _apart(NANO_PARAMETERS, parameters) > ALIKE:
        return None
    assumed = ASSUMED_FLOPS * threads_each()
    return Rate(
        slowest=assumed,
        fastest=assumed,
        source=f"assuming {ASSUMED_FLOPS / 1e9:.0f} GFLOP/s per core; no earlier run on this machine",
    )


def remember_rate(cache: Path, run: Run, parameters: int, spend: Spend) -> None:
    """Keep the rate that a cell was trained at; where the file cannot be written, estimates stay as they were."""
    if spend.steps and spend.flops and spend.seconds:
        seconds = spend.seconds - (spend.selection_seconds or 0.0)
        _remember(cache, _kind(run), parameters, (spend.flops - (spend.selection_flops or 0.0)) / seconds)


def read_answer_rate(cache: Path, run: Run, scorer: str, parameters: int) -> float | None:
    """Return the tokens a second that the slowest of the last answers of a model of about this size came at here.

    None where none were sampled here.
    """
    rates = _nearest(cache, _kind_of_answers(run, scorer), parameters)
    return min(rates) if rates else None


def remember_answer_rate(cache: Path, run: Run, scorer: str, parameters: int, tokens: int, seconds: float) -> None:
    """Keep the tokens a second that the answers of a model came at, the reference's log-probs of them included."""
    if tokens and seconds:
        _remember(cache, _kind_of_answers(run, scorer), parameters, tokens / seconds)


def _remember(cache: Path, kind: str, parameters: int, rate: float) -> None:
    known = _read(cache)
    rates = known.setdefault(kind, {})
    rates[parameters] = [*rates.get(parameters, []), rate][-KEPT:]
    try:
        write_atomically(cache / FILE, json.dumps(known))
    except (OSError, HarnessError) as error:
        print(f"{FILE} was not written: {error}")


def _kind(run: Run) -> str:
    settings = run.settings
    optimizer = f", {run.optimizer}" if run.optimizer != "adamw" else ""
    return f"{run.adapter} {settings.dtype}{optimizer}, {settings.micro_pairs} pairs at once"


def _kind_of_answers(run: Run, scorer: str) -> str:
    return f"answers by {scorer}, {run.settings.dtype}"


def _nearest(cache: Path, kind: str, parameters: int) -> list[float]:
    """Return the rates of models of about so many parameters, of the nearest size; none where there are none."""
    nearest = min(_read(cache).get(kind, {}).items(), key=lambda item: _apart(item[0], parameters), default=None)
    return nearest[1] if nearest is not None and _apart(nearest[0], parameters) <= ALIKE else []


def _apart(one: int, other: int) -> float:
    """Return how many times as large the larger of two sizes is."""
    return max(one, other) / max(1, min(one, other))


def _read(cache: Path) -> dict[str, dict[int, list[float]]]:
    """Return the rates by kind and parameters, without what an earlier version wrote in another form."""
    try:
        content = json.loads((cache / FILE).read_text())
        return {
            kind: {int(size): [float(rate) for rate in of_size] for size, of_size in rates.items() if min(of_size) > 0}
            for kind, rates in content.items()
            if isinstance(rates, dict)
        }
    except (OSError, ValueError, TypeError, AttributeError):
        return {}
