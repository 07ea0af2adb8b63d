"""What every renderer says alike: numbers, names on one line, what was left out."""

from __future__ import annotations

from harness.compare.comparison import Comparison
from harness.compare.paired import Difference
from harness.compare.verdict import Verdict
from harness.leaderboard import formatting


def number(value: float, sign: bool = False) -> str:
    """Return a number with four decimals, without a negative zero; `-` where there is none."""
    return formatting.number(value, "+z.4f" if sign else "z.4f", formatting.MISSING_ON_TERMINAL)


def bracket(one: Difference) -> str:
    """Return the difference with its interval."""
    return formatting.number_with_interval(one, "+z.4f", formatting.MISSING_ON_TERMINAL)


def seeds(one: Difference) -> str:
    """Return the seeds, comma-separated."""
    return ",".join(map(str, one.seeds))


def settings_line(comparison: Comparison) -> str:
    """Return the settings that differ; empty where none does."""
    pairs = [f"{name} {one} / {other}" for name, (one, other) in comparison.settings.items()]
    return f"Settings that differ (BASE / NEW): {'; '.join(pairs)}." if pairs else ""


def not_compared(comparison: Comparison) -> list[str]:
    """Return what is not compared, a line each."""
    return [f"{one.cell.label} on {one.cell.model}: not compared, {one.reason}" for one in comparison.unmatched]


def came_to_nothing(verdict: Verdict) -> list[str]:
    """Return the cells of NEW that came to nothing, a line each."""
    return [
        f"{one.cell.label} on {one.cell.model}, seed {one.seed}: {one.status}: {one.reason}" for one in verdict.troubles
    ]
