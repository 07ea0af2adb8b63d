"""One side of a comparison: the scored cells of a run folder, what came to nothing, and what must be equal."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.api.errors import HarnessError
from harness.run_folder.paths import CELLS, MANIFEST, RECORD
from harness.run_folder.store import RESPONSE_COLUMNS, Record, read_manifest, read_records
from harness.statistics.intervals import Floats
from harness.statistics.metrics import examples

PAIR_KEYS, RESPONSE_KEYS = ("split", "prompt_id", "pair_id"), ("split", "prompt_id", "response_id")
PAIR_SCORES = ("reward_chosen", "reward_rejected", "chosen_sum_logp", "rejected_sum_logp")
RESPONSE_SCORES = ("reward", "sum_logp")
SHOWN = 3
"""Ids named in an error; the rest is counted."""


class Cell(NamedTuple):
    """What is compared: a loss on a model, over its seeds."""

    model: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """A cell that came to nothing."""

    cell: Cell
    seed: int
    status: str
    """`failed`, `diverged`, or `missing`: asked for and not done."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Side:
    """The losses of a run folder; reference rows are left out."""

    folder: Path
    records: Mapping[Cell, Mapping[int, Record]]
    """The scored cells, by seed."""
    troubles: tuple[Trouble, ...]
    options: Mapping[Cell, Mapping[str, Any]]
    """The loss's options; of every cell with a record."""
    board: Mapping[str, Any]
    must_match: Mapping[str, Any]
    """Without which a paired comparison means nothing, by name; None where it is not known."""
    checkpoints: Mapping[str, str]
    """The start checkpoint's fingerprint, by model."""


def has_records(folder: Path) -> bool:
    """Return whether the folder holds any finished cell."""
    return next(folder.glob(f"{CELLS}/*/{RECORD}"), None) is not None


def read_side(folder: Path) -> Side:
    """Return the losses of a run folder.

    Raises `HarnessError` for a folder that is no run, and for records that may not stand together.
    """
    records = [record for record in read_records(folder) if _field(record, "kind") != "reference"]
    scored: dict[Cell, dict[int, Record]] = {}
    troubles: dict[tuple[Cell, int], Trouble] = {}
    options: dict[Cell, Mapping[str, Any]] = {}
    for record in records:
        cell = Cell(str(_field(record, "model.name")), str(_field(record, "label")))
        seed, status = int(_field(record, "seed")), str(_field(record, "status"))
        if seed in scored.get(cell, {}) or (cell, seed) in troubles:
            raise HarnessError(
                f"{folder}: got two records of {cell.label} on {cell.model}, seed {seed}, expected one; delete the one "
                "that is stale"
            )
        options[cell] = _field(record, "loss.options") or {}
        if status == "ok":
            scored.setdefault(cell, {})[seed] = record
        else:
            reason = str(record.fields.get("reason") or "no reason given")
            troubles[cell, seed] = Trouble(cell=cell, seed=seed, status=status, reason=reason)
    manifest = read_manifest(folder) if (folder / MANIFEST).is_file() else {}
    for label, model, seed in manifest.get("cells") or []:
        cell = Cell(str(model), str(label))
        if seed not in scored.get(cell, {}) and (cell, seed) not in troubles:
            troubles[cell, seed] = Trouble(cell=cell, seed=seed, status="missing", reason="asked for and not done")
    board = _one(records, "board")
    return Side(
        folder=folder,
        records={cell: dict(sorted(scored[cell].items())) for cell in sorted(scored)},
        troubles=tuple(troubles[key] for key in sorted(troubles)),
        options=options,
        board=board or {},
        must_match=_must_match(records, board or {}),
        checkpoints={
            str(record.fields["model"]["name"]): str(record.fields["model"]["fingerprint"])
            for record in records
            if record.fields["model"].get("fingerprint")
        },
    )


def check_pairable(base: Side, new: Side) -> None:
    """Raise `HarnessError` naming everything that keeps the two sides from being paired."""
    differing = [
        f"{name} {one!r} in {base.folder} and {other!r} in {new.folder}"
        for name, one in base.must_match.items()
        if None not in (one, other := new.must_match.get(name)) and one != other
    ]
    if differing:
        raise HarnessError(
            f"the runs cannot be paired: got {'; '.join(differing)}; expected the same on both sides; repeat one of "
            "them as the other was made, or make a new baseline"
        )


def differing_settings(base: Side, new: Side) -> dict[str, tuple[Any, Any]]:
    """Return the settings of the board's key that differ, each with both values; a missing one counts as None."""
    names = [*base.board, *(name for name in new.board if name not in base.board)]
    pairs = {name: (base.board.get(name), new.board.get(name)) for name in names}
    return {name: values for name, values in pairs.items() if values[0] != values[1]}


