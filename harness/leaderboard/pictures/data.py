"""Records and table -> the small frames behind the pictures of a board. All reading is here; drawing is pure.

A frame is a list of plain rows, every number at four significant digits, so that a page stays small and rebuilds are
byte-identical. Imports no torch.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.formatting import significant
from harness.leaderboard.table import Board, Row, Table
from harness.run_folder.paths import RESPONSES
from harness.run_folder.store import Columns, Record
from harness.statistics.metrics import LENBALANCED

Frame = list[dict[str, Any]]
TRAIN = "train.parquet"
"""The step log of a cell, with TRL's metric names."""
SCORE_BINS, STEPS = 10, 40
"""Most points of one line of reward against score, and of a training curve."""
CURVES = {"relative": "loss", "margin": "rewards/margins", "chosen": "logps/chosen"}
"""What the training curves show -> the column of the step log."""


@dataclass(frozen=True, kw_only=True)
class Frames:
    """What the pictures of one board show; a frame without rows is a picture that cannot be drawn."""

    quartiles: Frame
    """loss, quartile 1-4 of the score gap, its gaps in words, value, low, high, n."""
    scores: Frame
    """loss, score: mean annotation score of a bin; percentile: mean place of its rewards among all, 0-100; n."""
    reliability: Frame
    """loss, confidence: mean of sigmoid(|margin|) in a bin; accuracy: share of right ones; low, high, n."""
    curves: Frame
    """loss, step, relative: loss over its first logged value; raw loss, margin and chosen log-prob; means of cells."""
    spend: Frame
    """loss, value, low, high, seconds, flops."""
    differences: Frame
    """loss, other, difference in the ranked metric, p (adjusted), significant; both directions of each pair."""


def frames(records: Sequence[Record], table: Table) -> tuple[Frames, ...]:
    """Return the frames of each board, in the table's order; each record's tables are read once."""
    scored: dict[int, _Cell] = {}
    found = []
    for board in table.boards:
        shown = {row.label for row in board.rows if row.status == "ok" and row.kind == "loss"}
        mine = [record for record in records if _of(record, board) and record.fields["label"] in shown]
        for record in mine:
            if id(record) not in scored:
                scored[id(record)] = _read(record)
        found.append(_frames(board, table.ranked_by, [scored[id(record)] for record in mine]))
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class _Cell:
    """One cell's part of the frames: bins that can be averaged over models and seeds."""

    label: str
    scores: NDArray[np.float64]
    """(SCORE_BINS, 3): count, summed score, summed percentile."""
    curves: Mapping[str, NDArray[np.float64]]
    """Columns of the step log and `step`, (<= STEPS,) each."""


def _of(record: Record, board: Board) -> bool:
    fields = record.fields
    same = json.dumps(fields.get("board", {}), sort_keys=True) == json.dumps(board.settings, sort_keys=True)
    return bool(
        same
        and fields["status"] == "ok"
        and fields["model"]["name"] in board.models
        and fields.get("kind") != "reference"
    )


def _read(record: Record) -> _Cell:
    log = record.columns(TRAIN, ("step", *CURVES.values())) if (record.folder / TRAIN).is_file() else {}
    return _Cell(
        label=str(record.fields["label"]),
        scores=_score_bins(record.columns(RESPONSES, ("split", "score", "reward"))),
        curves=_thinned(log),
    )


def _score_bins(responses: Columns) -> NDArray[np.float64]:
    """Return per decile of the annotation score: responses, summed score, summed percentile of the reward."""
    main = responses["split"] != LENBALANCED
    score, reward = responses["score"][main], responses["reward"][main]
    usable = np.isfinite(score) & np.isfinite(reward)
    score, reward = score[usable], reward[usable]
    if not len(score):
        return np.zeros((SCORE_BINS, 3))
    edges = np.quantile(score, np.arange(1, SCORE_BINS) / SCORE_BINS)
    _, rank, count = np.unique(reward, return_inverse=True, return_counts=True)
    percentile = (np.cumsum(count) - count / 2)[rank] / len(reward) * 100  # mid-ranks
    return _binned(np.searchsorted(edges, score, side="left"), SCORE_BINS, score, percentile)


