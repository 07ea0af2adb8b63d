"""Records -> evidence: per-example values of every metric over the pairs and responses that all cells have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.leaderboard.decide.estimates import Evidence, Unit, Values
from harness.run_folder.paths import RESPONSES, ROWS
from harness.run_folder.record import Record
from harness.run_folder.tables import Columns
from harness.statistics.intervals import numbered
from harness.statistics.metrics import LENBALANCED, METRICS, PAIRS_READ, RESPONSES_READ, Examples, examples, gap_edges

PAIR_KEYS, RESPONSE_KEYS = ("split", "pair_id"), ("split", "prompt_id", "response_id")


def gather(records: Mapping[Unit, Record]) -> Evidence:
    """Return the evidence of scored cells: every metric over the pairs and responses scored in all of them."""
    if not records:
        return Evidence(values={}, n_pairs=0, n_prompts=0, pairs=0, left_out={})
    rows, lost_rows = _in_common(
        [record.columns(ROWS, {*PAIRS_READ, *PAIR_KEYS}) for record in records.values()],
        PAIR_KEYS,
        (("reward_chosen", "reward_rejected"), ("chosen_sum_logp", "rejected_sum_logp")),
    )
    responses, lost_responses = _in_common(
        [record.columns(RESPONSES, {*RESPONSES_READ, *RESPONSE_KEYS}) for record in records.values()],
        RESPONSE_KEYS,
        (("reward",), ("sum_logp",)),
    )
    edges = gap_edges(rows[0])
    found = [examples(*tables, edges) for tables in zip(rows, responses, strict=True)]
    main = rows[0]["split"] != LENBALANCED
    balanced = lost_rows.count(LENBALANCED)
    left_out = {"pairs": len(lost_rows) - balanced, "length-balanced pairs": balanced, "responses": len(lost_responses)}
    return Evidence(
        values={name: _shared(list(records), [each[name] for each in found]) for name in METRICS},
        n_pairs=int(main.sum()),
        n_prompts=len(set(rows[0]["prompt_id"][main].tolist())),
        pairs=int(main.sum()) + left_out["pairs"],
        left_out={kind: number for kind, number in left_out.items() if number},
        gap_edges=tuple(edges.tolist()) if np.isfinite(edges).all() else (),
    )


def _in_common(
    tables: Sequence[Columns], keys: tuple[str, ...], scores: Sequence[tuple[str, ...]]
) -> tuple[list[Columns], list[str]]:
    """Return the tables cut to the keys that are scored in all, in one order, and the split of each key left out.

    A table that has none of a kind of score (the untrained base has no reward of its own) is not asked for it. The
    first of `keys` is the split.
    """
    names = [list(zip(*(table[key].tolist() for key in keys), strict=True)) for table in tables]
    union = sorted(set(names[0]).union(*(each for each in names if each != names[0])))
    common = np.ones(len(union), bool)
    aligned: list[tuple[Columns, NDArray[np.int64]]] = []
    for k, (table, name) in enumerate(zip(tables, names, strict=True)):
        if k and name == names[k - 1]:
            places = aligned[-1][1]
        else:
            index = {key: place for place, key in enumerate(name)}
            places = np.array([index.get(key, -1) for key in union], dtype=np.int64)
        common &= places >= 0
        for columns in scores:
            scored = np.all([np.isfinite(table[column]) for column in columns], axis=0)
            if scored.any():
                common &= scored[places]
        aligned.append((table, places))
    return (
        [{name: values[places[common]] for name, values in table.items()} for table, places in aligned],
        [union[k][0] for k in np.flatnonzero(~common)],
    )


def _shared(units: Sequence[Unit], found: Sequence[Examples]) -> Values:
    """Return the values of the units that have the metric, over the examples that count in all of those."""
    finite = np.array([np.isfinite(each.value) for each in found])
    having: NDArray[np.bool_] = np.asarray(finite.any(1))
    kept = finite[having].all(0) & having.any()
    names, prompt = numbered(found[0].prompt[kept])
    return Values(
        prompt=prompt,
        n_prompts=len(names),
        units={
            unit: each.value[kept] for unit, each, has in zip(units, found, having, strict=True) if has and kept.any()
        },
    )
