"""The points along a run, scored with the engine that scores its end: their tables, and what the record says."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.api import OpenScorer
from harness.data.heldout import HeldOut
from harness.run_folder.paths import WEIGHTS, point_folder
from harness.run_folder.point_facts import PointFacts
from harness.run_folder.record import Record
from harness.run_folder.store import write_tables
from harness.statistics.summary import summarise
from harness.training.cell_record import numbers, scored_tables


@dataclass(frozen=True, kw_only=True)
class Measure:
    """What a response is read by: the same at every point of a cell."""

    held: HeldOut
    base: np.ndarray
    """(requests,) summed log-probs under the start checkpoint."""
    reward: Callable[[np.ndarray], np.ndarray]
    """Summed log-probs -> the loss's own rewards, (requests,) each."""


def score_points(
    record: Record, folder: Path, end: np.ndarray, measure: Measure, engine: OpenScorer, begin: Callable[[], None]
) -> Record:
    """Return the record with its points, whose tables are written into the cell's `folder`.

    `end`: (requests,) summed log-probs at the end of the training, whose weights the engine has already; `begin` is
    called before each of the others is scored. Nothing is written before all are.
    """
    scored = []
    for point in record.points:
        sums = end
        if point.fraction < 1:
            begin()
            engine.load(point_folder(folder, point.fraction) / WEIGHTS)
            sums = engine.score(measure.held.requests)
        scored.append((point, sums, measure.reward(sums)))
    return record.model_copy(
        update={"points": tuple(_written(record, folder, point, sums, own, measure) for point, sums, own in scored)}
    )


def _written(
    record: Record, folder: Path, point: PointFacts, sums: np.ndarray, reward: np.ndarray, measure: Measure
) -> PointFacts:
    """Write the tables of a point; return what the record says of it."""
    rows, responses = scored_tables(measure.held, sums, measure.base, reward)
    metrics, _ = summarise(rows, responses, record.averaged)
    files = write_tables(point_folder(folder, point.fraction), record.key, rows, responses)
    return point.model_copy(update={"metrics": numbers(metrics), "files": files})
