"""Comparison or Verdict -> JSON, for programs. Numbers have 10 significant digits; missing ones are null.

A comparison: {"schema": 1, "protocol", "metric", "direction", "base", "new": the folders, "dataset_fingerprint",
"settings": {name: [BASE, NEW]} of those that differ, "cells": [difference], "overall": difference or null,
"not_compared": [{"model", "label", "reason"}], "troubles": [{"model", "label", "seed", "status", "reason"}], "notes"}.
A difference: {"model", "label", "seeds", "base", "new", "value", "low", "high", "family_low", "family_high", "n",
"n_prompts", "identical"}: NEW - BASE with its 95 % interval, and the interval that holds for all of them together.
A verdict: {"schema": 1, "status", "exit_code", "headline", "margin", "smallest_margin": any margin above it passes,
"noise_floor": the smallest margin of same-code gates or null, "notes", "troubles", "comparison": as above or null}; its
differences have "status" and "reason" too.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from harness.compare.comparison import Comparison
from harness.compare.paired import Difference
from harness.compare.sides import Trouble
from harness.compare.verdict import Judged, Verdict
from harness.leaderboard.formatting import rounded

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
        content["cells"] = [_judged(one) for one in verdict.cells]
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
            "notes": verdict.notes,
            "troubles": _troubles(verdict.troubles),
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
        "settings": {name: list(values) for name, values in comparison.settings.items()},
        "cells": [_difference(one) for one in comparison.cells],
        "overall": _difference(comparison.overall) if comparison.overall else None,
        "not_compared": [
            {"model": one.cell.model, "label": one.cell.label, "reason": one.reason} for one in comparison.unmatched
        ],
        "troubles": _troubles(comparison.troubles),
        "notes": comparison.notes,
    }


def _judged(one: Judged) -> dict[str, Any]:
    return _difference(one.difference) | {"status": one.status.value, "reason": one.reason}


def _difference(one: Difference) -> dict[str, Any]:
    return {
        "model": one.cell.model,
        "label": one.cell.label,
        "seeds": one.seeds,
        "base": one.base,
        "new": one.new,
        "value": one.value,
        "low": one.low,
        "high": one.high,
        "family_low": one.family_low,
        "family_high": one.family_high,
        "n": one.n,
        "n_prompts": one.n_prompts,
        "identical": one.identical,
    }


def _troubles(troubles: Sequence[Trouble]) -> list[dict[str, Any]]:
    return [
        {
            "model": one.cell.model,
            "label": one.cell.label,
            "seed": one.seed,
            "status": one.status,
            "reason": one.reason,
        }
        for one in troubles
    ]


def _text(content: dict[str, Any]) -> str:
    # ASCII: names from records may hold what UTF-8 cannot carry
    return json.dumps(rounded(content), indent=1, ensure_ascii=True, allow_nan=False) + "\n"
