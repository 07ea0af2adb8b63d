"""Write the over-all-models table of leaderboards/nano into the README, between its two markers.

Run by `tox -e board`; by hand: python leaderboards/readme_table.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.leaderboard.formatting import (
    MISSING,
    interval,
    markdown_table,
    markdown_text,
    number,
    rank_with_range,
    smallest_difference,
)

HERE = Path(__file__).resolve().parent
BOARD = HERE / "nano" / "leaderboard.json"
README = HERE.parent / "README.md"
BEGIN, END = "<!-- board: python leaderboards/readme_table.py -->", "<!-- /board -->"
HEADING = ("rank", "loss", "accuracy", "accuracy@mean", "over base")
YARDSTICK = "pairwise_accuracy@mean"
NOT_IN_THE_README = ("Seconds ", "Data: ")
"""Disclaimers that begin so are about columns that the short table lacks, or about the data, and stand on the board."""


def section(leaderboard: Mapping[str, Any]) -> str:
    """Return the board over all models as Markdown: title, disclaimers, table, smallest difference."""
    board = next(board for board in leaderboard["boards"] if board["model"] == "all")
    disclaimers = [sentence for sentence in board["disclaimers"] if not sentence.startswith(NOT_IN_THE_README)]
    lines = [
        f"**{board['title']}**",
        "",
        *(f"> {sentence}  " for sentence in disclaimers),
        "",
        *markdown_table(HEADING, [_cells(row, leaderboard["ranked_by"]) for row in board["rows"]]),
        "",
        f"{board['n_pairs']} held-out pairs of {board['n_prompts']} prompts. In brackets: the ranks that the data "
        "leave open, 95 % intervals. accuracy: by the loss's own reward; accuracy@mean: by the log-prob per token, for "
        "all alike; over base: the gain in it over the untrained checkpoint. "
        f"{_smallest_difference(board)}.",
    ]
    return "\n".join(lines)


def with_table(readme: str, leaderboard: Mapping[str, Any]) -> str:
    """Return the README with the present board between its markers."""
    marked = re.compile(f"{re.escape(BEGIN)}\n.*?{re.escape(END)}", re.DOTALL)
    if len(marked.findall(readme)) != 1:
        raise SystemExit(f"{README.name}: got no or several tables, expected one between '{BEGIN}' and '{END}'")
    return marked.sub(lambda _: f"{BEGIN}\n{section(leaderboard)}\n{END}", readme)


def _cells(row: Mapping[str, Any], ranked_by: str) -> list[str]:
    own, mean, gain = row["metrics"].get(ranked_by), row["metrics"].get(YARDSTICK), row["vs_base"].get(YARDSTICK)
    return [
        rank_with_range(row["rank"], row["rank_low"], row["rank_high"], row["borderline"]),
        markdown_text(row["label"]),
        _estimate(own) if row["status"] == "ok" else row["status"],
        MISSING if mean is None else number(mean["value"]),
        MISSING if row["loss"] == "base" else _estimate(gain, "+.3f"),
    ]


def _smallest_difference(board: Mapping[str, Any]) -> str:
    losses = len(board["p_values"])
    detectable, planned = board["minimum_detectable_difference"], board["minimum_detectable_planned"]
    return smallest_difference(detectable, planned, losses * (losses - 1) // 2)


def _estimate(estimate: Mapping[str, Any] | None, form: str = ".3f") -> str:
    if estimate is None:
        return MISSING
    return f"{number(estimate['value'], form)} {interval(estimate['low'], estimate['high'], form)}".rstrip()


if __name__ == "__main__":
    text = with_table(README.read_text(encoding="utf-8"), json.loads(BOARD.read_text(encoding="utf-8")))
    README.write_text(text, encoding="utf-8", newline="\n")
