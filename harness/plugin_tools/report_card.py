"""The report card of one loss: every conformance check with its answer. Loads torch when a card is asked for."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from harness.api import HarnessError, Loss
from harness.manager import losses, plugin_manager, resolver
from harness.planning.grid import System, select

if TYPE_CHECKING:
    from torch import Tensor

    from harness.api.checks import Golden

WORDS: Mapping[str, str] = {"passed": "passed", "failed": "FAILED", "not applicable": "-"}
KEYS = (
    "options",
    "chosen",
    "rejected",
    "ref_chosen",
    "ref_rejected",
    "columns",
    "expected",
    "what",
    "rtol",
    "source",
)
"""Of a golden record; chosen, rejected and expected must be there."""


def report_card(name: str, golden: Path | None = None) -> tuple[str, bool]:
    """Return how the loss `name` does in every check, as a table, and whether none failed.

    `name` may carry options: "simpo:beta=2.5". `golden` is a JSON file of values to compare with, see `golden_records`.
    Raises `HarnessError` for an unknown loss or option and for a file that is no list of such records.
    """
    from harness.api.checks import CHECKS, Kit, check_loss

    manager = plugin_manager()
    known, resolve = losses(manager), resolver(manager)
    system = _one(name, known)

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
    lines.append(
        f"{system.label}: {counts['passed']} passed, {counts['failed']} failed, {counts['not applicable']} do not apply"
    )
    return "\n".join(lines), not counts["failed"]


def golden_records(path: Path, loss: str) -> list[Golden]:
    """Return the values in a JSON file: a list of records of `loss`, one batch of pairs each.

    A record has `chosen` and `rejected` (a list of token log-probs a response), `expected` (a number a pair; for "mean"
    one, for "reward" the chosen, then the rejected responses), and may have `ref_chosen` and `ref_rejected` (a sum a
    pair), `columns`, `options`, `what` ("values", "mean", "preference" or "reward"), `rtol` and `source`.
    """
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HarnessError(
            f"--golden got {path}, which cannot be read ({error}); give a JSON list of records"
        ) from None
    if not isinstance(records, list) or not records:
        raise HarnessError(f"--golden got {path}, expected a list of records; write [{{...}}]")
    return [_golden(f"--golden {path}, record {number}", record, loss) for number, record in enumerate(records)]


def _golden(where: str, record: Any, loss: str) -> Golden:
    from harness.api import PairLogps
    from harness.api.checks import Golden
    from harness.api.checks.batches import logps
    from harness.api.checks.kit import What

    if not isinstance(record, dict):
        raise HarnessError(f"{where} got {record!r:.60}, expected an object with chosen, rejected and expected")
    unknown = [key for key in record if key not in KEYS]
    if unknown:
        raise HarnessError(f"{where} got '{unknown[0]}', expected keys among {', '.join(KEYS)}")
    what, rtol, options = record.get("what", "values"), record.get("rtol", 1e-10), record.get("options", {})
    if what not in get_args(What):
        raise HarnessError(f"{where} got what='{what}', expected one of {', '.join(get_args(What))}")
    if not isinstance(options, dict):
        raise HarnessError(f"{where} got options {options!r:.60}, expected an object of option: value")
    if not _is_number(rtol):
        raise HarnessError(f"{where} got rtol {rtol!r:.60}, expected a number such as 1e-10")
    rows = {side: _responses(where, record, side) for side in ("chosen", "rejected")}
    count = len(rows["chosen"])
    if len(rows["rejected"]) != count:
        raise HarnessError(f"{where} got {count} chosen and {len(rows['rejected'])} rejected responses, expected pairs")
    wanted = {"mean": 1, "reward": 2 * count}.get(what, count)
    columns = record.get("columns", {})
    if not isinstance(columns, dict):
        raise HarnessError(f"{where} got columns {columns!r:.60}, expected an object of name: numbers")
    return Golden(
        loss=loss,
        options=options,
        pairs=PairLogps(
            chosen=logps(rows["chosen"]),
            rejected=logps(rows["rejected"]),
            ref_chosen=_sums(where, record, "ref_chosen", count),
            ref_rejected=_sums(where, record, "ref_rejected", count),
            columns={name: _vector(_numbers(where, columns[name], name, count)) for name in columns},
        ),
        expected=_numbers(where, record.get("expected"), "expected", wanted),
        what=what,
        rtol=float(rtol),
        source=str(record.get("source", "")),
    )


def _responses(where: str, record: Mapping[str, Any], side: str) -> list[list[float]]:
    rows = record.get(side)
    if not isinstance(rows, list) or not rows or not all(isinstance(row, list) and row for row in rows):
        raise HarnessError(f"{where} got {side} {rows!r:.60}, expected a list of token log-probs a response")
    return [_numbers(where, row, side, len(row)) for row in rows]


def _sums(where: str, record: Mapping[str, Any], side: str, count: int) -> Tensor | None:
    return _vector(_numbers(where, record[side], side, count)) if side in record else None


def _numbers(where: str, values: Any, name: str, count: int) -> list[float]:
    if not isinstance(values, list) or len(values) != count or not all(map(_is_number, values)):
        raise HarnessError(f"{where} got {name} {values!r:.60}, expected a list of {count} numbers")
    return [float(value) for value in values]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _vector(values: Sequence[float]) -> Tensor:
    import torch

    return torch.tensor(values, dtype=torch.float64)


def _one(name: str, known: Mapping[str, type[Loss]]) -> System:
    systems = select(name, list(known), resolver(plugin_manager()))
    if len(systems) != 1:
        raise HarnessError(f"got '{name}', which are {len(systems)} losses, expected one; such as simpo:beta=2.5")
    return systems[0]


def _unchecked(loss: Loss) -> list[str]:
    import dataclasses

    reasons = [(field.name, field.metadata.get("unchecked")) for field in dataclasses.fields(loss)]
    return [f"not checked whether {name} acts: {reason}" for name, reason in reasons if reason]


def _folded(text: str) -> str:
    return " ".join(text.split())
