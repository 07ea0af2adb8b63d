"""Verdict -> Markdown, for the summary page of a CI job."""

from __future__ import annotations

import re

from harness.compare.verdict import Judged, Verdict
from harness.compare.wording import difference_with_interval, lines_of, not_compared, number, seeds, troubles
from harness.leaderboard.formatting import escaped_for_markdown, markdown_table, one_line

HEADING = ("model", "loss", "seeds", "pairs", "BASE", "NEW", "NEW - BASE, 95 % interval", "verdict", "why")


def render(verdict: Verdict) -> str:
    """Return the verdict as Markdown."""
    lines = [f"## Gate: {verdict.status.value}", "", escaped(verdict.headline), ""]
    comparison = verdict.comparison
    if comparison is not None:
        lines += [*markdown_table(HEADING, map(_row, lines_of(verdict))), ""]
    lines += [f"- {escaped(line)}" for line in troubles(verdict)]
    lines += [f"- {escaped(line)}" for line in (not_compared(comparison) if comparison else [])]
    lines += [f"- {escaped(note)}" for note in verdict.notes]
    if comparison is not None:
        lines += ["", f"BASE {escaped(comparison.base)}, NEW {escaped(comparison.new)}."]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def escaped(text: str) -> str:
    """Return `text` so that GitHub shows it as it is, on one line; there `$` begins a formula."""
    return escaped_for_markdown(one_line(text).replace("&", "&amp;"), also="$")


def _row(judged: Judged) -> list[str]:
    difference = judged.difference
    return [
        escaped(difference.cell.model),
        escaped(difference.cell.label),
        seeds(difference),
        str(difference.n),
        number(difference.base),
        number(difference.new),
        escaped_for_markdown(difference_with_interval(difference)),
        judged.status.value,
        escaped(judged.reason),
    ]
