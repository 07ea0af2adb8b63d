"""Whether the records of several runs may stand in one folder, and whether two results of one cell are the same."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from harness.api.errors import HarnessError
from harness.exchange.cell_checks import RESPONSE_KEYS
from harness.exchange.untrusted import look_up
from harness.run_folder.store import Record

OF_THE_MACHINE: Mapping[str, tuple[str, ...]] = {
    "spend": ("seconds", "peak_memory_bytes", "reference_seconds", "reference_cached"),
    "scorer": ("version", "seconds", "parity_max_abs_nats", "note"),
}
"""Parts of a record in which two machines may differ; also `environment`, and what follows from the tables."""
FOLLOWS = ("environment", "files", "metrics", "metric_reasons")
NEARLY = {"float32": (1e-3, 1e-6)}
"""How far two machines' scores of the same start checkpoint may lie apart, in nats and in parts of the sum: in float32
what the canary allows two scorers, else half a percent."""
NEARLY_OTHERWISE = (0.1, 5e-3)


def check_alike(records: Mapping[str, Sequence[Record]]) -> None:
    """Raise `HarnessError` where runs differ in settings, data, tokens or start checkpoints."""
    boards = {name: {_board(record) for record in found} for name, found in records.items()}
    fullest = max(boards, key=lambda name: len(boards[name]))
    for name, keys in boards.items():
        for key in sorted(keys - boards[fullest]):
            raise HarnessError(
                f"the runs cannot be merged: got other settings in {name} than in {fullest}: "
                f"{_settings_apart(json.loads(key), json.loads(min(boards[fullest])))}; expected one board; merge runs "
                "of the same settings"
            )
    first: dict[tuple[str, ...], tuple[Any, str]] = {}
    for name, found in records.items():
        for record in found:
            model = str(record.fields["model"]["name"])
            places = [
                ("dataset.fingerprint",),
                ("tokens_fingerprint", _board(record), model),
                ("model.fingerprint", model),
            ]
            for place in places if record.fields["status"] == "ok" else places[:1]:
                got = look_up(record.fields, place[0])
                wanted, where = first.setdefault(place, (got, name))
                if got != wanted:
                    of = f" of {model}" if len(place) > 1 else ""
                    raise HarnessError(
                        f"the runs cannot be merged: got {place[0]}{of} {got!r} in {name} and {wanted!r} in {where}; "
                        "expected the same; merge runs of the same data and start checkpoint"
                    )


def _board(record: Record) -> str:
    return json.dumps(record.fields["board"], sort_keys=True)


def _settings_apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    names = [*one, *(name for name in other if name not in one)]
    return ", ".join(
        f"{name} {one.get(name)!r} / {other.get(name)!r}" for name in names if one.get(name) != other.get(name)
    )


def check_same_result(kept: Record, other: Record) -> float:
    """Raise `HarnessError` where two runs' results of a cell differ; return how far the start's scores lie apart."""
    differing = [f"{name} {one!r:.80} / {two!r:.80}" for name, one, two in _fields_apart(kept.fields, other.fields)]
    apart = 0.0
    if not differing and kept.fields["status"] == "ok":
        absolute, relative = (0.0, 0.0)
        if kept.fields["kind"] == "reference":
            absolute, relative = NEARLY.get(str(look_up(kept.fields, "board.dtype")), NEARLY_OTHERWISE)
        one, two = (each.responses().set_index(list(RESPONSE_KEYS)).sort_index() for each in (kept, other))
        if not one.index.equals(two.index):
            differing.append("other held-out responses")
        for column in () if differing else ("sum_logp", "ref_sum_logp", "reward"):
            left, right = one[column].to_numpy(np.float64), two[column].to_numpy(np.float64)
            gap = np.where(np.isnan(left) & np.isnan(right), 0.0, np.abs(left - right))
            apart = max(apart, float(gap.max(initial=0.0)))
            off = ~(gap <= absolute + relative * np.nan_to_num(np.abs(left)))
            if off.any():
                differing.append(f"{column} of {off.sum()} of {len(gap)} responses, by up to {np.max(gap):.3g}")
    if differing:
        raise HarnessError(
            f"got two results of one cell that differ: {kept.folder} / {other.folder}: {'; '.join(differing)}; "
            "expected the same; delete the folder of the one that shall not count"
        )
    return apart


def _fields_apart(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[tuple[str, Any, Any]]:
    """Return the fields in which two records differ and that no machine decides."""

    def essential(fields: Mapping[str, Any], name: str) -> Any:
        value = fields.get(name)
        if isinstance(value, Mapping):
            return {key: inner for key, inner in value.items() if key not in OF_THE_MACHINE.get(name, ())}
        return value

    names = [name for name in {**one, **other} if name not in FOLLOWS]
    pairs = [(name, essential(one, name), essential(other, name)) for name in names]
    return [(name, left, right) for name, left, right in pairs if left != right]
