"""Whether the records of several runs may stand in one folder, and whether two results of one cell are the same."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from harness.api.errors import HarnessError
from harness.run_folder.board_key import differing
from harness.run_folder.record import Record, shared_facts
from harness.run_folder.tables import RESPONSE_KEYS

OF_THE_MACHINE: Mapping[str, tuple[str, ...]] = {
    "spend": ("seconds", "peak_memory_bytes", "reference_seconds", "reference_cached", "activations_recomputed"),
    "dataset": ("name", "source", "notes", "tested_on"),
    "scorer": ("version", "seconds", "parity_max_abs_nats", "note"),
    "elsewhere": ("checkpoint", "reference"),
    "generation": ("metrics",),
}
"""Parts of a record in which two machines may differ, where the same data lie too; so may `environment`, and what
follows from the tables."""
FOLLOWS = ("environment", "files", "metrics", "metric_reasons", "points")
NEARLY = {"float32": (1e-3, 1e-6)}
"""How far two machines' scores of the same start checkpoint may lie apart, in nats and in parts of the sum: in float32
as far as the canary allows two scorers, else half a percent."""
NEARLY_OTHERWISE = (0.1, 5e-3)


def check_alike(records: Mapping[str, Sequence[Record]]) -> None:
    """Raise `HarnessError` where runs differ in settings, data, tokens or start checkpoints."""
    boards = {name: {record.board for record in of_run} for name, of_run in records.items()}
    fullest = max(boards, key=lambda name: len(boards[name]))
    for name, keys in boards.items():
        for key in sorted(keys - boards[fullest], key=lambda board: board.canonical):
            other = min(boards[fullest], key=lambda board: board.canonical)
            apart = ", ".join(f"{setting} {mine!r} / {its!r}" for setting, (mine, its) in key.differing(other).items())
            raise HarnessError(
                f"the runs cannot be merged: got other settings in {name} than in {fullest}: {apart}; expected one "
                "board; merge runs of the same settings"
            )
    first: dict[tuple[Hashable, ...], tuple[str | None, str]] = {}
    for name, of_run in records.items():
        for record in of_run:
            for fact, scope, got in shared_facts(record):
                wanted, where = first.setdefault((fact, *scope), (got, name))
                if got != wanted:
                    of = f" of {record.model.name}" if scope else ""
                    raise HarnessError(
                        f"the runs cannot be merged: got {fact}{of} {got!r} in {name} and {wanted!r} in {where}; "
                        "expected the same; merge runs of the same data and start checkpoint"
                    )


def check_same_result(kept: Record, other: Record) -> float:
    """Raise `HarnessError` where two runs' results of a cell differ; return how far the start's scores lie apart."""
    apart_in = [f"{fact} {kept_value!r:.80} / {value!r:.80}" for fact, kept_value, value in _facts_apart(kept, other)]
    apart = 0.0
    if not apart_in and kept.scored:
        absolute, relative = (0.0, 0.0)
        if kept.kind != "loss":  # no training of its own, in which machines drift apart
            absolute, relative = NEARLY.get(str(kept.board.dtype), NEARLY_OTHERWISE)
        kept_table, table = (record.responses().set_index(list(RESPONSE_KEYS)).sort_index() for record in (kept, other))
        if not kept_table.index.equals(table.index):
            apart_in.append("other held-out responses")
        for column in () if apart_in else ("sum_logp", "ref_sum_logp", "reward"):
            left, right = kept_table[column].to_numpy(np.float64), table[column].to_numpy(np.float64)
            gap = np.where(np.isnan(left) & np.isnan(right), 0.0, np.abs(left - right))
            apart = max(apart, float(gap.max(initial=0.0)))
            off = ~(gap <= absolute + relative * np.nan_to_num(np.abs(left)))
            if off.any():
                apart_in.append(f"{column} of {off.sum()} of {len(gap)} responses, by up to {np.max(gap):.3g}")
    if apart_in:
        raise HarnessError(
            f"got two results of one cell that differ: {kept.folder} / {other.folder}: {'; '.join(apart_in)}; "
            "expected the same; delete the folder of the one that should not count"
        )
    return apart


def _facts_apart(kept: Record, other: Record) -> list[tuple[str, Any, Any]]:
    """Return the facts in which two records differ and that no machine decides."""
    return [(name, *values) for name, values in differing(_of_the_run(kept), _of_the_run(other)).items()]


def _of_the_run(record: Record) -> dict[str, Any]:
    """Return a record without what the machine decides and what follows from the tables."""
    facts = {name: value for name, value in record.as_json().items() if name not in FOLLOWS}
    for name, inner in OF_THE_MACHINE.items():
        if name not in facts:
            continue
        facts[name] = {key: value for key, value in facts[name].items() if key not in inner}
    if record.generation and record.generation.asked:  # the same prompts may lie elsewhere
        facts["generation"]["asked"] = record.generation.asked.fingerprint
    if record.local_model:  # another copy of the same model may lie elsewhere
        facts["model"] = {key: value for key, value in facts["model"].items() if key != "id"}
    return facts
