"""Learning curves: every metric of a loss at each point along the run, by the statistics of its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean

from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.decide.results import Results
from harness.run_folder.point_facts import PointFacts

SPENT = ("step", "pairs", "tokens", "flops", "seconds")


@dataclass(frozen=True, kw_only=True)
class RowPoint:
    """A system at one point along the run."""

    fraction: float
    """Of the budget; 1 is the end."""
    spend: Mapping[str, float]
    """What was spent by then, `SPENT`: mean over seeds and models."""
    metrics: Mapping[str, Estimate]
    """Those that it has there."""
    answers: Mapping[str, Estimate] = field(default_factory=dict)
    """Numbers of the answers generated there, where there are some."""


def row_points(results: Results, label: str) -> tuple[RowPoint, ...]:
    """Return the points of a system that all its cells on the board have, in order; none where none was asked for."""
    records = [
        record for unit, record in results.group.records.items() if unit.label == label and unit.model in results.models
    ]
    by_fraction = [{point.fraction: point for point in record.points} for record in records]
    shared = [at for at in results.points if all(at in points for points in by_fraction)] if records else []
    return tuple(
        RowPoint(
            fraction=fraction,
            spend=_means([points[fraction] for points in by_fraction]),
            metrics={name: of[label] for name, of in results.points[fraction].items() if label in of},
            answers={name: of[label] for name, of in results.answers_at.get(fraction, {}).items() if label in of},
        )
        for fraction in shared
    )


def _means(points: list[PointFacts]) -> dict[str, float]:
    """Return the mean of everything spent that all points say."""
    values = {name: [getattr(point, name) for point in points] for name in SPENT}
    return {name: fmean(of) for name, of in values.items() if None not in of}
