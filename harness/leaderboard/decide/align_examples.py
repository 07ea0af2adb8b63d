"""Records -> evidence: per-example values of every metric over the pairs and responses that all cells have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.leaderboard.decide.estimates import Evidence, Unit, Values
from harness.leaderboard.decide.subsets import MOST, OF_NONE
from harness.run_folder.paths import RESPONSES, ROWS
from harness.run_folder.record import Record
from harness.run_folder.tables import PAIR_KEYS, RESPONSE_KEYS, SUBSET, Columns
from harness.statistics.intervals import numbered
from harness.statistics.metrics import (
    ACCURACIES,
    LENBALANCED,
    METRICS,
    PAIRS_READ,
    RESPONSES_READ,
    Examples,
    examples,
    gap_edges,
    main_split,
)


def _sorted_by(first: tuple[str, ...], identity: tuple[str, ...]) -> tuple[str, ...]:
    """Return the columns to sort by: `first`, then the rest of those that identify a row."""
    return (*first, *(name for name in identity if name not in first))


# What identifies an example is the tables' business; its place among the others is decided here. Sums of floats depend
# on the order of their terms, so in another order estimates and bootstrap intervals would have other last digits.
PAIR_ORDER = _sorted_by(("split", "pair_id"), PAIR_KEYS)
RESPONSE_ORDER = _sorted_by(("split",), RESPONSE_KEYS)


def gather(records: Mapping[Unit, Record]) -> Evidence:
    """Return the evidence of scored cells: every metric over the pairs and responses scored in all of them."""
    if not records:
        return Evidence(values={}, n_pairs=0, n_prompts=0, pairs=0, left_out={})
    rows, lost_rows = _in_common(
        [record.columns(ROWS, {*PAIRS_READ, *PAIR_ORDER, SUBSET}) for record in records.values()],
        PAIR_ORDER,
        (("reward_chosen", "reward_rejected"), ("chosen_sum_logp", "rejected_sum_logp")),
    )
    responses, lost_responses = _in_common(
        [record.columns(RESPONSES, {*RESPONSES_READ, *RESPONSE_ORDER}) for record in records.values()],
        RESPONSE_ORDER,
        (("reward",), ("sum_logp",)),
    )
    edges = gap_edges(rows[0])  # the same for every cell: gaps come from the data, and all have the same rows by now
    per_cell = [
        examples(of_pairs, of_responses, record.averaged, edges)
        for record, of_pairs, of_responses in zip(records.values(), rows, responses, strict=True)
    ]
    main = rows[0]["split"] != LENBALANCED
    subset = _subsets(rows[0])
    balanced = lost_rows.count(LENBALANCED)
    left_out = {"pairs": len(lost_rows) - balanced, "length-balanced pairs": balanced, "responses": len(lost_responses)}
    return Evidence(
        values={name: shared(list(records), [metrics[name] for metrics in per_cell]) for name in METRICS},
        n_pairs=int(main.sum()),
        n_prompts=len(set(rows[0]["prompt_id"][main].tolist())),
        pairs=int(main.sum()) + left_out["pairs"],
        left_out={kind: number for kind, number in left_out.items() if number},
        gap_edges=tuple(edges.tolist()) if np.isfinite(edges).all() else (),
        subsets=_by_subset(subset, list(records), per_cell),
        subset_pairs={name: int((subset == name).sum()) for name in _in_order(subset)},
    )


def gather_points(records: Mapping[Unit, Record]) -> dict[float, Evidence]:
    """Return the evidence at each point along the run before its end, by the fraction of the budget."""
    return {fraction: gather(there) for fraction, there in at_points(records).items()}


def at_points(records: Mapping[Unit, Record]) -> dict[float, dict[Unit, Record]]:
    """Return the records as they are at each point along the run before its end, by the fraction of the budget.

    Of the cells that have the point, and of the baseline rows, which stand for every point.
    """
    found = {}
    for fraction in sorted({point.fraction for record in records.values() for point in record.points} - {1.0}):
        there = {
            unit: record.at(point)
            for unit, record in records.items()
            for point in record.points
            if point.fraction == fraction
        }
        baselines = {unit: record for unit, record in records.items() if unit.seed is None}
        found[fraction] = {unit: (there | baselines)[unit] for unit in records if unit in there | baselines}
    return found


def _subsets(rows: Columns) -> NDArray[np.object_]:
    """Return the subset of each pair of the main split; nothing where no pair has one."""
    names = np.array(main_split(rows).get(SUBSET, ()), dtype=object)
    return np.where(names == "", OF_NONE, names) if any(names) else names[:0]


def _in_order(subset: NDArray[np.object_]) -> list[str]:
    """Return the subsets there are in alphabetical order, pairs of none last."""
    return sorted(set(subset), key=lambda name: (name == OF_NONE, name))


def _by_subset(
    subset: NDArray[np.object_], units: Sequence[Unit], per_cell: Sequence[Mapping[str, Examples]]
) -> dict[str, dict[str, Values]]:
    """Return the accuracies over the pairs of each subset; nothing where there are too many to list."""

    def of(name: str, metric: str) -> Values:
        rows = subset == name
        found = [examples[metric] for examples in per_cell]
        return shared(units, [Examples(prompt=each.prompt[rows], value=each.value[rows]) for each in found])

    names = _in_order(subset)
    if len(names) > MOST:
        return {}
    return {name: {metric: of(name, metric) for metric in ACCURACIES} for name in names}


def _in_common(
    tables: Sequence[Columns], order: tuple[str, ...], scores: Sequence[tuple[str, ...]]
) -> tuple[list[Columns], list[str]]:
    """Return the tables cut to the rows that are scored in all, in one order, and the split of each row left out.

    `order`: the columns to sort by, which identify a row too; the first is the split. `scores`: kinds of score, each
    the columns that must all be finite for a row to be scored.
    """
    keys_of = [list(zip(*(table[name].tolist() for name in order), strict=True)) for table in tables]
    # most tables have the same rows in the same order; skipping those spares a set of all keys for each of them
    union = sorted(set(keys_of[0]).union(*(keys for keys in keys_of if keys != keys_of[0])))
    common = np.ones(len(union), bool)
    aligned: list[tuple[Columns, NDArray[np.int64]]] = []
    for k, (table, keys) in enumerate(zip(tables, keys_of, strict=True)):
        if k and keys == keys_of[k - 1]:  # and here a dictionary of all keys
            places = aligned[-1][1]
        else:
            place_of = {key: place for place, key in enumerate(keys)}
            places = np.array([place_of.get(key, -1) for key in union], dtype=np.int64)  # -1: not in this table
        common &= places >= 0
        for columns in scores:
            scored = np.all([np.isfinite(table[column]) for column in columns], axis=0)
            # a table with no score of a kind is not asked for it, or no row would be left: the untrained base has no
            # reward of its own, and longer-wins has no log-probs
            if scored.any():
                common &= scored[places]  # -1 reads the last row here, where `common` is False already
        aligned.append((table, places))
    return (
        [{name: values[places[common]] for name, values in table.items()} for table, places in aligned],
        [union[k][0] for k in np.flatnonzero(~common)],
    )


def shared(units: Sequence[Unit], per_unit: Sequence[Examples]) -> Values:
    """Return the values of the units that have the metric, over the examples that count in all of those."""
    finite = np.array([np.isfinite(metric.value) for metric in per_unit])
    having: NDArray[np.bool_] = np.asarray(finite.any(1))
    kept = finite[having].all(0) & having.any()  # `all` over no unit is True: where none has the metric, keep nothing
    names, prompt = numbered(per_unit[0].prompt[kept])
    return Values(
        prompt=prompt,
        n_prompts=len(names),
        names=names,
        units={
            unit: metric.value[kept]
            for unit, metric, has in zip(units, per_unit, having, strict=True)
            if has and kept.any()
        },
    )
