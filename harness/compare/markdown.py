"""Verdict -> Markdown, for the summary page of a CI job."""

from __future__ import annotations

import re

from harness.compare.verdict import Judged, Verdict
from harness.compare.wording import bracket, came_to_nothing, not_compared, number, one_line, seeds


def render(verdict: Verdict) -> str:
    """Return the verdict as Markdown."""
    lines = [f"## Gate: {verdict.status.value}", "", escaped(verdict.headline), ""]
    comparison = verdict.comparison
    if comparison is not None:
        judged = [*verdict.cells, *([verdict.overall] if verdict.overall else [])]
        heading = ["model", "loss", "seeds", "pairs", "BASE", "NEW", "NEW - BASE, 95 % interval", "verdict", "why"]
        lines += [_line(heading), _line(["---"] * len(heading)), *(_line(_row(one)) for one in judged), ""]
    lines += [f"- {escaped(line)}" for line in came_to_nothing(verdict)]
    lines += [f"- {escaped(line)}" for line in (not_compared(comparison) if comparison else [])]
    lines += [f"- {escaped(note)}" for note in verdict.notes]
    if comparison is not None:
        lines += ["", f"BASE {escaped(comparison.base)}, NEW {escaped(comparison.new)}."]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def escaped(text: str) -> str:
    """Return `text` so that Markdown shows it as it is, on one line."""
    return re.sub(r"([\\`*_{}\[\]<>#|~$])", r"\\\1", one_line(text).replace("&", "&amp;"))


def _row(one: Judged) -> list[str]:
    difference = one.difference
    return [
        escaped(difference.cell.model),
        escaped(difference.cell.label),
        seeds(difference),
        str(difference.n),
        number(difference.base),
        number(difference.new),
        bracket(difference).replace("[", "\\[").replace("]", "\\]"),
        one.status.value,
        escaped(one.reason),
    ]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"
