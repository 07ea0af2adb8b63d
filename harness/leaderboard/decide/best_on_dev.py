"""The board that takes each cell at the point of its run that was best on the development split, reported on test."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from harness.leaderboard.formatting import heading
from harness.run_folder.board_key import BoardKey
from harness.run_folder.point_facts import PointFacts
from harness.run_folder.record import Record

MOST_NAMED = 8
"""Points of more losses are counted, not listed."""


def at_best_on_dev(records: Sequence[Record], ranked_by: str) -> list[Record]:
    """Return the records of a run, each loss's as it is at its best point on dev; nothing without such points.

    Baseline rows stand beside them as they are; rows trained elsewhere have no points and stay away.
    """
    fractions = {tuple(point.fraction for point in record.points if point.dev) for record in records}
    chosen_from = max(fractions, key=len, default=())
    if not chosen_from:
        return []
    return [_at_best(record, ranked_by, chosen_from) for record in records if not record.elsewhere]


def _at_best(record: Record, ranked_by: str, chosen_from: tuple[float, ...]) -> Record:
    board = BoardKey.of(record.board.as_json() | {"chosen_from": list(chosen_from)})
    facts: dict[str, object] = {"board": board, "points": ()}
    if record.kind != "loss" or not record.scored:
        return record.model_copy(update=facts)
    point = best(record.points, ranked_by)
    facts |= {"reported_at": point.fraction, "generation": point.generation}
    own = record if point.fraction == 1 else record.at(point)
    return own.model_copy(update=facts)


def best(points: Sequence[PointFacts], ranked_by: str) -> PointFacts:
    """Return the point with the highest value on dev; of equal ones, and where none has a value, the last."""

    def value(point: PointFacts) -> float:
        known = point.dev.metrics.get(ranked_by) if point.dev else None
        return -math.inf if known is None else known

    return max(points, key=lambda point: (value(point), point.fraction))


def taken_at(records: Sequence[Record], ranked_by: str) -> tuple[str, ...]:
    """Return the sentence that says which point each loss is taken at; nothing on other boards."""
    taken = [record for record in records if record.reported_at is not None]
    if not taken:
        return ()
    by_label: dict[str, list[str]] = {}
    for record in taken:
        by_label.setdefault(record.label, []).append(f"{record.reported_at:.10g}")
    counts = Counter(fraction for of in by_label.values() for fraction in of)
    listed = ", ".join(f"{label} at {' '.join(of)}" for label, of in by_label.items())
    counted = ", ".join(f"{number} at {fraction}" for fraction, number in sorted(counts.items()))
    named = listed if len(by_label) <= MOST_NAMED else f"{counted} of {len(taken)} cells"
    return (
        f"Each cell is taken at the point of its run that was best on the development split by {heading(ranked_by)}, "
        f"and measured on test: {named}, as fractions of the budget. It was paid for the whole.",
    )
