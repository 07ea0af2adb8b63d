"""What the text, Markdown and JUnit reports say alike: numbers, names of cells, what was left out."""

from __future__ import annotations

from harness.compare.comparison import Comparison
from harness.compare.paired import Difference
from harness.compare.verdict import Judged, Verdict
from harness.leaderboard import formatting
from harness.run_folder.noise_floor import LossOnModel


def number(value: float) -> str:
    """Return a number with four decimals, without a negative zero; `-` where there is none."""
    return formatting.number(value, "z.4f", formatting.MISSING_ON_TERMINAL)


def difference_with_interval(difference: Difference) -> str:
    """Return `-0.0200 [-0.0633, +0.0200]`."""
    return formatting.number_with_interval(difference, "+z.4f", formatting.MISSING_ON_TERMINAL)


def seeds(difference: Difference) -> str:
    """Return the seeds of both sides, comma-separated."""
    return ",".join(map(str, difference.seeds))


def name(cell: LossOnModel) -> str:
    """Return a cell as it is named in a sentence."""
    return f"{cell.label} on {cell.model}"


def lines_of(verdict: Verdict) -> list[Judged]:
    """Return every line of a verdict: the cells, then the overall difference."""
    return [*verdict.cells, *([verdict.overall] if verdict.overall else [])]


def settings_line(comparison: Comparison) -> str:
    """Return the settings that differ; empty where none does."""
    pairs = [f"{setting} {base} / {new}" for setting, (base, new) in comparison.settings.items()]
    return f"Settings that differ (BASE / NEW): {'; '.join(pairs)}." if pairs else ""


def not_compared(comparison: Comparison) -> list[str]:
    """Return what is not compared, one line per cell."""
    return [f"{name(unmatched.cell)}: not compared, {unmatched.reason}" for unmatched in comparison.unmatched]


def troubles(verdict: Verdict) -> list[str]:
    """Return the cells of NEW that failed, diverged or lost values, one line per cell."""
    return [
        f"{name(trouble.cell)}, seed {trouble.seed}: {trouble.status}: {trouble.reason}" for trouble in verdict.troubles
    ]
