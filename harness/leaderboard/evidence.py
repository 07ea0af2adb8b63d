"""Records -> per-example values of every metric over the examples that all of them have, and intervals from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.calibration import Bin, reliability
from harness.metrics import LENBALANCED, METRICS, YARDSTICKS, Examples, examples, gap_edges
from harness.stats import (
    Comparison,
    Floats,
    acceleration,
    cluster_sums,
    compare,
    interval,
    p_best,
    resample_counts,
    resampled_means,
    standard_errors,
    t_interval,
)
from harness.store import Record

if TYPE_CHECKING:
    import pandas as pd

NAN = float("nan")


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
        [record.rows() for record in records.values()],
        ("split", "pair_id"),
        (("reward_chosen", "reward_rejected"), ("chosen_sum_logp", "rejected_sum_logp")),
    )
    responses, lost_responses = _in_common(
        [record.responses() for record in records.values()],
        ("split", "prompt_id", "response_id"),
        (("reward",), ("sum_logp",)),
    )
    edges = gap_edges(rows[0])
    found = [examples(*tables, edges) for tables in zip(rows, responses, strict=True)]
    main = rows[0]["split"] != LENBALANCED
    balanced = int((lost_rows == LENBALANCED).sum())
    left_out = {"pairs": len(lost_rows) - balanced, "length-balanced pairs": balanced, "responses": len(lost_responses)}
    return Evidence(
        values={name: _shared(list(records), [each[name] for each in found]) for name in METRICS},
        n_pairs=int(main.sum()),
        n_prompts=int(rows[0]["prompt_id"][main].nunique()),
        pairs=int(main.sum()) + left_out["pairs"],
        left_out={kind: number for kind, number in left_out.items() if number},
        gap_edges=tuple(edges.tolist()) if np.isfinite(edges).all() else (),
    )


def _in_common(
    tables: Sequence[pd.DataFrame], keys: tuple[str, ...], scores: Sequence[tuple[str, ...]]
) -> tuple[list[pd.DataFrame], pd.Series]:
    """Return the tables cut to the keys that are scored in all, in one order, and the split of each key left out.

    A table that has none of a kind of score (the untrained base has no reward of its own) is not asked for it.
    """
    import pandas as pd

    indices = [pd.MultiIndex.from_frame(table[list(keys)]) for table in tables]
    union = indices[0]
    for index in indices[1:]:
        if not index.equals(union):
            union = union.union(index, sort=False)
    union = union.sort_values()
    common = np.ones(len(union), bool)
    aligned = []
    for table, index in zip(tables, indices, strict=True):
        places = index.get_indexer(union)
        common &= places >= 0
        for columns in scores:
            scored = np.isfinite(table[list(columns)].to_numpy(np.float64, na_value=np.nan)).all(1)
            if scored.any():
                common &= scored[places]
        aligned.append((table, places))
    return [table.iloc[places[common]] for table, places in aligned], union.get_level_values(0)[~common].to_series()


def _shared(units: Sequence[Unit], found: Sequence[Examples]) -> Values:
    """Return the values of the units that have the metric, over the examples that count in all of those."""
    finite = np.array([np.isfinite(each.value) for each in found])
    having: NDArray[np.bool_] = np.asarray(finite.any(1))
    kept = finite[having].all(0) & having.any()
    names, prompt = np.unique(found[0].prompt[kept].astype(str), return_inverse=True)
    return Values(
        prompt=prompt.astype(np.int64),
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
    clusters = [cluster_sums(values.prompt, each, values.n_prompts) for each in per_seed_KSn.mean(1)]
    sums, sizes = np.array([each[0] for each in clusters]), np.array([each[1] for each in clusters])
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
    """Return the estimate of each system: BCa interval for one seed, Student's t for several."""
    value, low, high = _intervals(one)
    return {
        label: Estimate(value=float(value[k]), low=float(low[k]), high=float(high[k]), n=one.n)
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
        resampled=one.resampled[:, columns],
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
    ends = interval(one.resampled, value, n_prompts=one.n_prompts)
    corrected = interval(one.resampled, value, 0.95, "bca", acceleration(one.sums, one.sizes), one.n_prompts)
    usable = np.isfinite(corrected).all(0)  # without spread there is nothing to correct
    return value, np.where(usable, corrected[0], ends[0]), np.where(usable, corrected[1], ends[1])


@lru_cache(maxsize=8)
def _counts(n_prompts: int, resamples: int, seed: int) -> NDArray[np.uint16]:
    return resample_counts(n_prompts, resamples, seed)
