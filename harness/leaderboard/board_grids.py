"""What a board says of its rows, as tables of text: the short one, by subset, along the run, what was chosen, spent."""

from __future__ import annotations

import math

from harness.leaderboard.decide.subsets import shown
from harness.leaderboard.decide.wording import EARLY, choice, points_in_words, subsets_in_words
from harness.leaderboard.formatting import (
    FEW,
    MISSING,
    heading,
    rank_with_range,
    ranks,
    smallest_difference,
    spent,
    things_to_know,
)
from harness.leaderboard.grid import Grid, value_cell
from harness.leaderboard.hints import FEW_MEANS, IN_SHORT
from harness.leaderboard.table import BESIDE, BY, Board, Row
from harness.statistics.metrics import METRICS

COMMON = "pairwise_accuracy@mean"
"""What the difference to the untrained base is measured in: the base has no reward of its own."""
READ_ALIKE = "accuracy@mean: by the log-prob per token, read alike for all, with the gain in it over the base."
SPENT = {
    "pairs": "pairs",
    "steps": "steps",
    "tokens": "tokens",
    "flops": "FLOP",
    "seconds": "seconds",
    "peak_memory_bytes": "memory",
}
"""What is told of the spend, and what the columns are called."""


def short_grid(board: Board, ranked_by: str) -> Grid:
    """Return the board in short: what ranks it, and the other readings that stand on every board."""
    names = list(dict.fromkeys([ranked_by, *BESIDE, COMMON]))
    rows = [
        (
            row.label,
            rank_with_range(row.rank, row.rank_low, row.rank_high, row.borderline),
            *(value_cell(row.metrics.get(name)) for name in names),
            MISSING if row.loss == "base" else value_cell(row.vs_base.get(COMMON), "+.3f"),
            ranks([standing.rank for standing in row.readings.values()]) if row.kind == "loss" else MISSING,
        )
        for row in board.rows
        if row.status == "ok"
    ]
    detectable = smallest_difference(
        board.minimum_detectable_difference, board.minimum_detectable_planned, board.pairs_compared
    )
    few = any(FEW in cell for row in rows for cell in row)
    lost = [f"{row.label}, {row.status}: {row.reason}" for row in board.rows if row.status != "ok"]
    after = [
        f"Ranked by {heading(ranked_by)}: {METRICS[ranked_by].summary}. "
        + " ".join(f"{sentence[0].upper()}{sentence[1:]}." for sentence in IN_SHORT),
        f"{READ_ALIKE} Ranks by reading: {'/'.join(BY)}.",
        f"‡ {FEW_MEANS}." if few else "",
        f"{detectable}." if detectable else "",
        f"Without a result: {'; '.join(lost)}." if lost else "",
        f"{things_to_know(len(board.disclaimers), board.weightiest)}." if board.disclaimers else "",
    ]
    return Grid(
        title=board.title,
        before=(*board.conclusions[:1], f"{board.n_pairs} pairs, {board.n_prompts} prompts."),
        head=("loss", "rank", *map(heading, names), "over base, @mean", "ranks by reading"),
        rows=tuple(rows),
        after=tuple(filter(None, after)),
    )


def subset_grids(board: Board, ranked_by: str) -> tuple[Grid, ...]:
    """Return a table for each accuracy by subset; none for data without subsets."""
    return tuple(subset_grid(board, metric) for metric in shown(ranked_by)) if board.subset_pairs else ()


def subset_grid(board: Board, metric: str) -> Grid:
    """Return a row for each loss that has the accuracy, a column for each subset."""
    rows = [
        (row.label, *(value_cell(row.subsets[subset].get(metric)) for subset in board.subset_pairs))
        for row in board.rows
        if any(metric in accuracies for accuracies in row.subsets.values())
    ]
    return Grid(
        title=f"By subset: {heading(metric)}",
        before=(f"{subsets_in_words(metric)}.",),
        head=("loss", *(f"{subset} ({pairs})" for subset, pairs in board.subset_pairs.items())),
        rows=tuple(rows),
    )


def point_grid(board: Board, metric: str) -> Grid | None:
    """Return a metric along the run, a row for each loss that has points; None for a run without points."""
    if not board.fractions:
        return None
    rows = []
    for row in board.rows:
        known = {point.fraction: point.metrics.get(metric) for point in row.points}
        if known:
            rows.append((row.label, *(value_cell(known.get(fraction)) for fraction in board.fractions)))
    return Grid(
        title=f"Along the run: {heading(metric)}",
        before=(f"{points_in_words(metric)}.",),
        head=("loss", *(f"{fraction:.10g}" for fraction in board.fractions)),
        rows=tuple(rows),
        after=(EARLY,),
    )


def chosen_grid(board: Board) -> Grid | None:
    """Return what tuning chose for each loss on each model; None for a board of untuned losses."""
    rows = [(row.label, model, choice(chosen)) for row in board.rows for model, chosen in row.tuned.items()]
    if not rows:
        return None
    return Grid(title="Chosen on the development split", before=(), head=("loss", "model", "chosen"), rows=tuple(rows))


def spend_grid(board: Board) -> Grid | None:
    """Return what training a cell of each loss cost; None where nothing was trained."""
    rows = [row for row in board.rows if row.kind == "loss" and row.spend]
    names = [name for name in SPENT if any(_known(row, name) for row in rows)]
    if not names:
        return None
    return Grid(
        title="Spend of a cell",
        before=("What training one cell cost: one loss, one model, one seed. Means over seeds and models.",),
        head=("loss", *(SPENT[name] for name in names)),
        rows=tuple((row.label, *(spent(name, row.spend.get(name)) for name in names)) for row in rows),
        after=("FLOP: floating-point operations, of training alone. Seconds tell of the machine too.",),
    )


def _known(row: Row, name: str) -> bool:
    return math.isfinite(row.spend.get(name, math.nan))
