"""Table -> leaderboard.csv, for spreadsheets: one line per board, system and metric."""

from __future__ import annotations

import csv
import io

from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.formatting import rounded
from harness.leaderboard.table import Board, Row, Table

COLUMNS = (
    *("model", "preset", "dataset", "rank", "rank_low", "rank_high", "tier", "label", "loss", "status", "reason"),
    *("metric", "value", "low", "high", "n", "trials"),
)


def render(table: Table) -> str:
    """Return the table as CSV with a heading; missing numbers are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for board in table.boards:
        for row in board.rows:
            place = (row.rank, row.rank_low, row.rank_high, row.tier)
            system = (*place, row.label, row.loss, row.status, row.reason)
            in_subsets = {
                f"{metric}[{subset}]": estimate
                for subset, accuracies in row.subsets.items()
                for metric, estimate in accuracies.items()
            }
            at_points = {
                f"{metric} at {point.fraction:.10g}": estimate
                for point in row.points
                for metric, estimate in {**point.metrics, **point.answers}.items()
            }
            everything = {**row.metrics, **in_subsets, **at_points, **_of_answers(board, row)}
            for metric, estimate in everything.items():
                numbers = rounded([estimate.value, estimate.low, estimate.high])
                numbers += [estimate.n, board.settings.trials or 0]
                writer.writerow([board.model, board.preset, board.dataset, *system, metric, *numbers])
    for along in table.robustness:
        where = [along.model, along.settings.preset, along.data]
        for label, slope in along.slopes.items():
            numbers = [*rounded([slope.value, slope.low, slope.high]), slope.n, along.settings.trials or 0]
            writer.writerow(
                [*where, *[""] * 4, label, "", "ok", "", f"slope of {along.metric} along noise {along.dial}", *numbers]
            )
    for over in table.sensitivity:
        where = [over.model, over.shared.preset, over.data]
        for loss, spread in over.losses.items():
            for name, found in (("best", spread.best_value), ("worst", spread.worst_value)):
                numbers = [*rounded([found.value, found.low, found.high]), found.n, 0]
                writer.writerow([*where, *[""] * 5, loss, "ok", "", f"{name} of {over.metric} over settings", *numbers])
    return text.getvalue()


def _of_answers(board: Board, row: Row) -> dict[str, Estimate]:
    """Return the numbers of a row's answers, and its gain at each distance of each frontier, by name."""
    if row.answers is None:
        return {}
    over_base = {f"{name} over base": estimate for name, estimate in row.answers.over_base.items()}
    at_distance = {
        f"gain in {frontier.quality} at KL {target:g}": of[row.label]
        for frontier in board.frontiers
        for target, of in frontier.at.items()
        if row.label in of
    }
    return {**row.answers.values, **over_base, **at_distance}
