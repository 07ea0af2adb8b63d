"""What a row of a board says besides its measured values: who it is, what it spent, who scored it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from harness.leaderboard.decide.comparable import Group
from harness.run_folder.store import Record


def identity(group: Group, label: str, models: Sequence[str]) -> dict[str, Any]:
    """Return what a row says besides its numbers."""
    mine = [record.fields for unit, record in group.records.items() if unit.label == label and unit.model in models]
    spends = [fields["spend"] for fields in mine if fields.get("spend")]
    names = [name for name, value in (spends[0] if spends else {}).items() if _is_number(value)]
    scorers = [fields["scorer"] for fields in mine if fields.get("scorer")]
    parity = [each["parity_max_abs_nats"] for each in scorers if _is_number(each.get("parity_max_abs_nats"))]
    known = [record.fields for unit, record in group.records.items() if unit.label == label]
    unknown = {"loss": {"name": label.partition("(")[0]}}  # asked for, and not begun on any model
    first: Mapping[str, Any] = next(iter([*mine, *known]), unknown)
    return {
        "label": label,
        "loss": str(first["loss"]["name"]),
        "kind": "reference" if label in group.references else "loss",
        "options": _shared(
            [fields["loss"].get("options", {}) for fields in mine] or [first["loss"].get("options", {})]
        ),
        "tuned": {str(fields["model"]["name"]): _choice(fields) for fields in mine if fields.get("tuning")},
        "reference_based": bool(first["loss"].get("needs_reference")),
        "tags": tuple(map(str, first["loss"].get("tags") or ())),
        "seeds": tuple(sorted({fields["seed"] for fields in mine if fields.get("seed") is not None})),
        "spend": {name: fmean(spend[name] for spend in spends if _is_number(spend.get(name))) for name in names},
        "prepared": _prepared(mine),
        "scorer": {
            "name": ", ".join(sorted({str(each.get("name")) for each in scorers})),
            "version": ", ".join(sorted({str(each.get("version")) for each in scorers if each.get("version")})),
            "parity_max_abs_nats": max(parity) if parity else float("nan"),
        },
    }


def trials_of(record: Record) -> int:
    """Return how many trials the cell's run gave each loss; 0 where nothing was tuned."""
    return int((record.fields.get("board") or {}).get("trials") or 0)


def _shared(options: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the options that all cells have alike: tuned ones may differ between models."""
    return {name: value for name, value in options[0].items() if all(each.get(name) == value for each in options)}


def _choice(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return what tuning chose for a cell, and from what."""
    tuning = fields["tuning"]
    kept = {"trial": tuning["number"], "trials": tuning["trials"], "dev": tuning["dev"]}
    return {"options": tuning["options"], "learning_rate": fields["learning_rate"], **kept}


def _prepared(fields: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the mean over the records of what is known of each prepared column."""
    found: dict[str, dict[str, list[float]]] = {}
    for one in fields:
        for column, facts in (one.get("prepared") or {}).items():
            for name, value in facts.items():
                if _is_number(value):
                    found.setdefault(str(column), {}).setdefault(str(name), []).append(value)
    return {column: {name: fmean(values) for name, values in facts.items()} for column, facts in found.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
