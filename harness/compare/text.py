"""Comparison or Verdict -> text for a terminal, verdict first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.compare.comparison import Comparison
from harness.compare.paired import Difference
from harness.compare.verdict import Status, Verdict
from harness.compare.wording import (
    difference_with_interval,
    lines_of,
    name,
    not_compared,
    number,
    seeds,
    settings_line,
    troubles,
)
from harness.leaderboard.formatting import one_line
from harness.run_folder.noise_floor import NoiseFloor
from harness.run_folder.paths import NOISE_FLOOR


def render_comparison(comparison: Comparison) -> str:
    """Return the comparison as plain text."""
    lines = [
        f"{comparison.metric}, NEW - BASE, paired, 95 % intervals",
        f"BASE {comparison.base}",
        f"NEW  {comparison.new}",
        *([changed] if (changed := settings_line(comparison)) else []),
        *_differences([*comparison.cells, *([comparison.overall] if comparison.overall else [])]),
        *not_compared(comparison),
        *(
            f"{name(trouble.cell)}, seed {trouble.seed}: {trouble.status} in NEW: {trouble.reason}"
            for trouble in comparison.troubles
        ),
        *comparison.notes,
    ]
    return _joined(lines)


def render_verdict(verdict: Verdict) -> str:
    """Return the verdict as plain text."""
    lines = [verdict.headline]
    comparison = verdict.comparison
    if comparison is not None:
        judged = lines_of(verdict)
        lines += [f"BASE {comparison.base}", f"NEW  {comparison.new}"]
        lines += _differences([line.difference for line in judged], [line.status.value for line in judged])
        lines += [f"{name(line.difference.cell)}: {line.reason}" for line in judged if line.status is not Status.PASS]
    lines += troubles(verdict)
    lines += not_compared(comparison) if comparison is not None else []
    return _joined([*lines, *verdict.notes, f"Exit code {verdict.exit_code}."])


def render_calibration(noise: NoiseFloor, folder: Path) -> str:
    """Return the noise floor, which was written into the run `folder`, as plain text."""
    cells = [
        (cell.model, cell.label, number(spread.sd), number(spread.largest)) for cell, spread in noise.cells.items()
    ]
    cells.append(("", "overall", number(noise.overall.sd), number(noise.overall.largest)))
    lines = [
        f"Noise floor of {noise.metric}: {noise.smallest_margin:.4g}. With that margin two runs of the same code pass "
        "in 95 of 100 gates.",
        *_aligned([("model", "loss", "sd of a run", "largest difference"), *cells]),
        f"Measured from {noise.runs} runs of {noise.seeds} seed{'' if noise.seeds == 1 else 's'} each."
        + ("" if noise.runs >= 5 else " Five runs or more give a floor that is not needlessly high.")
        + (
            ""
            if noise.seeds_differ
            else " They share seeds, so what another seed changes is not in it: no board uses it."
        ),
        f"Written: {folder / NOISE_FLOOR}",
        f"Leaderboards of one seed take it up when made again: harness leaderboard {folder}",
    ]
    return _joined(lines)


def _differences(differences: Sequence[Difference], verdicts: Sequence[str] = ()) -> list[str]:
    """Return a table of differences, with the verdict on each where there are verdicts."""
    if not differences:
        return []
    heading = ("model", "loss", "seeds", "pairs", "BASE", "NEW", "difference", *(["verdict"] if verdicts else []))
    rows = [
        (
            difference.cell.model,
            difference.cell.label,
            seeds(difference),
            str(difference.n),
            number(difference.base),
            number(difference.new),
            difference_with_interval(difference) + (" identical" if difference.identical else ""),
            *verdicts[k : k + 1],
        )
        for k, difference in enumerate(differences)
    ]
    return ["", *_aligned([heading, *rows]), ""]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows of text as lines whose columns begin at the same place."""
    clean = [[one_line(text) for text in row] for row in rows]
    widths = [max(len(row[k]) for row in clean) for k in range(len(clean[0]))]
    return [
        "  " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in clean
    ]


def _joined(lines: Sequence[str]) -> str:
    return "\n".join(one_line(line) for line in lines).rstrip()
