"""Two losses of one run, paired on the same held-out pairs: what `Results.compare` gives."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from harness.api.errors import HarnessError
from harness.compare.paired import Difference, Paired, differences, pair
from harness.compare.sides import read_values
from harness.run_folder.noise_floor import LossOnModel
from harness.run_folder.record import Record
from harness.statistics.estimate_interval import difference_of
from harness.statistics.metrics import METRICS, kind_of


def compared(records: Sequence[Record], a: str, b: str, metric: str) -> pd.DataFrame:
    """Return a line per model, and one over all of several. Raises `HarnessError` for a label that has no result."""
    if metric not in METRICS:
        raise HarnessError(f"got metric {metric}, expected one of {', '.join(METRICS)}; name one of them")
    models = dict.fromkeys(record.model.name for record in records)
    pairs = {
        LossOnModel(model, f"{a} - {b}"): both
        for model in models
        if (both := _pair([record for record in records if record.model.name == model], a, b, metric)) is not None
    }
    if not pairs:
        known = dict.fromkeys(record.label for record in records if record.scored)
        raise HarnessError(
            f"got '{a}' and '{b}', which have no model and seed in common here, expected two of {', '.join(known)}"
        )
    cells, overall = differences(pairs, difference_of(kind_of(metric)))
    lines = [*cells, *([overall] if overall is not None and len(cells) > 1 else [])]
    return pd.DataFrame([_line(each, a, b, metric) for each in lines])


def _pair(records: Sequence[Record], a: str, b: str, metric: str) -> Paired | None:
    """Return both sides on one model, in the seeds that both have: a baseline row stands for every seed."""
    by_label = {
        label: {record.seed: record for record in records if record.scored and record.label == label}
        for label in (a, b)
    }
    trained = [set(found) - {None} for found in by_label.values() if found]
    if len(trained) < 2:
        return None
    seeds = sorted(seed for seed in (trained[0] & trained[1] or trained[0] | trained[1]) if seed is not None)
    if not seeds or any(None not in found and not set(seeds) <= set(found) for found in by_label.values()):
        return None
    sides = {
        label: read_values([found.get(seed) or found[None] for seed in seeds], metric)
        for label, found in by_label.items()
    }
    return pair(sides[b], sides[a], tuple(seeds), b, a)


def _line(difference: Difference, a: str, b: str, metric: str) -> dict[str, object]:
    return {
        "model": difference.cell.model,
        "metric": metric,
        "a": a,
        "b": b,
        "value_a": difference.new,
        "value_b": difference.base,
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        "n": difference.n,
        "prompts": difference.n_prompts,
        "seeds": len(difference.seeds),
    }