def _binned(bins: NDArray[np.int64], number: int, *values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (number, 1 + len(values)): the count of each bin and the sum of each of the values in it."""
    sums = [np.bincount(bins, weights=each, minlength=number) for each in values]
    return np.column_stack([np.bincount(bins, minlength=number).astype(np.float64), *sums])


def _thinned(log: Columns) -> dict[str, NDArray[np.float64]]:
    """Return the step log as means over at most `STEPS` stretches of steps."""
    steps = len(next(iter(log.values()), ()))
    bucket = np.arange(steps) * min(STEPS, steps) // max(steps, 1)
    size = np.bincount(bucket)
    return {name: np.bincount(bucket, weights=values) / size for name, values in log.items()}


def _frames(board: Board, ranked_by: str, cells: Sequence[_Cell]) -> Frames:
    by_label: dict[str, list[_Cell]] = defaultdict(list)
    for cell in cells:
        by_label[cell.label].append(cell)
    ranked = [row for row in board.rows if row.rank is not None and row.status == "ok"]
    labels = [row.label for row in ranked]
    return Frames(
        quartiles=_quartiles(ranked, board.gap_edges),
        scores=[row for label in labels for row in _scores(label, by_label[label])],
        reliability=_reliability(ranked),
        curves=[row for label in labels for row in _curves(label, by_label[label])],
        spend=_spend(ranked, ranked_by),
        differences=_differences(board, ranked, ranked_by),
    )


def _quartiles(rows: Iterable[Row], edges: Sequence[float]) -> Frame:
    ends = [f"{edge:.3g}" for edge in edges]
    gaps = (
        [f"up to {ends[0]}", f"{ends[0]} to {ends[1]}", f"{ends[1]} to {ends[2]}", f"over {ends[2]}"]
        if ends
        else [""] * 4
    )
    return [
        {"loss": row.label, "quartile": quartile, "gap": gap, **_estimate(one), "n": one.n}
        for row in rows
        for quartile, gap in enumerate(gaps, start=1)
        if math.isfinite((one := row.metrics[f"pairwise_accuracy_gap_q{quartile}"]).value)
    ]


def _scores(label: str, cells: Sequence[_Cell]) -> Frame:
    """Return the bins of a loss over the responses of all its cells; empty bins have no row."""
    total = np.sum([cell.scores for cell in cells], axis=0) if cells else np.zeros((0, 3))
    return [
        {"loss": label, "score": short(score / n), "percentile": short(percentile / n), "n": int(n)}
        for n, score, percentile in total
        if n
    ]


def _reliability(rows: Iterable[Row]) -> Frame:
    return [
        {"loss": row.label, "confidence": short(each.confidence), "accuracy": short(each.accuracy),
         "low": short(each.low), "high": short(each.high), "n": each.n}
        for row in rows
        for each in row.reliability
        if each.n
    ]  # fmt: skip


def _curves(label: str, cells: Sequence[_Cell]) -> Frame:
    """Return the training curve of a loss, the mean over its cells at each stretch of steps that all of them have."""
    logs = [cell.curves for cell in cells if cell.curves]
    if not logs:
        return []
    length = min(len(log["step"]) for log in logs)
    mean = {
        name: np.mean([log[name][:length] for log in logs], axis=0)
        for name in ("step", *CURVES.values())
        if all(name in log for log in logs)
    }
    first = abs(mean["loss"][0]) if "loss" in mean else 0.0
    rows = []
    for k in range(length):
        row = {"loss": label, "step": short(mean["step"][k])}
        row |= {short_name: short(mean[name][k]) for short_name, name in CURVES.items() if name in mean}
        if "relative" in row:
            row |= {"raw": row["relative"], "relative": short(mean["loss"][k] / first) if first > 1e-9 else None}
        rows.append(row)
    return rows


def _spend(rows: Iterable[Row], ranked_by: str) -> Frame:
    return [
        {
            "loss": row.label,
            **_estimate(row.metrics[ranked_by]),
            "seconds": short(row.spend["seconds"]),
            "flops": short(row.spend.get("flops", math.nan)),
        }
        for row in rows
        if "seconds" in row.spend
    ]


def _differences(board: Board, rows: Sequence[Row], ranked_by: str) -> Frame:
    found = []
    for row in rows:
        for other in rows:
            if row.label == other.label or other.label not in board.p_values.get(row.label, {}):
                continue
            p = board.p_values[row.label][other.label]
            difference = row.metrics[ranked_by].value - other.metrics[ranked_by].value
            found.append(
                {"loss": row.label, "other": other.label, "difference": short(difference), "p": short(p),
                 "significant": p <= 0.05}
            )  # fmt: skip
    return found


def _estimate(one: Estimate) -> dict[str, float | None]:
    return {"value": short(one.value), "low": short(one.low), "high": short(one.high)}


def short(value: float) -> float | None:
    """Return `value` at four significant digits; None where it is not finite."""
    return significant(value, 4)
