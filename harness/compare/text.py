"""Comparison or Verdict -> text for a terminal, verdict first."""

from __future__ import annotations

from collections.abc import Sequence

from harness.compare.comparison import Comparison
from harness.compare.noise import NoiseFloor
from harness.compare.paired import Difference
from harness.compare.verdict import Status, Verdict
from harness.compare.wording import (
    bracket,
    came_to_nothing,
    not_compared,
    number,
    seeds,
    settings_line,
)
from harness.leaderboard.formatting import one_line


def render_comparison(comparison: Comparison) -> str:
    """Return the comparison as plain text."""
    lines = [
        f"{comparison.metric}, NEW - BASE, paired, 95 % intervals",
        f"BASE {comparison.base}",
        f"NEW  {comparison.new}",
        *([changed] if (changed := settings_line(comparison)) else []),
        *_grid([*comparison.cells, *([comparison.overall] if comparison.overall else [])], []),
        *not_compared(comparison),
        *(
            f"{one.cell.label} on {one.cell.model}, seed {one.seed}: {one.status} in NEW: {one.reason}"
            for one in comparison.troubles
        ),
        *comparison.notes,
    ]
    return _joined(lines)


def render_verdict(verdict: Verdict) -> str:
    """Return the verdict as plain text."""
    lines = [verdict.headline]
    comparison = verdict.comparison
    if comparison is not None:
        judged = [*verdict.cells, *([verdict.overall] if verdict.overall else [])]
        lines += [f"BASE {comparison.base}", f"NEW  {comparison.new}"]
        lines += _grid([one.difference for one in judged], [one.status.value for one in judged])
        lines += [
            f"{one.difference.cell.label} on {one.difference.cell.model}: {one.reason}"
            for one in judged
            if one.status is not Status.PASS
        ]
    lines += came_to_nothing(verdict)
    lines += not_compared(comparison) if comparison is not None else []
    return _joined([*lines, *verdict.notes, f"Exit code {verdict.exit_code}."])


def render_calibration(noise: NoiseFloor, where: str) -> str:
    """Return the noise floor as plain text."""
    cells = [
        (cell.model, cell.label, number(spread.sd), number(spread.largest)) for cell, spread in noise.cells.items()
    ]
    cells.append(("", "overall", number(noise.overall.sd), number(noise.overall.largest)))
    lines = [
        f"Noise floor of {noise.metric}: {noise.smallest_margin:.4g}. With that margin two runs of the same code pass "
        "in 95 of 100 gates.",
        *_columns([("model", "loss", "sd of a run", "largest difference"), *cells]),
        f"Measured from {noise.runs} runs of {noise.seeds} seed{'' if noise.seeds == 1 else 's'} each."
        + ("" if noise.runs >= 5 else " Five runs or more give a floor that is not needlessly high."),
        f"Written: {where}",
    ]
    return _joined(lines)


def _grid(differences: Sequence[Difference], verdicts: Sequence[str]) -> list[str]:
    if not differences:
        return []
    heading = ("model", "loss", "seeds", "pairs", "BASE", "NEW", "difference", *(["verdict"] if verdicts else []))
    rows = [
        (
            one.cell.model,
            one.cell.label,
            seeds(one),
            str(one.n),
            number(one.base),
            number(one.new),
            bracket(one) + (" identical" if one.identical else ""),
            *verdicts[k : k + 1],
        )
        for k, one in enumerate(differences)
    ]
    return ["", *_columns([heading, *rows]), ""]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    clean = [[one_line(text) for text in row] for row in rows]
    widths = [max(len(row[k]) for row in clean) for k in range(len(clean[0]))]
    return [
        "  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in clean
    ]


def _joined(lines: Sequence[str]) -> str:
    return "\n".join(one_line(line) for line in lines).rstrip()
