"""Write the tables of the committed boards into the pages that show them, each between its two markers.

Run by `tox -e board`; by hand: python leaderboards/tables.py
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from html import escape
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
    things_to_know,
)

HERE = Path(__file__).resolve().parent
PAGES = (
    HERE.parent / "README.md",
    HERE / "README.md",
    HERE.parent / "docs" / "real-board.md",
)
BEGIN, END = "<!-- board {name}: python leaderboards/tables.py -->", "<!-- /board -->"
LEARNED, OWN, YARDSTICK = "pairwise_accuracy@learned", "pairwise_accuracy", "pairwise_accuracy@mean"
NOT_IN_SHORT = ("Seconds ", "Data: ")
"""Disclaimers that begin so are about columns that the short table lacks, or about the data, and stand on the board."""


def section(leaderboard: Mapping[str, Any]) -> str:
    """Return the board over all models, or of the only one, as Markdown, with what it says of itself."""
    board = board_shown(leaderboard)
    disclaimers = [sentence for sentence in board["disclaimers"] if not sentence.startswith(NOT_IN_SHORT)]
    heading = ("rank", "loss", "learned", "own reward", "accuracy@mean", "over base, @mean")
    headline, *rest = board["conclusions"]
    lines = [
        f"**{board['title']}**",
        "",
        f"**{markdown_text(headline)}** {markdown_text(' '.join(rest))}",
        "",
        f"<details><summary>{escape(things_to_know(len(disclaimers), board['weightiest']))}</summary>",
        "",
        *(f"- {markdown_text(sentence)}" for sentence in disclaimers),
        "",
        "</details>",
        "",
        *markdown_table((*heading, f"rank by {'/'.join(_readings(board))}"), [_cells(row) for row in board["rows"]]),
        "",
        f"{board['n_pairs']} held-out pairs of {board['n_prompts']} prompts. In brackets: the ranks that the data "
        "leave open, 95 % intervals. learned: accuracy by each loss's own kind of log-prob relative to the start "
        "checkpoint, 0.5 for an untrained model; own reward: by the reward that its paper gives; accuracy@mean: by the "
        "log-prob per token, read alike for all, with the gain in it over the base."
        f" {_smallest_difference(board)}.",
    ]
    return "\n".join(lines)


def board_shown(leaderboard: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the board over all models, or the only one there is."""
    boards = leaderboard["boards"]
    return next((board for board in boards if board["model"] == "all"), boards[0])


def rates(folders: Sequence[Path]) -> str:
    """Return what each loss learned at each learning rate, by run folder, as Markdown: lowest rate first."""
    boards = sorted((board_shown(_read(folder)) for folder in folders), key=_trained)
    losses = sorted({row["label"] for board in boards for row in board["rows"] if row["kind"] == "loss"})
    rows = []
    for board in boards:
        adapter, rate = _trained(board)
        rows.append([adapter, f"{rate:g}", *(_learned_and_own(board, loss) for loss in losses)])
    return "\n".join(markdown_table(("trained", "learning rate", *losses), rows))


def answers(leaderboard: Mapping[str, Any]) -> str:
    """Return what a board says of the answers of its losses, rated by its first judge, as Markdown."""
    board = board_shown(leaderboard)
    rating = f"rating@{board['answers']['judges'][0]['name']}"
    at_kl = next(found["at_kl"] for found in board["frontiers"] if found["quality"] == rating)
    shown = [kl for kl in at_kl if at_kl[kl]]
    rows = []
    for row in (row for row in board["rows"] if "answers" in row):
        values, over_base = row["answers"]["values"], row["answers"]["over_base"]
        rows.append(
            [
                markdown_text(row["label"]),
                _estimate(row["metrics"][LEARNED]),
                _estimate(values["kl_low_variance"], ".1f"),
                _estimate(values["length"], ".0f"),
                _estimate(values[rating]),
                _estimate(over_base.get(rating), "+.3f"),
                *(_estimate(at_kl[kl].get(row["label"]), "+.3f") for kl in shown),
            ]
        )
    heads = ("loss", "learned", "KL, nats", "tokens", "rating", "over base", *(f"at KL {kl}" for kl in shown))
    said = " ".join(board["conclusions"])
    return "\n".join([f"**{board['title']}**", "", said, "", *markdown_table(heads, rows)])


def studies(folder: Path) -> str:
    """Return what each study asked and found, as Markdown, folded."""
    parts = []
    for file in sorted(folder.glob("*/study.toml")):
        question = tomllib.loads(file.read_text(encoding="utf-8"))["question"]
        report = (file.parent / "study.md").read_text(encoding="utf-8")
        findings = report.partition("## Findings\n\n")[2].partition("\n\n")[0]
        link = f"[Hypothesis, tables, records](studies/{file.parent.name}/study.md)"
        parts += [f"**{markdown_text(question)}** {link}", "", findings, ""]
    return "\n".join(parts).rstrip()


def with_tables(page: str, name: str) -> str:
    """Return a page with the present tables between its markers. Raises `SystemExit` for a page without any."""
    marked = re.compile(
        f"{re.escape(BEGIN).replace(re.escape('{name}'), '([a-z0-9-]+)')}\n.*?{re.escape(END)}", re.DOTALL
    )
    if not marked.search(page):
        raise SystemExit(f"{name}: got no table, expected one between '{BEGIN}' and '{END}'")
    return marked.sub(lambda found: f"{BEGIN.format(name=found[1])}\n{table_of(found[1])}\n{END}", page)


def table_of(name: str) -> str:
    """Return the table of the board, or the curve of the runs, in leaderboards/<name>."""
    folder = HERE / name
    if name == "studies":
        return studies(folder)
    if (folder / "leaderboard.json").exists():
        found = _read(folder)
        return answers(found) if "answers" in board_shown(found) else section(found)
    return rates([path.parent for path in folder.glob("*/leaderboard.json")])


def _read(folder: Path) -> Mapping[str, Any]:
    found: Mapping[str, Any] = json.loads((folder / "leaderboard.json").read_text(encoding="utf-8"))
    return found


def _trained(board: Mapping[str, Any]) -> tuple[str, float]:
    """Return what is trained, all weights or adapters, and the learning rate."""
    return str(board["settings"]["adapter"]), float(board["settings"]["learning_rate"])


def _learned_and_own(board: Mapping[str, Any], loss: str) -> str:
    row = next(row for row in board["rows"] if row["label"] == loss)
    return f"{_estimate(row['metrics'][LEARNED])}; own {number(row['metrics'][OWN]['value'], '.3f')}"


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
        _estimate(metrics.get(YARDSTICK)),
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
    for page in PAGES:
        text = with_tables(page.read_text(encoding="utf-8"), page.name)
        page.write_text(text, encoding="utf-8", newline="\n")
