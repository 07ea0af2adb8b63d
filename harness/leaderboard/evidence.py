"""Records -> per-example values of every metric over the examples that all of them have, and intervals from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.calibration import Bin, reliability
from harness.metrics import (
    LENBALANCED,
    METRICS,
    PAIRS_READ,
    RESPONSES_READ,
    YARDSTICKS,
    Examples,
    examples,
    gap_edges,
)
from harness.stats import (
    Comparison,
    Floats,
    acceleration,
    cluster_sums,
    compare,
    interval,
    numbered,
    p_best,
    resample_counts,
    resampled_means,
    standard_errors,
    t_interval,
)
from harness.store import RESPONSES, ROWS, Columns, Record

NAN = float("nan")
PAIR_KEYS, RESPONSE_KEYS = ("split", "pair_id"), ("split", "prompt_id", "response_id")


class Unit(NamedTuple):
    """One scored cell; `seed` is None for a reference system, which has none and stands for every seed."""

    label: str
    model: str
    seed: int | None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its 95 % interval and the examples it is the mean of."""

    value: float = NAN
    low: float = NAN
    high: float = NAN
    n: int = 0


@dataclass(frozen=True, kw_only=True)
class Values:
    """One metric: the values of the units that have it, over the same examples."""

    prompt: NDArray[np.int64]
    """(n,) the prompt of each example, counted from 0."""
    n_prompts: int
    units: Mapping[Unit, Floats]
    """(n,) each."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What the scored cells of a board have in common."""

    values: Mapping[str, Values]
    """By metric."""
    n_pairs: int
    n_prompts: int
    pairs: int
    """Pairs of the main split that any cell has."""
    left_out: Mapping[str, int]
    """Pairs and responses that some cell has no score for, by kind; kinds without any are absent."""
    gap_edges: tuple[float, ...] = ()
    """The three score gaps that part the quartiles of the gap metrics; empty where no gap is known."""


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """How the intervals are made."""

    resamples: int
    seed: int


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


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One metric for the systems of a board that have it, as estimated and as resampled."""

    labels: tuple[str, ...]
    per_seed: Floats
    """(S, K)"""
    resampled: Floats
    """(R, K): their mean over seeds and models in each resample of prompts."""
    sums: Floats
    """(K, P): the same mean's sum over each prompt's examples."""
    sizes: Floats
    """(K, P): examples of each prompt."""
    n: int
    n_prompts: int


def sample(
    values: Values, labels: Sequence[str], models: Sequence[str], seeds: Sequence[int], resampling: Resampling
) -> Sample:
    """Return a metric for those of the systems `labels` that have it for every model and seed.

    A value is the mean over models, each weighing the same. Reference systems stand for every seed.
    """
    found = {label: _of_system(values, label, models, seeds) for label in labels}
    had = {label: each.mean(1) for label, each in found.items() if each is not None}  # (S, n)
    if not had:
        return Sample(
            labels=(),
            per_seed=np.empty((len(seeds), 0)),
            resampled=np.empty((resampling.resamples, 0)),
            sums=np.empty((0, 0)),
            sizes=np.empty((0, 0)),
            n=0,
            n_prompts=0,
        )
    per_seed_KSn = np.array(list(had.values()))
    sums, sizes = cluster_sums(values.prompt, per_seed_KSn.mean(1), values.n_prompts)
    counts = _counts(values.n_prompts, resampling.resamples, resampling.seed)
    return Sample(
        labels=tuple(had),
        per_seed=per_seed_KSn.mean(-1).T,
        resampled=resampled_means(counts, sums, sizes),
        sums=sums,
        sizes=sizes,
        n=len(values.prompt),
        n_prompts=values.n_prompts,
    )


def estimates(one: Sample) -> dict[str, Estimate]:
    """Return the estimate of each system: BCa interval for one seed, Student's t for several.

    To 10 significant digits: the rest depends on the chip, and every rendering is to round the same number.
    """
    value, low, high = ([float(f"{number:.10g}") for number in numbers] for numbers in _intervals(one))
    return {
        label: Estimate(value=value[k], low=low[k], high=high[k], n=one.n)
        for k, label in enumerate(one.labels)
    }


def differences(one: Sample, to: str) -> dict[str, Estimate]:
    """Return each system's paired difference to the system `to`; empty where that one lacks the metric."""
    if to not in one.labels:
        return {}
    base = [one.labels.index(to)]
    return estimates(
        replace(
            one,
            per_seed=one.per_seed - one.per_seed[:, base],
            resampled=one.resampled - one.resampled[:, base],
            sums=one.sums - one.sums[base],
        )
    )


