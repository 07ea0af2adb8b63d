"""A comparison and a margin -> the verdict of the gate and its exit code.

In terms of the gain, NEW - BASE of a metric that is better when higher (the other way round otherwise), with 95 %
intervals, of which each end is missed 2.5 % of the time:

- a cell passes where the lower end of its own interval lies above -margin (non-inferiority);
- it regresses where the upper end of the interval that holds for all cells together lies below -margin;
- else it is inconclusive: more prompts or seeds, or a wider margin, would tell.

The gate passes where every cell and the overall difference pass. For that no adjustment is due: if any of them is worse
by the margin or more, the gate passes with at most 2.5 % whatever the others are (intersection-union test, Berger
1982). It says regression where any regresses: if none is worse by more than the margin, at most 2.5 % of gates say so,
however many cells there are (simultaneous intervals). What is promised is over prompts; over training seeds too where
there are several seeds; and over reruns with one seed where the noise floor was measured. docs/gate.md explains it and
shows simulations.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from harness.api.errors import HarnessError
from harness.compare.comparison import Comparison
from harness.compare.paired import Difference
from harness.compare.sides import Trouble
from harness.statistics.intervals import FEWEST_CLUSTERS, MIN_PROMPTS
from harness.statistics.metrics import METRICS

ONE_SEED = "One seed and no noise floor: another training run may differ by more than the margin."


class Status(Enum):
    """The outcome of a gate, or of one line of it."""

    PASS = "pass"
    NOT_COMPARABLE = "not comparable"
    REGRESSION = "regression"
    INCONCLUSIVE = "inconclusive"
    NO_BASELINE = "no baseline"
    FAILED = "failed cells"

    @property
    def exit_code(self) -> int:
        """The exit code of a gate that ends so."""
        return {
            "pass": 0,
            "not comparable": 2,
            "regression": 3,
            "inconclusive": 4,
            "no baseline": 5,
            "failed cells": 6,
        }[self.value]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """One line of the gate."""

    difference: Difference
    status: Status
    """`PASS`, `REGRESSION` or `INCONCLUSIVE`."""
    reason: str
    """One sentence, without the cell's name."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the gate says."""

    status: Status
    headline: str
    """One sentence, and one more where another training run may differ by what the intervals do not cover."""
    margin: float
    comparison: Comparison | None = None
    """None where there was nothing to compare."""
    cells: tuple[Judged, ...] = ()
    overall: Judged | None = None
    troubles: tuple[Trouble, ...] = ()
    """The cells of NEW that failed, diverged, are missing, or lost values of examples."""
    smallest_margin: float = math.nan
    """Any margin above it would have passed; NaN where none would."""
    notes: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 pass, 2 not comparable, 3 regression, 4 inconclusive, 5 no baseline, 6 failed or diverged cells."""
        return self.status.exit_code


def gate(comparison: Comparison, margin: float) -> Verdict:
    """Return the verdict on NEW: it must not be worse than BASE by `margin` or more, in any cell and overall.

    Cells of NEW without a result decide before all else. Raises `HarnessError` for a margin that no gate can have, for
    a metric that is better neither when higher nor when lower, and for runs that differ in settings or options.
    """
    check_margin(margin, comparison.metric)
    _check_same(comparison)
    troubles = (*comparison.troubles, *_lost(comparison))
    cells = tuple(_judge(difference, margin, comparison.metric) for difference in comparison.cells)
    overall = None if comparison.overall is None else _judge(comparison.overall, margin, comparison.metric)
    lines = [*cells, *([overall] if overall else [])]
    if troubles:
        status = Status.FAILED
    elif not cells:
        status = Status.NO_BASELINE
    elif any(line.status is Status.REGRESSION for line in lines):
        status = Status.REGRESSION
    elif overall is None or any(line.status is Status.INCONCLUSIVE for line in lines):
        status = Status.INCONCLUSIVE
    else:
        status = Status.PASS
    return Verdict(
        status=status,
        headline=_headline(status, comparison, margin, lines, troubles),
        margin=margin,
        comparison=comparison,
        cells=cells,
        overall=overall,
        troubles=troubles,
        smallest_margin=_smallest_margin(lines, comparison.metric),
        notes=tuple(_notes(comparison, margin)),
    )


def no_baseline(margin: float, reason: str) -> Verdict:
    """Return the verdict where there is nothing to compare with."""
    return Verdict(status=Status.NO_BASELINE, headline=f"No baseline: {reason}.", margin=margin)


def not_comparable(margin: float, reason: str) -> Verdict:
    """Return the verdict where the runs may not be compared."""
    return Verdict(status=Status.NOT_COMPARABLE, headline=f"Not comparable: {reason}.", margin=margin)


def check_margin(margin: float, metric: str) -> None:
    """Raise `HarnessError` for a margin that no gate can have, and for a metric that no gate can judge."""
    check_metric(metric)
    bounded = METRICS[metric].unit in ("share", "correlation")
    if not (0 < margin < (1 if bounded else math.inf)):
        hint = f"below 1 (the {METRICS[metric].unit} itself, not percent), such as 0.01" if bounded else "such as 0.01"
        raise HarnessError(f"got --margin {margin:g}, expected a number above 0 and {hint}; give another margin")


def _judge(difference: Difference, margin: float, metric: str) -> Judged:
    _, low, family_high = gain(difference, metric)
    if not difference.n:
        return Judged(difference=difference, status=Status.INCONCLUSIVE, reason="No example of it has a value.")
    if family_high < -margin and difference.n_prompts >= FEWEST_CLUSTERS:
        return Judged(
            difference=difference, status=Status.REGRESSION, reason=f"Worse by more than the margin {margin:g}."
        )
    if difference.identical:
        return Judged(difference=difference, status=Status.PASS, reason="Identical to the last bit.")
    if difference.n_prompts < MIN_PROMPTS:
        reason = f"{difference.n_prompts} prompts; fewer than {MIN_PROMPTS} do not show that nothing was lost."
        return Judged(difference=difference, status=Status.INCONCLUSIVE, reason=reason)
    if low > -margin:
        return Judged(difference=difference, status=Status.PASS, reason=f"Not worse by the margin {margin:g}.")
    reason = f"The interval reaches the margin; it would pass from a margin of {-low:.4g} on."
    return Judged(difference=difference, status=Status.INCONCLUSIVE, reason=reason)


def _check_same(comparison: Comparison) -> None:
    changed = [f"{name} {base!r} and {new!r}" for name, (base, new) in comparison.settings.items()]
    changed += [
        f"{entry.cell.label} on {entry.cell.model} ({entry.reason})" for entry in comparison.unmatched if entry.changed
    ]
    if changed:
        raise HarnessError(
            f"{comparison.base} and {comparison.new} cannot be gated: got {'; '.join(changed)}; expected the same "
            "settings and options; run NEW with those of BASE, or make a new baseline"
        )


def _lost(comparison: Comparison) -> list[Trouble]:
    return [
        Trouble(
            cell=difference.cell,
            seed=difference.seeds[0],
            status="unscored",
            reason=f"{difference.lost} examples have a value in BASE and none in NEW",
        )
        for difference in comparison.cells
        if difference.lost
    ]


def _smallest_margin(lines: list[Judged], metric: str) -> float:
    """Return the margin above which every line passes."""
    if not lines or any(line.difference.n_prompts < MIN_PROMPTS and not line.difference.identical for line in lines):
        return math.nan
    return max(0.0, *(-gain(line.difference, metric)[1] for line in lines))


def _headline(
    status: Status, comparison: Comparison, margin: float, lines: list[Judged], troubles: tuple[Trouble, ...]
) -> str:
    what = f"{comparison.metric}, NEW against BASE, margin {margin:g}"
    alone = comparison.of_these_models_only
    warning = f" {ONE_SEED}" if alone else ""
    cells = [line for line in lines if line.difference is not comparison.overall]
    bad = [line for line in lines if line.status is Status.REGRESSION]
    bad = [line for line in bad if line.difference is not comparison.overall] or bad
    names = "; ".join(f"{line.difference.cell.label} on {line.difference.cell.model}" for line in bad[:3])
    more = f" and {len(bad) - 3} more" if len(bad) > 3 else ""
    if status is Status.FAILED:
        also = f" {names}{more} regressed." if bad else ""
        count = len({(trouble.cell, trouble.seed) for trouble in troubles})
        return f"Failed cells: {count} of NEW without a complete result.{also}"
    if status is Status.NO_BASELINE:
        return "No baseline: BASE has a scored cell for none of those in NEW."
    if status is Status.REGRESSION:
        return f"Regression: {names}{more} ({what}).{warning}"
    if status is Status.INCONCLUSIVE:
        open_ = sum(line.status is Status.INCONCLUSIVE for line in cells)
        return f"Inconclusive: {open_} of {len(cells)} cells cannot be told from a regression ({what})."
    passed = "Pass for these trained models" if alone else "Pass"
    return f"{passed}: none of {len(cells)} cell{'' if len(cells) == 1 else 's'} is worse ({what}).{warning}"


def _notes(comparison: Comparison, margin: float) -> list[str]:
    notes = []
    noise = comparison.noise
    if noise and margin < noise.smallest_margin:
        notes.append(
            f"The margin {margin:g} is below the noise floor {noise.smallest_margin:.4g}: two runs of the same code "
            f"pass less often than 95 % (measured from {noise.runs} runs)."
        )
    if comparison.of_these_models_only:
        notes.append(
            "The intervals account for the choice of prompts, not for what another run of the same code would change; "
            "`harness gate --calibrate` measures that, from a run with several seeds or from several runs."
        )
    return notes + list(comparison.notes)


def gain(difference: Difference, metric: str) -> tuple[float, float, float]:
    """Return the gain of NEW over BASE, its lower end, and the upper end that holds for all cells together."""
    if METRICS[metric].direction == "higher":
        return difference.value, difference.low, difference.family_high
    return -difference.value, -difference.high, -difference.family_low


def check_metric(metric: str) -> None:
    """Raise `HarnessError` for a metric that is better neither when higher nor when lower."""
    judged = [name for name, known in METRICS.items() if known.direction != "none"]
    if metric not in judged:
        raise HarnessError(f"got --metric {metric}, expected one of {', '.join(judged)}; name one of them")
