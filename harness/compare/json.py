"""Comparison or Verdict -> JSON, for programs. Numbers have 10 significant digits; missing ones are null.

A comparison: {"schema": 1, "protocol", "metric", "direction", "base", "new": the folders, "dataset_fingerprint",
"covers": what the intervals cover, "prompts", "prompts and reruns", "prompts and seeds" or null without a cell,
"settings": {name: [BASE, NEW]} of those that differ, "cells": [difference], "overall": difference or null,
"not_compared": [{"model", "label", "reason"}], "troubles": [{"model", "label", "seed", "status", "reason"}], "notes"}.
A difference: {"model", "label", "seeds", "base", "new", "value", "low", "high", "family_low", "family_high", "n",
"n_prompts", "identical"}: NEW - BASE with its 95 % interval, and the interval that holds for all of them together.
A verdict: {"schema": 1, "status", "exit_code", "headline", "margin", "smallest_margin": any margin above it passes,
"noise_floor": the smallest margin of same-code gates or null, "covers": as above, "notes", "troubles", "comparison": as
above or null}; its differences have "status" and "reason" too.
"""

from __future__ import annotations

from typing import Any

from harness.compare.comparison import Comparison
from harness.compare.paired import Difference
from harness.compare.sides import Trouble
from harness.compare.verdict import Judged, Verdict
from harness.leaderboard.formatting import json_text
from harness.run_folder.noise_floor import LossOnModel

SCHEMA = 1


def render_comparison(comparison: Comparison) -> str:
    """Return the comparison as JSON with a trailing newline."""
    return _text({"schema": SCHEMA} | _comparison(comparison))


def render_verdict(verdict: Verdict) -> str:
    """Return the verdict as JSON with a trailing newline."""
    comparison = verdict.comparison
    noise = comparison.noise if comparison else None
    content = None
    if comparison is not None:
        content = _comparison(comparison)
        content["cells"] = [_judged(cell) for cell in verdict.cells]
        content["overall"] = _judged(verdict.overall) if verdict.overall else None
    return _text(
        {
            "schema": SCHEMA,
            "status": verdict.status.value,
            "exit_code": verdict.exit_code,
            "headline": verdict.headline,
            "margin": verdict.margin,
            "smallest_margin": verdict.smallest_margin,
            "noise_floor": noise.smallest_margin if noise else None,
            "covers": comparison.covers if comparison else None,
            "notes": verdict.notes,
            "troubles": [_trouble(trouble) for trouble in verdict.troubles],
            "comparison": content,
        }
    )


def _comparison(comparison: Comparison) -> dict[str, Any]:
    return {
        "protocol": comparison.protocol,
        "metric": comparison.metric,
        "direction": comparison.direction,
        "base": comparison.base,
        "new": comparison.new,
        "dataset_fingerprint": comparison.dataset_fingerprint,
        "covers": comparison.covers,
        "settings": {name: list(values) for name, values in comparison.settings.items()},
        "cells": [_difference(difference) for difference in comparison.cells],
        "overall": _difference(comparison.overall) if comparison.overall else None,
        "not_compared": [_cell(unmatched.cell) | {"reason": unmatched.reason} for unmatched in comparison.unmatched],
        "troubles": [_trouble(trouble) for trouble in comparison.troubles],
        "notes": comparison.notes,
    }


def _cell(cell: LossOnModel) -> dict[str, Any]:
    return {"model": cell.model, "label": cell.label}


def _judged(judged: Judged) -> dict[str, Any]:
    return _difference(judged.difference) | {"status": judged.status.value, "reason": judged.reason}


def _difference(difference: Difference) -> dict[str, Any]:
    return _cell(difference.cell) | {
        "seeds": difference.seeds,
        "base": difference.base,
        "new": difference.new,
        "value": difference.value,
        "low": difference.low,
        "high": difference.high,
        "family_low": difference.family_low,
        "family_high": difference.family_high,
        "n": difference.n,
        "n_prompts": difference.n_prompts,
        "identical": difference.identical,
    }


def _trouble(trouble: Trouble) -> dict[str, Any]:
    return _cell(trouble.cell) | {"seed": trouble.seed, "status": trouble.status, "reason": trouble.reason}


def _text(content: dict[str, Any]) -> str:
    return json_text(content, ascii_only=True)  # names from records may hold what UTF-8 cannot carry
