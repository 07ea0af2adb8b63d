"""The place of each loss under one metric: rank, the ranks that the comparisons leave open, tier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from harness.leaderboard.decide.estimates import (
    Estimate,
    Resampling,
    Sample,
    comparison,
    only_systems,
)
from harness.statistics.pairwise_tests import PairwiseTests, rank_ranges, tiers


@dataclass(frozen=True, kw_only=True)
class Standing:
    """The place of a system; baseline rows have none."""

    rank: int | None = None
    """1 + systems with a higher value; failed ones come behind these on a model's board, and else have none."""
    rank_low: int | None = None
    rank_high: int | None = None
    """The ranks that the comparisons leave open, low being best."""
    tier: int | None = None
    borderline: bool = False
    """The range depends on a comparison that lies within resampling error of 5 %; it is wide enough either way."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """The losses of a board compared under one metric."""

    order: tuple[str, ...] = ()
    """Those that have a value, best first."""
    standings: Mapping[str, Standing] = field(default_factory=dict)
    tests: PairwiseTests | None = None
    """Of the losses in `order`; None where there is none."""

    @property
    def borderline(self) -> tuple[tuple[str, str], ...]:
        """The pairs whose test is too close to call, the better one first."""
        if self.tests is None:
            return ()
        return tuple(
            (a, b)
            for i, a in enumerate(self.order)
            for j, b in enumerate(self.order)
            if i < j and self.tests.borderline[i, j]
        )


def family(
    metric: str,
    sound: Sequence[str],
    drawn: Mapping[str, Sample],
    measured: Mapping[str, Mapping[str, Estimate]],
    resampling: Resampling,
) -> Family:
    """Return rank, range and tier of the sound losses that have the metric, and the tests they come from."""
    values = {label: estimate.value for label, estimate in measured.get(metric, {}).items() if label in sound}
    order = sorted(values, key=lambda label: (-values[label], label))
    if not order:
        return Family()
    ranked = only_systems(drawn[metric], order)
    tests = comparison(ranked, resampling)
    low, high = rank_ranges(tests.better)
    tier = tiers(list(range(len(order))), tests.better)
    standings = {
        label: Standing(
            rank=_place(values, label),
            rank_low=low[k],
            rank_high=high[k],
            tier=tier[k],
            borderline=bool(tests.borderline[k].any()),
        )
        for k, label in enumerate(order)
    }
    return Family(order=tuple(order), standings=standings, tests=tests)


def p_values(of: Family) -> dict[str, dict[str, float]]:
    """Return the p-value of every pair of losses in both directions, adjusted for all pairs."""
    if of.tests is None:
        return {}
    return {a: dict(zip(of.order, map(float, p), strict=True)) for a, p in zip(of.order, of.tests.p, strict=True)}


def each_pair_once(of: Family) -> dict[str, dict[str, float]]:
    """Return the same p-values, each under the better of the two losses alone."""
    whole = p_values(of)
    return {
        label: {other: whole[label][other] for other in of.order[place + 1 :]}
        for place, label in enumerate(of.order[:-1])
    }


def last(labels: Sequence[str], ranked: int) -> dict[str, Standing]:
    """Return the places of systems without a result: behind all others, in no order among themselves.

    None has a place where nothing is ranked: what failed is never first.
    """
    if not ranked:
        return {}
    return {
        label: Standing(rank=ranked + place, rank_low=ranked + 1, rank_high=ranked + len(labels))
        for place, label in enumerate(labels, start=1)
    }


def _place(values: Mapping[str, float], label: str) -> int:
    """Return 1 + the number of higher values; equal ones share a rank."""
    return 1 + sum(value > values[label] + 1e-12 for value in values.values())