@dataclass(frozen=True, kw_only=True)
class Values:
    """One metric of one cell: the values whose mean it is, in an order that depends on the keys alone."""

    keys: NDArray[np.object_]
    """(rows,) what the values were read from: pairs, or pairs and responses."""
    prompt: NDArray[np.object_]
    """(n,) prompt ids."""
    value: Floats
    """(S, n); NaN where an example does not count."""
    scores: Floats
    """(S, columns, rows) rewards and log-probs: equal where two cells are the same to the last bit."""


def read_values(records: Sequence[Record], metric: str) -> Values:
    """Return the values of a metric from the records of a cell's seeds, which must be of the same pairs."""
    import pandas as pd

    on_responses = metric.startswith(("spearman", "kendall"))
    found: list[Values] = []
    for record in records:
        rows, keys = _sorted(record, record.rows(), PAIR_KEYS)
        scores = _numbers(rows, PAIR_SCORES)
        responses = pd.DataFrame(columns=list(RESPONSE_COLUMNS))
        if on_responses:
            responses, keys = _sorted(record, record.responses(), RESPONSE_KEYS)
            scores = _numbers(responses, RESPONSE_SCORES)
        one = examples(rows, responses)[metric]
        found.append(
            Values(keys=keys, prompt=one.prompt.astype(str).astype(object), value=one.value[None], scores=scores[None])
        )
        check_same_keys(found[0], found[-1], str(records[0].folder), str(record.folder))
    return Values(
        keys=found[0].keys,
        prompt=found[0].prompt,
        value=np.concatenate([each.value for each in found]),
        scores=np.concatenate([each.scores for each in found]),
    )


def check_same_keys(one: Values, other: Values, first: str, second: str) -> None:
    """Raise `HarnessError` naming pairs that only one of two cells has."""
    if np.array_equal(one.keys, other.keys) and np.array_equal(one.prompt, other.prompt):
        return
    left, right = set(one.keys), set(other.keys)
    only = [f"{len(extra)} only in {where} ({_some(extra)})" for extra, where in ((left - right, first),
            (right - left, second)) if extra]  # fmt: skip
    raise HarnessError(
        f"the runs cannot be paired: got {' and '.join(only) or 'other prompts'} of {len(left | right)} held-out rows; "
        "expected the same pairs on both sides; repeat one of the runs on the data of the other"
    )


def _some(keys: set[str]) -> str:
    ids = sorted(key.rpartition("\t")[2] for key in keys)
    return ", ".join(ids[:SHOWN]) + (", ..." if len(ids) > SHOWN else "")


def _sorted(record: Record, table: Any, names: tuple[str, ...]) -> tuple[Any, NDArray[np.object_]]:
    """Return the table in the order of its keys, and the keys."""
    keys = np.array(["\t".join(parts) for parts in zip(*(table[name].astype(str) for name in names), strict=True)])
    order = np.argsort(keys, kind="stable")
    keys = keys[order].astype(object)
    twice = keys[1:][keys[1:] == keys[:-1]]
    if len(twice):
        raise HarnessError(
            f"{record.folder}: got {_some(set(twice))} twice, expected one row each; delete the folder and run again"
        )
    return table.iloc[order], keys


def _numbers(table: Any, names: tuple[str, ...]) -> Floats:
    return np.array([table[name].to_numpy(np.float64, na_value=np.nan) for name in names])


def _must_match(records: Sequence[Record], board: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "protocol": _one(records, "protocol"),
        "dataset fingerprint": _one(records, "dataset.fingerprint"),
        "preset": board.get("preset", _one(records, "model.preset")),
        "evaluated split": board.get("evaluated_on"),
    }
    scored = [record for record in records if record.fields["status"] == "ok"]
    for model in sorted({str(record.fields["model"]["name"]) for record in scored}):
        mine = [record for record in scored if record.fields["model"]["name"] == model]
        found[f"tokens fingerprint of {model}"] = _one(mine, "tokens_fingerprint")
    return found


def _one(records: Sequence[Record], path: str) -> Any:
    """Return the one value that all records have under a dotted name, or refuse them."""
    first: dict[str, Record] = {}
    for record in records:
        first.setdefault(json.dumps(_field(record, path), sort_keys=True), record)
    if len(first) > 1:
        found = "; ".join(f"{value} in {record.folder}" for value, record in first.items())
        raise HarnessError(
            f"got records whose {path} differs: {found}; expected one value; do not mix runs in a folder"
        )
    return _field(next(iter(first.values())), path) if first else None


def _field(record: Record, path: str) -> Any:
    value: Any = record.fields
    for name in path.split("."):
        if not isinstance(value, Mapping) or (
            name not in value and path not in ("kind", "board", "tokens_fingerprint")
        ):
            raise HarnessError(
                f"{record.folder / RECORD}: got no '{path}', expected a record of the harness; delete the folder and "
                "run again"
            )
        value = value.get(name)
    return value
