"""Records and table -> the data of a board's pictures. All reading is here; drawing is pure. Imports no torch.

Numbers have four significant digits, so that a page stays small and rebuilds are byte-identical.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.leaderboard.decide.estimates import Estimate, read_by
from harness.leaderboard.formatting import Measured
from harness.leaderboard.pictures.answers import frontier_dots, judged_points
from harness.leaderboard.pictures.options import option_points
from harness.leaderboard.pictures.points import (
    CurvePoint,
    Interval,
    LearningPoint,
    ModelPoint,
    PairDifference,
    PictureData,
    PlacePoint,
    QuartilePoint,
    ReliabilityPoint,
    ScorePoint,
    SpendPoint,
    short,
)
from harness.leaderboard.table import BY, Board, Row, Table
from harness.run_folder.paths import RESPONSES, TRAIN_LOG
from harness.run_folder.record import Record
from harness.run_folder.tables import Columns
from harness.statistics.intervals import Floats
from harness.statistics.metrics import LENBALANCED

SCORE_BINS = 10
"""Most points of one line of reward against score."""
STRETCHES = 40
"""Most points of one training curve: the steps are averaged in so many stretches."""
ALONG = ("pairwise_accuracy@learned", "pairwise_accuracy", "pairwise_accuracy@mean", "chosen_logp_drift")
"""Metrics that are drawn along the run, besides the one that the board is ranked by."""
MARGIN, ACCURACY, CHOSEN = "rewards/margins", "rewards/accuracies", "logps/chosen"
"""The columns of the step log that are drawn. Not the loss: losses have no common scale, and some change sign."""


def picture_data(records: Sequence[Record], table: Table) -> tuple[PictureData, ...]:
    """Return the data of each board's pictures, in the table's order; each record's tables are read once."""
    cells: dict[int, _Cell] = {}
    boards = []
    for board in table.boards:
        labels = {row.label for row in board.rows if row.status == "ok" and row.kind == "loss"}
        drawn = [record for record in records if _stands_on(record, board) and record.label in labels]
        for record in drawn:
            if id(record) not in cells:
                cells[id(record)] = _read(record)
        on_models = [of for of in table.boards if of.settings == board.settings and of.model in board.models]
        boards.append(_of_board(board, on_models, table.ranked_by, [cells[id(record)] for record in drawn]))
    return tuple(boards)


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """What one cell adds to the pictures: bins and curves that can be averaged over models and seeds."""

    label: str
    scores: Floats
    """(SCORE_BINS, 3): count, summed score, summed percentile."""
    curves: Mapping[str, Floats]
    """Columns of the step log and `step`, (<= STRETCHES,) each."""


def _stands_on(record: Record, board: Board) -> bool:
    """Return whether a record is of a loss's cell that the board ranks."""
    of_the_board = record.board == board.settings and record.model.name in board.models
    return of_the_board and record.scored and record.kind == "loss"


def _read(record: Record) -> _Cell:
    log = record.columns(TRAIN_LOG, ("step", MARGIN, ACCURACY, CHOSEN)) if (record.folder / TRAIN_LOG).is_file() else {}
    return _Cell(
        label=record.label,
        scores=_score_bins(record.columns(RESPONSES, ("split", "score", "reward"))),
        curves=_thinned(log),
    )


def _score_bins(responses: Columns) -> Floats:
    """Return per tenth of the annotation scores: responses, summed score, summed percentile of the reward."""
    main = responses["split"] != LENBALANCED
    score, reward = responses["score"][main], responses["reward"][main]
    usable = np.isfinite(score) & np.isfinite(reward)
    score, reward = score[usable], reward[usable]
    if not len(score):
        return np.zeros((SCORE_BINS, 3))
    edges = np.quantile(score, np.arange(1, SCORE_BINS) / SCORE_BINS)
    _, rank, count = np.unique(reward, return_inverse=True, return_counts=True)
    percentile = (np.cumsum(count) - count / 2)[rank] / len(reward) * 100  # equal rewards share the middle rank
    return _binned(np.searchsorted(edges, score, side="left"), SCORE_BINS, score, percentile)


def _binned(bins: NDArray[np.int64], number: int, *values: Floats) -> Floats:
    """Return (number, 1 + len(values)): the count of each bin and the sum of each of the values in it."""
    sums = [np.bincount(bins, weights=weights, minlength=number) for weights in values]
    return np.column_stack([np.bincount(bins, minlength=number).astype(np.float64), *sums])


def _thinned(log: Columns) -> dict[str, Floats]:
    """Return the step log as means over at most `STRETCHES` stretches of steps."""
    steps = len(next(iter(log.values()), ()))
    stretch = np.arange(steps) * min(STRETCHES, steps) // max(steps, 1)
    size = np.bincount(stretch)
    return {name: np.bincount(stretch, weights=values) / size for name, values in log.items()}


def _of_board(board: Board, on_models: Sequence[Board], ranked_by: str, cells: Sequence[_Cell]) -> PictureData:
    by_label: dict[str, list[_Cell]] = defaultdict(list)
    for cell in cells:
        by_label[cell.label].append(cell)
    ranked = [row for row in board.rows if row.rank is not None and row.status == "ok"]
    labels = [row.label for row in ranked]
    return PictureData(
        quartiles=_quartiles(ranked, board.gap_edges),
        scores=[point for label in labels for point in _scores(label, by_label[label])],
        reliability=_reliability(ranked),
        curves=[point for label in labels for point in _curve(label, by_label[label])],
        spend=_spend(ranked, ranked_by),
        differences=_differences(board, ranked, ranked_by),
        learning=_learning(ranked, ranked_by),
        frontier=frontier_dots(board, ranked),
        judged=judged_points(board, ranked),
        places=_places(ranked, ranked_by),
        options=option_points(ranked, ranked_by),
        by_model=_by_model(ranked, on_models, ranked_by) if len(board.models) > 1 else (),
    )


