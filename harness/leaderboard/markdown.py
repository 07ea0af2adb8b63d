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
from harness.leaderboard.table import Board, Row, Table
from harness.statistics.metrics import METRICS

LENBALANCED = "pairwise_accuracy_lenbalanced"
HOW_TO_READ = (
    "- **rank** is by the point estimate; in brackets the ranks that the data leave open (step-down comparison of all "
    "pairs of losses, family-wise error 5 %). Losses of one **tier** are not significantly worse than its first.",
    "- Brackets after a number: 95 % interval over prompts, paired between losses; over prompts and seeds where there "
    "are several seeds.",
    "- **accuracy@mean** reads every loss by the same reward, the log-prob a token; behind it the paired difference to "
    "the untrained base.",
    "- **sum/mean/ratio** are the ranks if all were ranked by that common reward instead of their own.",
    "- **Spearman** is between reward and annotation score over all responses, pooled; **within prompt** is "
    "its mean over prompts with several scored responses. † A reward relative to a reference leaves out a term of the "
    "prompt alone (beta log Z) and is comparable within a prompt only: read its pooled value with care.",
    "- **length-balanced** is the accuracy on test pairs whose two responses are of like length.",
    "- `base` is the checkpoint that every loss starts from; `longer-wins` always prefers the longer response.",
)


def render(table: Table) -> str:
    """Return the table as Markdown."""
    parts = [f"# Leaderboard\n\nRanked by {markdown_text(table.ranked_by)}: {METRICS[table.ranked_by].summary}. "
             f"Protocol {table.protocol}.\n"]  # fmt: skip
    parts += [_board(board, table.ranked_by) for board in table.boards]
    parts.append("## How to read this\n\n" + "\n".join(HOW_TO_READ) + "\n")
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
