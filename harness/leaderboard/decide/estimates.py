"""Per-example values of every metric -> estimates with intervals, and comparisons, from one resampling of prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.run_folder.record import BASELINES
from harness.statistics.calibration import Bin, reliability
from harness.statistics.estimate_interval import Kind, difference_of, estimate_interval
from harness.statistics.intervals import Floats, cluster_sums, resample_counts, resampled_means
from harness.statistics.metrics import METRICS, kind_of
from harness.statistics.pairwise_tests import PairwiseTests, compare
from harness.statistics.proportions import few_errors
from harness.statistics.yardsticks import READINGS

NAN = float("nan")
BASE = BASELINES[0]
OWN = "own"
"""The reading by each loss's own reward, beside `READINGS`."""


class Unit(NamedTuple):
    """One scored cell; `seed` is None for a baseline row, which has none and stands for every seed."""

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
    few: bool = False
    """Fewer than ten prompts have a wrong pair, or fewer than ten a right one; the interval rests on few. False where
    the metric is no share."""


@dataclass(frozen=True, kw_only=True)
class Values:
    """One metric: the values of the units that have it, over the same examples."""

    prompt: NDArray[np.int64]
    """(n,) the prompt of each example, counted from 0."""
    n_prompts: int
    units: Mapping[Unit, Floats]
    """(n,) for each unit."""
    names: Sequence[str] = ()
    """(n_prompts,): the id of each prompt."""
    kind: Kind | None = None
    """Which interval it has; None: that of the metric in `METRICS`."""


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
    subsets: Mapping[str, Mapping[str, Values]] = field(default_factory=dict)
    """Of each part that the data name, the accuracies; empty where they name none."""
    subset_pairs: Mapping[str, int] = field(default_factory=dict)
    """Pairs of each subset."""


@dataclass(frozen=True, kw_only=True)
class Resampling:
    """How the intervals are made."""

    resamples: int = 10_000
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class Reruns:
    """What training the systems of a one-seed board again would change, as measured elsewhere."""

    sd: Floats
    """(K,): the standard deviation of each system's value; 0 for what is not trained."""
    freedom: float
    """Its degrees of freedom."""


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
    kind: Kind
    """Which interval it has."""
    reruns: Reruns | None = None
    """Of one seed, where it was measured."""


def samples(
    metrics: Mapping[str, Values],
    labels: Sequence[str],
    models: Sequence[str],
    seeds: Sequence[int],
    resampling: Resampling,
) -> dict[str, Sample]:
    """Return the sample of each metric, by name: of those systems of `labels` that have it for every model and seed.

    A value is the mean over models, each weighing the same. Baseline rows stand for every seed. Metrics with as many
    prompts are resampled together, in one matrix product.
    """
    by_metric = {name: unresampled(name, values, labels, models, seeds) for name, values in metrics.items()}
    for n_prompts in sorted({sample.n_prompts for sample in by_metric.values() if sample.labels}):
        names = [name for name, sample in by_metric.items() if sample.labels and sample.n_prompts == n_prompts]
        drawn = resampled_means(
            resample_counts(n_prompts, resampling.resamples, resampling.seed),
            np.concatenate([by_metric[name].sums for name in names]),
            np.concatenate([by_metric[name].sizes for name in names]),
        )
        start = 0
        for name in names:
            end = start + len(by_metric[name].labels)
            by_metric[name] = replace(by_metric[name], resampled=drawn[:, start:end])
            start = end
    return by_metric


def unresampled(
    metric: str, values: Values, labels: Sequence[str], models: Sequence[str], seeds: Sequence[int]
) -> Sample:
    """Return the sample of a metric before its prompts are resampled."""
    kind = values.kind or kind_of(metric)
    per_label = {label: _of_system(values, label, models, seeds) for label in labels}
    having = {label: own.mean(1) for label, own in per_label.items() if own is not None}  # (S, n)
    if not having:
        none = np.empty((0, 0))
        return Sample(
            labels=(),
            per_seed=np.empty((len(seeds), 0)),
            resampled=none,
            sums=none,
            sizes=none,
            n=0,
            n_prompts=0,
            kind=kind,
        )
    per_seed_KSn = np.array(list(having.values()))
    sums, sizes = cluster_sums(values.prompt, per_seed_KSn.mean(1), values.n_prompts)
    return Sample(
        labels=tuple(having),
        per_seed=per_seed_KSn.mean(-1).T,
        resampled=np.empty((0, len(having))),
        sums=sums,
        sizes=sizes,
        n=len(values.prompt),
        n_prompts=values.n_prompts,
        kind=kind,
    )