def _places(rows: Sequence[Row], ranked_by: str) -> list[PlacePoint]:
    """Return the place of each loss under every reading; none for one loss."""
    readings = sorted(BY, key=lambda reading: read_by(ranked_by, reading) != ranked_by)
    points: list[PlacePoint] = []
    for order, reading in enumerate(readings if len(rows) > 1 else ()):
        under = [(row.readings[reading].rank or 0, row) for row in rows if row.readings[reading].rank]
        under.sort(key=lambda of: (of[0], of[1].label))
        points += [
            {
                "loss": row.label,
                "reading": reading,
                "order": order,
                "place": place,
                "rank": rank,
                "low": row.readings[reading].rank_low,
                "high": row.readings[reading].rank_high,
            }
            for place, (rank, row) in enumerate(under, start=1)
        ]
    return points


def _by_model(rows: Iterable[Row], boards: Sequence[Board], ranked_by: str) -> list[ModelPoint]:
    """Return the ranked metric of each loss on each model; a loss without a result there has no point."""
    return [
        {"loss": row.label, "model": board.model, **_interval(on_model.metrics[ranked_by])}
        for row in rows
        for board in boards
        for on_model in board.rows
        if on_model.label == row.label and math.isfinite(on_model.metrics[ranked_by].value)
    ]


def _learning(rows: Iterable[Row], ranked_by: str) -> list[LearningPoint]:
    return [
        {
            "loss": row.label,
            "metric": metric,
            "fraction": short(point.fraction),
            "step": short(point.spend["step"]),
            **_interval(estimate),
            "n": estimate.n,
        }
        for metric in dict.fromkeys((ranked_by, *ALONG))
        for row in rows
        for point in row.points
        if math.isfinite((estimate := point.metrics.get(metric, Estimate())).value)
    ]


def _quartiles(rows: Iterable[Row], edges: Sequence[float]) -> list[QuartilePoint]:
    gaps = [""] * 4
    if edges:
        first, second, third = (f"{edge:.3g}" for edge in edges)
        gaps = [f"up to {first}", f"{first} to {second}", f"{second} to {third}", f"over {third}"]
    return [
        {"loss": row.label, "quartile": quartile, "gap": gap, **_interval(estimate), "n": estimate.n}
        for row in rows
        for quartile, gap in enumerate(gaps, start=1)
        if math.isfinite((estimate := row.metrics[f"pairwise_accuracy_gap_q{quartile}"]).value)
    ]


def _scores(label: str, cells: Sequence[_Cell]) -> list[ScorePoint]:
    """Return the bins of a loss over the responses of all its cells; empty bins have no point."""
    total = np.sum([cell.scores for cell in cells], axis=0) if cells else np.zeros((0, 3))
    return [
        {"loss": label, "score": short(score / n), "percentile": short(percentile / n), "n": int(n)}
        for n, score, percentile in total
        if n
    ]


def _reliability(rows: Iterable[Row]) -> list[ReliabilityPoint]:
    return [
        {
            "loss": row.label,
            "confidence": short(pairs.confidence),
            "accuracy": short(pairs.accuracy),
            "low": short(pairs.low),
            "high": short(pairs.high),
            "n": pairs.n,
        }
        for row in rows
        for pairs in row.reliability
        if pairs.n
    ]


def _curve(label: str, cells: Sequence[_Cell]) -> list[CurvePoint]:
    """Return the training curve of a loss, the mean over its cells at each stretch of steps that all of them have."""
    logs = [cell.curves for cell in cells if cell.curves]
    if not logs:
        return []
    length = min(len(log["step"]) for log in logs)
    mean = {
        name: np.mean([log[name][:length] for log in logs], axis=0)
        for name in ("step", MARGIN, ACCURACY, CHOSEN)
        if all(name in log for log in logs)
    }
    if CHOSEN in mean:
        mean[CHOSEN] = mean[CHOSEN] - mean[CHOSEN][0]
    points: list[CurvePoint] = []
    for k in range(length):
        point: CurvePoint = {"loss": label, "step": short(mean["step"][k])}
        if MARGIN in mean:
            point["margin"] = short(mean[MARGIN][k])
        if ACCURACY in mean:
            point["accuracy"] = short(mean[ACCURACY][k])
        if CHOSEN in mean:
            point["drift"] = short(mean[CHOSEN][k])
        points.append(point)
    return points


def _spend(rows: Iterable[Row], ranked_by: str) -> list[SpendPoint]:
    return [
        {
            "loss": row.label,
            **_interval(row.metrics[ranked_by]),
            "seconds": short(row.spend["seconds"]),
            "flops": short(row.spend.get("flops", math.nan)),
        }
        for row in rows
        if "seconds" in row.spend
    ]


def _differences(board: Board, rows: Sequence[Row], ranked_by: str) -> list[PairDifference]:
    unclear = {frozenset(pair) for pair in board.borderline}
    return [
        {
            "loss": row.label,
            "other": other.label,
            "difference": short(row.metrics[ranked_by].value - other.metrics[ranked_by].value),
            "p": short(board.p_values[row.label][other.label]),
            "significant": board.p_values[row.label][other.label] <= 0.05
            and frozenset((row.label, other.label)) not in unclear,
        }
        for row in rows
        for other in rows
        if row.label != other.label and other.label in board.p_values.get(row.label, {})
    ]


def _interval(measured: Measured) -> Interval:
    return {"value": short(measured.value), "low": short(measured.low), "high": short(measured.high)}
