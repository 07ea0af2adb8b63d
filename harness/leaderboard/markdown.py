"""Table -> leaderboard.md, for people."""

from __future__ import annotations

import math

from harness.leaderboard.decide.wording import choice
from harness.leaderboard.formatting import (
    markdown_table,
    markdown_text,
    mebibytes,
    number,
    number_with_interval,
    rank_with_range,
    ranks,
    smallest_difference,
)
from harness.leaderboard.hints import HOW_TO_READ, Code, Hint, Term
from harness.leaderboard.table import Board, Row, Table
from harness.statistics.metrics import METRICS

LENBALANCED = "pairwise_accuracy_lenbalanced"


def render(table: Table) -> str:
    """Return the table as Markdown."""
    parts = [f"# Leaderboard\n\nRanked by {markdown_text(table.ranked_by)}: {METRICS[table.ranked_by].summary}. "
             f"Protocol {table.protocol}.\n"]  # fmt: skip
    parts += [_board(board, table.ranked_by) for board in table.boards]
    parts.append("## How to read this\n\n" + "\n".join(f"- {_hint(hint)}" for hint in HOW_TO_READ) + "\n")
    return "\n".join(parts)


def _board(board: Board, ranked_by: str) -> str:
    shown = list(dict.fromkeys([ranked_by, "pairwise_accuracy"]))
    names = ["accuracy" if name == "pairwise_accuracy" else name for name in shown]
    balanced = any(math.isfinite(row.metrics[LENBALANCED].value) for row in board.rows)
    heading = [
        "rank",
        "tier",
        "loss",
        *names,
        "accuracy@mean (vs base)",
        *(["length-balanced"] if balanced else []),
        "Spearman",
        "within prompt",
        "sum/mean/ratio",
        "seconds",
        "memory",
    ]
    lines = [f"## {markdown_text(board.title)}", ""]
    lines += [f"> {markdown_text(sentence)}  " for sentence in board.disclaimers]
    lines += [
        "",
        *markdown_table(heading, [_cells(row, shown, balanced) for row in board.rows if row.status == "ok"]),
        "",
    ]
    lines.append(f"{board.n_pairs} pairs, {board.n_prompts} prompts.")
    if detectable := smallest_difference(board.minimum_detectable_difference):
        lines[-1] += f" {detectable}."
    if len(board.models) == 1 and (found := [row for row in board.rows if row.tuned]):
        lines += ["", "Chosen on the development split:", ""]
        lines += [f"- {markdown_text(row.label)}: {markdown_text(choice(row.tuned[board.model]))}" for row in found]
    lost = [row for row in board.rows if row.status != "ok"]
    if lost:
        lines += ["", "Came to nothing:", ""]
        lines += [
            f"- {_place(row)}{markdown_text(row.label)}, {row.status}: {markdown_text(row.reason)}" for row in lost
        ]
    return "\n".join(lines) + "\n"


def _cells(row: Row, shown: list[str], balanced: bool) -> list[str]:
    against = row.vs_base["pairwise_accuracy@mean"]
    common = number(row.metrics["pairwise_accuracy@mean"].value)
    if math.isfinite(against.value) and row.loss != "base":
        common += f" ({number_with_interval(against, '+.3f')})"
    return [
        rank_with_range(row.rank, row.rank_low, row.rank_high),
        number(row.tier, "d"),
        markdown_text(row.label),
        *(number_with_interval(row.metrics[name]) for name in shown),
        common,
        *([number_with_interval(row.metrics[LENBALANCED])] if balanced else []),
        number_with_interval(row.metrics["spearman"]) + (" †" if row.reference_based else ""),
        number_with_interval(row.metrics["spearman_within_prompt"]),
        ranks(list(row.yardstick_ranks.values())),
        number(row.spend.get("seconds"), ".1f"),
        mebibytes(row.spend.get("peak_memory_bytes")),
    ]


def _place(row: Row) -> str:
    return "unranked, " if row.rank is None else f"rank {row.rank}, "


def _hint(hint: Hint) -> str:
    return "".join(map(_marked_up, hint))


def _marked_up(piece: str | Term | Code) -> str:
    match piece:
        case Term(text):
            return f"**{markdown_text(text)}**"
        case Code(text):
            return f"`{text}`"
        case _:
            return markdown_text(piece)