def estimates(sample: Sample) -> dict[str, Estimate]:
    """Return the estimate of each system, with the interval of its kind: see `estimate_interval`.

    To 10 significant digits: the rest depends on the chip, and every rendering must round the same number.
    """
    extra = None
    if sample.reruns is not None:
        extra = sample.reruns.sd, np.full_like(sample.reruns.sd, sample.reruns.freedom)
    ends = estimate_interval(sample.kind, sample.per_seed, sample.sums, sample.sizes, sample.resampled, extra)
    value, low, high = ([float(f"{number:.10g}") for number in numbers] for numbers in (sample.per_seed.mean(0), *ends))
    few = few_errors(sample.sums, sample.sizes) if sample.kind == "proportion" else np.zeros(len(value), bool)
    return {
        label: Estimate(value=value[k], low=low[k], high=high[k], n=sample.n, few=bool(few[k]))
        for k, label in enumerate(sample.labels)
    }


def board_estimates(metric: str, sample: Sample) -> dict[str, Estimate]:
    """Return the estimate of each system; the base relative to itself is 0.5 by definition and has no interval."""
    found = estimates(sample)
    if BASE in found and metric.partition("@")[2] in ("learned", "ratio", "ratio_mean"):
        found[BASE] = Estimate(value=found[BASE].value, n=found[BASE].n)
    return found


def differences(sample: Sample, to: str) -> dict[str, Estimate]:
    """Return each system's paired difference to the system `to`, 0 for itself; empty where `to` lacks the metric."""
    if to not in sample.labels:
        return {}
    base = [sample.labels.index(to)]
    apart = estimates(
        replace(
            sample,
            per_seed=sample.per_seed - sample.per_seed[:, base],
            resampled=sample.resampled - sample.resampled[:, base],
            sums=sample.sums - sample.sums[base],
            reruns=_of_differences(sample.reruns, base[0]),
            kind=difference_of(sample.kind),
        )
    )
    itself = 0.0 if sample.n_prompts > 1 else NAN
    return apart | {to: replace(apart[to], low=itself, high=itself)}


def only_systems(sample: Sample, labels: Sequence[str]) -> Sample:
    """Return the sample of these systems, in this order."""
    columns = [sample.labels.index(label) for label in labels]
    return replace(
        sample,
        labels=tuple(labels),
        per_seed=sample.per_seed[:, columns],
        resampled=sample.resampled.T[columns].T,
        sums=sample.sums[columns],
        sizes=sample.sizes[columns],
        reruns=sample.reruns and replace(sample.reruns, sd=sample.reruns.sd[columns]),
    )


def comparison(sample: Sample, resampling: Resampling) -> PairwiseTests:
    """Return every pair of systems compared on the metric."""
    reruns = sample.reruns
    return compare(
        sample.per_seed,
        sample.sums,
        sample.sizes,
        sample.resampled,
        resampling.seed,
        reruns=(reruns.sd, reruns.freedom) if reruns else None,
    )


def reliability_of(margins: Values, label: str, models: Sequence[str], seeds: Sequence[int]) -> tuple[Bin, ...]:
    """Return a system's reliability bins over all its seeds and models; none where it lacks the `margin` in one."""
    margins_SMn = _of_system(margins, label, models, seeds)
    if margins_SMn is None:
        return ()
    return reliability(
        np.tile(margins.prompt, margins_SMn.shape[0] * margins_SMn.shape[1]), margins_SMn.ravel(), margins.n_prompts
    )


def _of_system(values: Values, label: str, models: Sequence[str], seeds: Sequence[int]) -> Floats | None:
    """Return a system's values, (S, models, n), baseline rows repeated for every seed; None where a cell lacks them."""
    per_seed = [
        [values.units.get(Unit(label, model, seed), values.units.get(Unit(label, model, None))) for model in models]
        for seed in seeds
    ]
    if any(value is None for of_seed in per_seed for value in of_seed):
        return None
    return np.array(per_seed, dtype=np.float64)


def read_by(metric: str, reading: str) -> str:
    """Return the metric `metric` under a reading, `OWN` or one of `READINGS`; accuracy where it has no such form."""
    stem = metric.partition("@")[0]
    if reading == OWN:
        return stem
    assert reading in READINGS, reading
    return f"{stem}@{reading}" if f"{stem}@{reading}" in METRICS else f"pairwise_accuracy@{reading}"


def _of_differences(reruns: Reruns | None, to: int) -> Reruns | None:
    """Return what reruns change in the differences to system `to`; nothing in that to itself."""
    if reruns is None:
        return None
    sd = np.hypot(reruns.sd, reruns.sd[to])
    sd[to] = 0.0
    return replace(reruns, sd=sd)
