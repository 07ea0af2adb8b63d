"""Verdict -> Markdown, for the summary page of a CI job."""

from __future__ import annotations

import re

from harness.compare.verdict import Judged, Verdict
from harness.compare.wording import bracket, came_to_nothing, not_compared, number, seeds
from harness.leaderboard.formatting import escaped_for_markdown, markdown_table, one_line


def render(verdict: Verdict) -> str:
    """Return the verdict as Markdown."""
    lines = [f"## Gate: {verdict.status.value}", "", escaped(verdict.headline), ""]
    comparison = verdict.comparison
    if comparison is not None:
        judged = [*verdict.cells, *([verdict.overall] if verdict.overall else [])]
        heading = ["model", "loss", "seeds", "pairs", "BASE", "NEW", "NEW - BASE, 95 % interval", "verdict", "why"]
        lines += [*markdown_table(heading, map(_row, judged)), ""]
    lines += [f"- {escaped(line)}" for line in came_to_nothing(verdict)]
    lines += [f"- {escaped(line)}" for line in (not_compared(comparison) if comparison else [])]
    lines += [f"- {escaped(note)}" for note in verdict.notes]
    if comparison is not None:
        lines += ["", f"BASE {escaped(comparison.base)}, NEW {escaped(comparison.new)}."]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def escaped(text: str) -> str:
    """Return `text` so that Markdown shows it as it is, on one line."""
    return escaped_for_markdown(one_line(text).replace("&", "&amp;"), also="$")


def _row(one: Judged) -> list[str]:
    difference = one.difference
    return [
        escaped(difference.cell.model),
        escaped(difference.cell.label),
        seeds(difference),
        str(difference.n),
        number(difference.base),
        number(difference.new),
        escaped_for_markdown(bracket(difference)),
        one.status.value,
        escaped(one.reason),
    ]
