"""Quality against distance from the start checkpoint: the points of every run, the curves through them, who is ahead.

Legend of shapes: S training seeds, K losses, F points along a run, P prompts (the clusters).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from harness.leaderboard.decide.answer_tables import AnswerEvidence
from harness.leaderboard.decide.answers import Asking
from harness.leaderboard.decide.estimates import (
    BASE,
    Estimate,
    Evidence,
    Sample,
    Unit,
    Values,
    differences,
    only_systems,
)
from harness.leaderboard.decide.learned import LEARNED, UNTRAINED
from harness.leaderboard.decide.standings import Standing, family
from harness.statistics.answer_metrics import KL, RATING, WIN_RATE
from harness.statistics.estimate_interval import estimate_interval
from harness.statistics.frontier import DISTANCES, Fit, Sums, at_distance, fits
from harness.statistics.intervals import Floats, cluster_sums, means, resample_counts, resampled_means


@dataclass(frozen=True, kw_only=True)
class FrontierPoint:
    """One loss with one seed at one point along its run."""

    label: str
    seed: int
    fraction: float
    """Of the budget."""
    kl: Estimate
    """Nats, to the start checkpoint on own samples."""
    gain: Estimate
    """Over the start checkpoint."""


@dataclass(frozen=True, kw_only=True)
class Dominated:
    """A loss that another one leaves behind at the end of the budget: more quality at less KL."""

    label: str
    by: str
    shown: bool
    """Both differences have an interval on one side of 0."""


@dataclass(frozen=True, kw_only=True)
class Frontier:
    """One kind of quality against sqrt(KL)."""

    quality: str
    """`rating@JUDGE` and `win_rate@JUDGE` of the answers, or the accuracy of what was learned."""
    points: tuple[FrontierPoint, ...]
    fits: Mapping[str, tuple[Fit, ...]]
    """By label: the two forms; of a loss with at least three points."""
    at: Mapping[float, Mapping[str, Estimate]]
    """The gain of each loss by KL in nats, of those whose data reach so far."""
    places: Mapping[float, Mapping[str, Standing]]
    """Rank, rank range and tier at each KL; each is a family of comparisons of its own."""
    dominated: tuple[Dominated, ...]


def frontiers(
    answers: Mapping[float, AnswerEvidence], evidence: Mapping[float, Evidence], asking: Asking
) -> tuple[Frontier, ...]:
    """Return the frontiers of the board of one model, whose answers there are; nothing where KL is not known.

    `answers`, `evidence`: by fraction of the budget, 1 being the end.
    """
    fractions = sorted(answers)
    kl = {at: answers[at].values.get(KL) for at in fractions}
    end = answers[1.0]
    gains: dict[str, dict[float, Values]] = {}
    for judge in end.judges:
        rating, win_rate = f"{RATING}@{judge}", f"{WIN_RATE}@{judge}"
        if end.values[rating].units:
            gains[rating] = {at: _over_base(of.values[rating]) for at, of in answers.items() if rating in of.values}
        else:
            gains[win_rate] = {at: _above(of.scores[judge], 0.5) for at, of in answers.items() if judge in of.scores}
    gains[LEARNED] = {at: _above(of.values[LEARNED], UNTRAINED) for at, of in evidence.items() if LEARNED in of.values}
    found = [_frontier(name, kl, of, fractions, asking) for name, of in gains.items()]
    return tuple(frontier for frontier in found if frontier is not None)


def _above(values: Values, by: float) -> Values:
    return replace(values, units={unit: of - by for unit, of in values.units.items()})


def _over_base(values: Values) -> Values:
    """Return what each unit has more than the base of its model; nothing where that has no value."""
    bases = {unit.model: of for unit, of in values.units.items() if unit.label == BASE}
    trained = {unit: of for unit, of in values.units.items() if unit.seed is not None and unit.model in bases}
    return replace(values, units={unit: of - bases[unit.model] for unit, of in trained.items()})


def _frontier(
    quality: str,
    kl: Mapping[float, Values | None],
    gain: Mapping[float, Values],
    fractions: Sequence[float],
    asking: Asking,
) -> Frontier | None:
    """Return the frontier of one quality over the losses that have all points; None where there is none."""
    (model,) = asking.models
    by_kl = [kl[at] for at in fractions]
    by_gain = [gain.get(at) for at in fractions]
    known = [of for of in (*by_kl, *by_gain) if of is not None]
    if len(known) < 2 * len(fractions):
        return None
    labels = [
        label
        for label in asking.losses
        if all(Unit(label, model, seed) in of.units for seed in asking.seeds for of in known)
    ]
    if not labels:
        return None
    names = sorted({name for of in known for name in of.names})
    half = len(fractions)
    sums = [_sums(known[start : start + half], labels, model, asking.seeds, names) for start in (0, half)]
    at, places = _at_distances(quality, sums[0], sums[1], labels, asking)
    points = _points(sums[0], sums[1], labels, fractions, asking)
    return Frontier(
        quality=quality,
        points=points,
        fits={label: made for label in labels if (made := _fits(points, label))},
        at=at,
        places=places,
        dominated=_dominated(sums[0], sums[1], labels, asking),
    )


def _sums(
    by_point: Sequence[Values], labels: Sequence[str], model: str, seeds: Sequence[int], names: Sequence[str]
) -> Sums:
    """Return what the examples of each prompt sum to, and how many there are, (S, K, F, P)."""
    number = {name: p for p, name in enumerate(names)}
    sums, sizes = np.zeros((2, len(seeds), len(labels), len(by_point), len(names)))
    for f, values in enumerate(by_point):
        where = np.array([number[name] for name in values.names], dtype=np.int64)
        for s, seed in enumerate(seeds):
            for k, label in enumerate(labels):
                own, many = cluster_sums(values.prompt, values.units[Unit(label, model, seed)], values.n_prompts)
                sums[s, k, f, where], sizes[s, k, f, where] = own, many
    return Sums(sums=sums, sizes=sizes)


def _points(
    kl: Sums, gain: Sums, labels: Sequence[str], fractions: Sequence[float], asking: Asking
) -> tuple[FrontierPoint, ...]:
    kls, gains = _each(kl, asking), _each(gain, asking)
    return tuple(
        FrontierPoint(label=label, seed=seed, fraction=fraction, kl=kls[s][k][f], gain=gains[s][k][f])
        for k, label in enumerate(labels)
        for s, seed in enumerate(asking.seeds)
        for f, fraction in enumerate(fractions)
    )


def _each(of: Sums, asking: Asking) -> list[list[list[Estimate]]]:
    """Return the estimate of each point, with its interval over prompts."""
    shape, prompts = of.sums.shape[:3], of.sums.shape[3]
    sums, sizes = of.sums.reshape(-1, prompts), of.sizes.reshape(-1, prompts)
    drawn = _drawn(sums, sizes, asking)
    value = means(sums, sizes)
    low, high = estimate_interval("mean", value[None], sums, sizes, drawn)
    made = [_estimate(value[x], low[x], high[x], int(sizes[x].sum())) for x in range(len(sums))]
    return [
        [made[(s * shape[1] + k) * shape[2] : (s * shape[1] + k + 1) * shape[2]] for k in range(shape[1])]
        for s in range(shape[0])
    ]


def _drawn(sums: Floats, sizes: Floats, asking: Asking) -> Floats:
    counts = resample_counts(sums.shape[1], asking.resampling.resamples, asking.resampling.seed)
    return resampled_means(counts, sums, sizes)


def _estimate(value: float, low: float, high: float, n: int) -> Estimate:
    return Estimate(value=float(f"{value:.10g}"), low=float(f"{low:.10g}"), high=float(f"{high:.10g}"), n=n)


def _fits(points: Sequence[FrontierPoint], label: str) -> tuple[Fit, ...]:
    own = [point for point in points if point.label == label]
    distance = np.sqrt(np.maximum([point.kl.value for point in own], 0.0))
    return fits(distance, np.array([point.gain.value for point in own]))


def _at_distances(
    quality: str, kl: Sums, gain: Sums, labels: Sequence[str], asking: Asking
) -> tuple[dict[float, dict[str, Estimate]], dict[float, Mapping[str, Standing]]]:
    """Return gain and place of each loss at each of `DISTANCES`."""
    found: dict[float, dict[str, Estimate]] = {}
    places: dict[float, Mapping[str, Standing]] = {}
    for target in DISTANCES:
        there = at_distance(kl, gain, target, asking.resampling.resamples, asking.resampling.seed)
        values = there.per_seed.mean(0)
        found[target] = {
            label: _estimate(values[k], there.low[k], there.high[k], there.sums.shape[1])
            for k, label in enumerate(labels)
            if np.isfinite(values[k])
        }
        if found[target]:
            whole = _sample(labels, there.per_seed, there.sums, there.sizes, there.resampled)
            drawn = {quality: only_systems(whole, list(found[target]))}
            places[target] = family(quality, labels, drawn, {quality: found[target]}, asking.resampling).standings
    return found, places


def _sample(labels: Sequence[str], per_seed: Floats, sums: Floats, sizes: Floats, resampled: Floats) -> Sample:
    prompts = sums.shape[1]
    return Sample(
        labels=tuple(labels),
        per_seed=per_seed,
        resampled=resampled,
        sums=sums,
        sizes=sizes,
        n=prompts,
        n_prompts=prompts,
        kind="mean",
    )


def _dominated(kl: Sums, gain: Sums, labels: Sequence[str], asking: Asking) -> tuple[Dominated, ...]:
    """Return each loss that another one leaves behind at the end of the budget, and by which: that of most gain.

    Those of which it is shown go before others.
    """
    kls, gains = (_at_end(of, labels, asking) for of in (kl, gain))
    found = []
    for label in labels:
        nearer, better = differences(kls, label), differences(gains, label)
        ahead = [other for other in labels if nearer[other].value < 0 < better[other].value]
        shown = [other for other in ahead if nearer[other].high < 0 < better[other].low]
        if ahead:
            by = max(shown or ahead, key=lambda other: (better[other].value, other))
            found.append(Dominated(label=label, by=by, shown=bool(shown)))
    return tuple(found)


def _at_end(of: Sums, labels: Sequence[str], asking: Asking) -> Sample:
    """Return a quantity at the end of the budget as it is compared."""
    sums, sizes = of.sums[:, :, -1], of.sizes[:, :, -1]
    per_seed = np.array([means(sums[s], sizes[s]) for s in range(len(sums))])
    mean, size = sums.mean(0), sizes[0]
    return _sample(labels, per_seed, mean, size, _drawn(mean, size, asking))
