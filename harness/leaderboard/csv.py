"""Table -> leaderboard.csv, for spreadsheets: one line per board, system and metric."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.formatting import rounded
from harness.leaderboard.row_settings import learning_rate, options_in_words, seeds_in_words
from harness.leaderboard.table import Board, Row, Table
from harness.run_folder.shown import csv_cells

COLUMNS = (
    *("model", "preset", "dataset", "rank", "rank_low", "rank_high", "tier", "label", "loss", "status", "reason"),
    *("metric", "value", "low", "high", "n", "trials"),
    *("options", "learning_rate", "budget", "seed"),
)


def render(table: Table) -> str:
    """Return the table as CSV with a heading; missing numbers are empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(csv_cells(line) for _, _, line in lines(table))
    writer.writerows(map(csv_cells, _along_axes(table)))
    return text.getvalue()


def lines(table: Table) -> Iterator[tuple[Board, Row, list[str | float | None]]]:
    """Yield every line of it, its cells as in `COLUMNS`, with the board and the row that it is of."""
    for board in table.boards:
        for row in board.rows:
            place = (row.rank, row.rank_low, row.rank_high, row.tier)
            system = (*place, row.label, row.loss, row.status, row.reason)
            trained = (options_in_words(row.options), learning_rate(board, row), board.settings.budget)
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
                settings = [*trained, seeds_in_words(row)]
                yield board, row, [board.model, board.preset, board.dataset, *system, metric, *numbers, *settings]


def _along_axes(table: Table) -> Iterator[list[str | float | None]]:
    """Yield the lines of what boards say together: slopes along noise, the best and the worst of several settings."""
    for along in table.robustness:
        where: list[str | float | None] = [along.model, along.settings.preset, along.data]
        settings = ["", along.settings.learning_rate, along.settings.budget, ""]
        for label, slope in along.slopes.items():
            system = [*[""] * 4, label, "", "ok", "", f"slope of {along.metric} along noise {along.dial}"]
            numbers = [*rounded([slope.value, slope.low, slope.high]), slope.n, along.settings.trials or 0]
            yield [*where, *system, *numbers, *settings]
    for over in table.sensitivity:
        where, over_what = [over.model, over.shared.preset, over.data], "trials, on dev" if over.trials else "settings"
        for loss, spread in over.losses.items():
            for name, found in (("best", spread.best_value), ("worst", spread.worst_value)):
                system = [*[""] * 5, loss, "ok", "", f"{name} of {over.metric} over {over_what}"]
                numbers = [*rounded([found.value, found.low, found.high]), found.n, 0]
                yield [*where, *system, *numbers, "", "", over.shared.budget, ""]


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
