"""The report card of one loss: the result of every conformance check. Loads torch when a card is asked for."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.api import HarnessError, Loss
from harness.manager import losses, plugin_manager, resolver
from harness.planning.grid import System, select

WORDS: Mapping[str, str] = {"passed": "passed", "failed": "FAILED", "not applicable": "-"}


def report_card(name: str, golden: Path | None = None) -> tuple[str, bool]:
    """Return how the loss `name` does in every check, as a table, and whether none failed.

    `name` may carry options: "simpo:beta=2.5". `golden` is a JSON file of values to compare with, as
    `harness.api.checks.golden_records` reads it.
    Raises `HarnessError` for an unknown loss or option and for a file that is no list of such records.
    """
    from harness.api.checks import CHECKS, Kit, check_loss, golden_records

    manager = plugin_manager()
    known, resolve = losses(manager), resolver(manager)
    system = _only_loss(name, known)

    def installed(other: str, options: Mapping[str, Any]) -> Loss | None:
        return resolve(other, options) if other in known else None

    records = golden_records(golden, system.loss.name) if golden else []
    results = check_loss(system.loss, Kit(resolve=installed, golden=records))
    width = max(len(result.name) for result in results)
    lines = [f"{'rule':<{width}}  result"]
    for result, check in zip(results, CHECKS, strict=True):
        lines.append(f"{result.name:<{width}}  {WORDS[result.status]:<6}  {_folded(result.message)}".rstrip())
        if result.status == "failed":
            lines += textwrap.wrap(_folded(check.__doc__ or ""), 110, initial_indent="    ", subsequent_indent="    ")
    lines += ["", *_unchecked(system.loss)]
    counts = {status: sum(result.status == status for result in results) for status in WORDS}
    lines.append(f"{system.label}: " + ", ".join(f"{count} {status}" for status, count in counts.items()))
    return "\n".join(lines), not counts["failed"]


def _only_loss(name: str, known: Mapping[str, type[Loss]]) -> System:
    systems = select(name, list(known), resolver(plugin_manager()))
    if len(systems) != 1:
        raise HarnessError(
            f"got '{name}', which names {len(systems)} losses, expected one; write for example simpo:beta=2.5"
        )
    return systems[0]


def _unchecked(loss: Loss) -> list[str]:
    import dataclasses

    reasons = [(field.name, field.metadata.get("unchecked")) for field in dataclasses.fields(loss)]
    return [f"not checked whether {name} acts: {reason}" for name, reason in reasons if reason]


def _folded(text: str) -> str:
    return " ".join(text.split())
