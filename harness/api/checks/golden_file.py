"""Golden values read from a JSON file: log-probs of pairs, and what other code computed from them. Needs torch."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from harness.api.checks.batches import logps
from harness.api.checks.kit import Golden, What
from harness.api.errors import HarnessError
from harness.api.pairs import PairLogps

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
"""Keys of a record; chosen, rejected and expected must be there."""


def golden_records(path: Path, loss: str) -> list[Golden]:
    """Return the golden values of the loss called `loss` in a JSON file: a list of records, one batch of pairs each.

    A record has `chosen` and `rejected` (a list of token log-probs per response) and `expected` (one number per pair;
    for "mean" a single one; for "reward" those of the chosen, then of the rejected responses). It may have `ref_chosen`
    and `ref_rejected` (one sum per pair), `columns`, `options`, `what` ("values", "mean", "preference" or "reward"),
    `rtol` and `source`. Raises `HarnessError` for a file that is no list of such records.
    """
    try:
        records = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise HarnessError(
            f"got golden file {path}, which cannot be read ({error}), expected a JSON list of records; check the path"
        ) from None
    if not isinstance(records, list) or not records:
        raise HarnessError(f"got golden file {path}, expected a list of records in it; write [{{...}}]")
    return [_golden(f"golden file {path}, record {number}:", record, loss) for number, record in enumerate(records)]


def _golden(where: str, record: Any, loss: str) -> Golden:
    """Return one record, checked; `where` begins each message."""
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
        raise HarnessError(f"{where} got {side} {rows!r:.60}, expected a list of token log-probs for each response")
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
    return torch.tensor(values, dtype=torch.float64)
