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
    FEW,
    MISSING,
    interval,
    markdown_table,
    markdown_text,
    number,
    rank_with_range,
    ranks,
    smallest_difference,
)

HERE = Path(__file__).resolve().parent
BOARD = HERE / "nano" / "leaderboard.json"
README = HERE.parent / "README.md"
BEGIN, END = "<!-- board: python leaderboards/readme_table.py -->", "<!-- /board -->"
LEARNED, OWN, YARDSTICK = "pairwise_accuracy@learned", "pairwise_accuracy", "pairwise_accuracy@mean"
NOT_IN_THE_README = ("Seconds ", "Data: ")
"""Disclaimers that begin so are about columns that the short table lacks, or about the data, and stand on the board."""


def section(leaderboard: Mapping[str, Any]) -> str:
    """Return the board over all models as Markdown: title, disclaimers, table, smallest difference."""
    board = next(board for board in leaderboard["boards"] if board["model"] == "all")
    disclaimers = [sentence for sentence in board["disclaimers"] if not sentence.startswith(NOT_IN_THE_README)]
    heading = ("rank", "loss", "learned", "own reward", "over base, @mean", f"rank by {'/'.join(_readings(board))}")
    lines = [
        f"**{board['title']}**",
        "",
        *(line for sentence in board["conclusions"] for line in (sentence, "")),
        *(f"> {sentence}  " for sentence in disclaimers),
        "",
        *markdown_table(heading, [_cells(row) for row in board["rows"]]),
        "",
        f"{board['n_pairs']} held-out pairs of {board['n_prompts']} prompts. In brackets: the ranks that the data "
        "leave open, 95 % intervals. learned: accuracy by each loss's own kind of log-prob relative to the start "
        "checkpoint, 0.5 for an untrained model; own reward: by the reward that its paper gives; over base, @mean: the "
        "gain by the log-prob per token, read alike for all ([how to read a board](docs/reading-a-board.md)). "
        f"{_smallest_difference(board)}.",
    ]
    return "\n".join(lines)


def with_table(readme: str, leaderboard: Mapping[str, Any]) -> str:
    """Return the README with the present board between its markers."""
    marked = re.compile(f"{re.escape(BEGIN)}\n.*?{re.escape(END)}", re.DOTALL)
    if len(marked.findall(readme)) != 1:
        raise SystemExit(f"{README.name}: got no or several tables, expected one between '{BEGIN}' and '{END}'")
    return marked.sub(lambda _: f"{BEGIN}\n{section(leaderboard)}\n{END}", readme)


def _readings(board: Mapping[str, Any]) -> list[str]:
    """Return the readings that the rows of a board have ranks under."""
    return list(board["rows"][0]["readings"])


def _cells(row: Mapping[str, Any]) -> list[str]:
    metrics, gain = row["metrics"], row["vs_base"].get(YARDSTICK)
    return [
        rank_with_range(row["rank"], row["rank_low"], row["rank_high"], row["borderline"]),
        markdown_text(row["label"]),
        _estimate(metrics.get(LEARNED)) if row["status"] == "ok" else row["status"],
        _estimate(metrics.get(OWN)),
        MISSING if row["loss"] == "base" else _estimate(gain, "+.3f"),
        ranks([standing["rank"] for standing in row["readings"].values()]) if row["kind"] == "loss" else MISSING,
    ]


def _smallest_difference(board: Mapping[str, Any]) -> str:
    losses = len(board["p_values"])
    detectable, planned = board["minimum_detectable_difference"], board["minimum_detectable_planned"]
    return smallest_difference(detectable, planned, losses * (losses - 1) // 2)


def _estimate(estimate: Mapping[str, Any] | None, form: str = ".3f") -> str:
    if estimate is None:
        return MISSING
    ends = f"{number(estimate['value'], form)} {interval(estimate['low'], estimate['high'], form)}".rstrip()
    return ends + FEW * estimate.get("few", False)


if __name__ == "__main__":
    text = with_table(README.read_text(encoding="utf-8"), json.loads(BOARD.read_text(encoding="utf-8")))
    README.write_text(text, encoding="utf-8", newline="\n")