def only_systems(one: Sample, labels: Sequence[str]) -> Sample:
    """Return the sample of these systems, in this order."""
    columns = [one.labels.index(label) for label in labels]
    return replace(
        one,
        labels=tuple(labels),
        per_seed=one.per_seed[:, columns],
        resampled=one.resampled.T[columns].T,
        sums=one.sums[columns],
        sizes=one.sizes[columns],
    )


def comparison(one: Sample, resampling: Resampling) -> Comparison:
    """Return every pair of systems compared on the metric."""
    return compare(one.per_seed, one.resampled, one.n_prompts, resampling.seed)


def chances(one: Sample, resampling: Resampling) -> dict[str, float]:
    """Return how often each of the systems is the best of them over the resamples."""
    shares = p_best(one.per_seed, one.resampled, one.n_prompts, resampling.seed)
    return dict(zip(one.labels, shares.tolist(), strict=True))


def reliability_of(margins: Values, label: str, models: Sequence[str], seeds: Sequence[int]) -> tuple[Bin, ...]:
    """Return a system's reliability bins over all its seeds and models; none where it lacks the `margin` in one."""
    found = _of_system(margins, label, models, seeds)
    if found is None:
        return ()
    return reliability(np.tile(margins.prompt, found.shape[0] * found.shape[1]), found.ravel(), margins.n_prompts)


def _of_system(values: Values, label: str, models: Sequence[str], seeds: Sequence[int]) -> Floats | None:
    """Return a system's values, (S, models, n), reference systems repeated for every seed; None where one lacks."""
    found = [
        [values.units.get(Unit(label, model, seed), values.units.get(Unit(label, model, None))) for model in models]
        for seed in seeds
    ]
    if any(value is None for of_seed in found for value in of_seed):
        return None
    return np.array(found, dtype=np.float64)


def yardstick(metric: str, name: str) -> str:
    """Return the metric `metric` under the yardstick `name`; accuracy where it has no such form."""
    stem = metric.partition("@")[0]
    assert name in YARDSTICKS, name
    return f"{stem}@{name}" if f"{stem}@{name}" in METRICS else f"pairwise_accuracy@{name}"


def _intervals(one: Sample) -> tuple[Floats, Floats, Floats]:
    value = one.per_seed.mean(0)
    if one.n_prompts < 2 or not len(value):  # one prompt has no spread to read an interval from
        return value, np.full(value.shape, np.nan), np.full(value.shape, np.nan)
    if len(one.per_seed) > 1:
        return value, *t_interval(value, *standard_errors(one.per_seed, one.resampled.var(0), one.n_prompts))
    low, high = interval(one.resampled, value, 0.95, "bca", acceleration(one.sums, one.sizes), one.n_prompts)
    bare = ~np.isfinite([low, high]).all(0)  # without spread there is nothing to correct
    if bare.any():
        low[bare], high[bare] = interval(one.resampled.T[bare].T, value[bare], n_prompts=one.n_prompts)
    return value, low, high


@lru_cache(maxsize=8)
def _counts(n_prompts: int, resamples: int, seed: int) -> NDArray[np.uint16]:
    return resample_counts(n_prompts, resamples, seed)
