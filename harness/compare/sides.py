"""One side of a comparison: the scored cells of a run folder, those without a result, and what must be equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.api.errors import HarnessError
from harness.run_folder.board_key import BoardKey
from harness.run_folder.manifest import known_manifest
from harness.run_folder.noise_floor import LossOnModel, NoiseFloor
from harness.run_folder.record import Record, only
from harness.run_folder.store import read_records
from harness.run_folder.tables import PAIR_KEYS, RESPONSE_COLUMNS, RESPONSE_KEYS
from harness.statistics.intervals import Floats
from harness.statistics.metrics import examples, is_of_responses

PAIR_SCORES = ("reward_chosen", "reward_rejected", "chosen_sum_logp", "rejected_sum_logp")
RESPONSE_SCORES = ("reward", "sum_logp")
SHOWN = 3
"""How many ids an error names; the others are counted."""


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """A cell without a result."""

    cell: LossOnModel
    seed: int
    status: str
    """`failed`, `diverged`, or `missing`: asked for and not done."""
    reason: str


@dataclass(frozen=True, kw_only=True)
class Side:
    """The losses of a run folder; rows that it did not train are left out."""

    folder: Path
    records: Mapping[LossOnModel, Mapping[int, Record]]
    """The scored cells, by seed."""
    troubles: tuple[Trouble, ...]
    options: Mapping[LossOnModel, Mapping[str, Any]]
    """The loss's options; for every cell with a record."""
    board: BoardKey
    must_match: Mapping[str, str | int | None]
    """What a paired comparison needs to be equal on both sides, by name; None where it is not known."""
    checkpoints: Mapping[str, str]
    """The start checkpoint's fingerprint, by model."""

    def misfit_of(self, noise: NoiseFloor, metric: str, seeds: int | None) -> str:
        """Return why a noise floor cannot be used for runs like this; empty where it can."""
        fingerprint = self.must_match["dataset fingerprint"]
        return noise.unfit_for(
            dataset_fingerprint=None if fingerprint is None else str(fingerprint),
            settings=self.board,
            metric=metric,
            seeds=seeds,
        )


def read_side(folder: Path) -> Side:
    """Return the losses of a run folder.

    Raises `HarnessError` for a folder that is no run, and for records that may not stand in one table.
    """
    records = [record for record in read_records(folder) if record.kind == "loss"]
    scored: dict[LossOnModel, dict[int, Record]] = {}
    troubles: dict[tuple[LossOnModel, int], Trouble] = {}
    options: dict[LossOnModel, Mapping[str, Any]] = {}
    for record in records:
        assert record.seed is not None, "a record of a loss has a seed"
        cell, seed = LossOnModel(record.model.name, record.label), record.seed
        if seed in scored.get(cell, {}) or (cell, seed) in troubles:
            raise HarnessError(
                f"{folder}: got two records of {cell.label} on {cell.model}, seed {seed}, expected one; delete the one "
                "that is stale"
            )
        options[cell] = record.loss.options
        if record.scored:
            scored.setdefault(cell, {})[seed] = record
        else:
            reason = record.reason or "no reason given"
            troubles[cell, seed] = Trouble(cell=cell, seed=seed, status=record.status, reason=reason)
    for label, model, seed in known_manifest(folder).cells:
        cell = LossOnModel(model, label)
        if seed not in scored.get(cell, {}) and (cell, seed) not in troubles:
            troubles[cell, seed] = Trouble(cell=cell, seed=seed, status="missing", reason="asked for and not done")
    board = only(records, "board", lambda record: record.board) or BoardKey()
    return Side(
        folder=folder,
        records={cell: dict(sorted(scored[cell].items())) for cell in sorted(scored)},
        troubles=tuple(troubles[key] for key in sorted(troubles)),
        options=options,
        board=board,
        must_match=_must_match(records, board),
        checkpoints={record.model.name: record.model.fingerprint for record in records if record.model.fingerprint},
    )


def check_pairable(base: Side, new: Side) -> None:
    """Raise `HarnessError` naming everything that keeps the two sides from being paired."""
    differing = [
        f"{name} {base_value!r} in {base.folder} and {new_value!r} in {new.folder}"
        for name, base_value in base.must_match.items()
        if None not in (base_value, new_value := new.must_match.get(name)) and base_value != new_value
    ]
    if differing:
        raise HarnessError(
            f"the runs cannot be paired: got {'; '.join(differing)}; expected the same on both sides; repeat one of "
            "them as the other was made, or make a new baseline"
        )


@dataclass(frozen=True, kw_only=True)
class Values:
    """One metric of one cell: the values whose mean it is, in an order that only the keys decide."""

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

    per_seed: list[Values] = []
    for record in records:
        rows, keys = _sorted(record, record.rows(), PAIR_KEYS)
        scores = _numbers(rows, PAIR_SCORES)
        responses = pd.DataFrame(columns=list(RESPONSE_COLUMNS))
        if is_of_responses(metric):
            responses, keys = _sorted(record, record.responses(), ("split", *RESPONSE_KEYS))
            scores = _numbers(responses, RESPONSE_SCORES)
        of_metric = examples(rows, responses, record.averaged)[metric]
        per_seed.append(
            Values(
                keys=keys,
                prompt=of_metric.prompt.astype(str).astype(object),
                value=of_metric.value[None],
                scores=scores[None],
            )
        )
        check_same_keys(per_seed[0], per_seed[-1], str(records[0].folder), str(record.folder))
    return Values(
        keys=per_seed[0].keys,
        prompt=per_seed[0].prompt,
        value=np.concatenate([values.value for values in per_seed]),
        scores=np.concatenate([values.scores for values in per_seed]),
    )


def check_same_keys(values: Values, others: Values, name: str, other_name: str) -> None:
    """Raise `HarnessError` naming pairs that only one of two cells has."""
    if np.array_equal(values.keys, others.keys) and np.array_equal(values.prompt, others.prompt):
        return
    left, right = set(values.keys), set(others.keys)
    only = [f"{len(extra)} only in {where} ({_some(extra)})" for extra, where in ((left - right, name),
            (right - left, other_name)) if extra]  # fmt: skip
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


def _must_match(records: Sequence[Record], board: BoardKey) -> dict[str, str | int | None]:
    scored = [record for record in records if record.scored]
    by_model = {
        f"tokens fingerprint of {model}": only(
            [record for record in scored if record.model.name == model],
            "tokens_fingerprint",
            lambda record: record.tokens_fingerprint,
        )
        for model in sorted({record.model.name for record in scored})
    }
    return {
        "protocol": only(records, "protocol", lambda record: record.protocol),
        "dataset fingerprint": only(records, "dataset.fingerprint", lambda record: record.dataset.fingerprint),
        "preset": board.preset or only(records, "model.preset", lambda record: record.model.preset),
        "evaluated split": board.evaluated_on,
        **by_model,
    }
