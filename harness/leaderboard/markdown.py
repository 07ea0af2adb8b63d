"""Table -> leaderboard.md, for people."""

from __future__ import annotations

import math
import re

from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.decide.wording import choice
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
    parts = [f"# Leaderboard\n\nRanked by {_escape(table.ranked_by)}: {METRICS[table.ranked_by].summary}. "
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
    scored = [row for row in board.rows if row.status == "ok"]
    lines = [f"## {_escape(board.title)}", ""]
    lines += [f"> {_escape(sentence)}  " for sentence in board.disclaimers]
    lines += [
        "",
        _line(heading),
        _line(["---"] * len(heading)),
        *(_line(_cells(row, shown, balanced)) for row in scored),
        "",
    ]
    detectable = board.minimum_detectable_difference
    lines.append(
        f"{board.n_pairs} pairs, {board.n_prompts} prompts."
        + (f" Smallest difference this run could have detected: {detectable:.3f}." if math.isfinite(detectable) else "")
    )
    if len(board.models) == 1 and (found := [row for row in board.rows if row.tuned]):
        lines += ["", "Chosen on the development split:", ""]
        lines += [f"- {_escape(row.label)}: {_escape(choice(row.tuned[board.model]))}" for row in found]
    lost = [row for row in board.rows if row.status != "ok"]
    if lost:
        lines += ["", "Came to nothing:", ""]
        lines += [f"- {_place(row)}{_escape(row.label)}, {row.status}: {_escape(row.reason)}" for row in lost]
    return "\n".join(lines) + "\n"


def _cells(row: Row, shown: list[str], balanced: bool) -> list[str]:
    against = row.vs_base["pairwise_accuracy@mean"]
    value = row.metrics["pairwise_accuracy@mean"].value
    common = "–" if math.isnan(value) else f"{value:.3f}"
    if math.isfinite(value) and math.isfinite(against.value) and row.loss != "base":
        common += f" ({against.value:+.3f}{_bracket(against, '+.3f')})"
    seconds, memory = row.spend.get("seconds"), row.spend.get("peak_memory_bytes")
    return [
        "–" if row.rank is None else f"{row.rank} [{row.rank_low}–{row.rank_high}]",
        "–" if row.tier is None else str(row.tier),
        _escape(row.label),
        *(_number(row.metrics[name]) for name in shown),
        common,
        *([_number(row.metrics[LENBALANCED])] if balanced else []),
        _number(row.metrics["spearman"]) + (" †" if row.reference_based else ""),
        _number(row.metrics["spearman_within_prompt"]),
        "/".join("–" if rank is None else str(rank) for rank in row.yardstick_ranks.values()),
        "–" if seconds is None else f"{seconds:.1f}",
        "–" if memory is None else f"{memory / 2**20:.0f} MiB",
    ]


def _place(row: Row) -> str:
    return "unranked, " if row.rank is None else f"rank {row.rank}, "


def _number(one: Estimate) -> str:
    return "–" if math.isnan(one.value) else f"{one.value:.3f}{_bracket(one, '.3f')}"


def _bracket(one: Estimate, form: str) -> str:
    return "" if math.isnan(one.low) or math.isnan(one.high) else f" [{one.low:{form}}, {one.high:{form}}]"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    """Return `text` so that Markdown shows it as it is, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", re.sub(r"\s+", " ", text))
