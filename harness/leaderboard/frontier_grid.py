"""What a board says of the frontier, as a table of text."""

from __future__ import annotations

import math

from harness.leaderboard.decide.answers_in_words import quality_in_words
from harness.leaderboard.decide.frontier import Frontier
from harness.leaderboard.formatting import MISSING
from harness.leaderboard.grid import Grid, place_cell, value_cell
from harness.statistics.frontier import DISTANCES


def frontier_grid(frontier: Frontier) -> Grid:
    what = quality_in_words(frontier.quality)
    ends = {point.label: point for point in frontier.points}
    losses = list(ends)
    reached = [target for target in DISTANCES if frontier.at.get(target)]
    first = reached[-1] if reached else None
    order = sorted(losses, key=lambda label: -_at(frontier, first, label)) if first else losses
    rows = [
        (
            label,
            *(
                cell
                for target in reached
                for cell in (
                    value_cell(frontier.at[target].get(label), "+.3f"),
                    place_cell(frontier.places[target].get(label)),
                )
            ),
            *(_fit(frontier, label, form) for form in (0, 1)),
        )
        for label in order
    ]
    missed = [f"{target:g}" for target in DISTANCES if target not in reached]
    return Grid(
        title=f"Frontier: {what}",
        before=(
            f"Gain over the start checkpoint in {what}, read where a run is so many nats of KL away from it: by a "
            "straight line in sqrt(KL) between the two points of the run that enclose it, the start being the first. "
            "Intervals are over prompts and seeds, of distance and gain together.",
        ),
        head=(
            "loss",
            *(cell for target in reached for cell in (f"at KL {target:g}", "rank")),
            "d (a - b d)",
            "d (a - b log d)",
        ),
        rows=tuple(rows),
        after=tuple(
            filter(
                None,
                (
                    _begin(frontier),
                    f"No loss reaches a KL of {' or '.join(missed)} nats in every resample." if missed else "",
                    _dominated(frontier),
                    "The last two columns are the forms of Gao et al. 2023 fitted to the points of each loss, d = "
                    "sqrt(KL): a, b and the standard deviation of what they leave; of three points or more.",
                ),
            )
        ),
    )


def _at(frontier: Frontier, target: float, label: str) -> float:
    found = frontier.at[target].get(label)
    return -math.inf if found is None else found.value


def _begin(frontier: Frontier) -> str:
    """Return where the runs have their first points, up to which a curve is a straight line from the start."""
    first: dict[tuple[str, int], float] = {}
    for point in frontier.points:
        first.setdefault((point.label, point.seed), point.kl.value)
    near, far = min(first.values()), max(first.values())
    return (
        f"The first points of the runs lie at a KL of {near:.3g} to {far:.3g} nats: nearer, the line is from the start."
    )


def _fit(frontier: Frontier, label: str, form: int) -> str:
    made = frontier.fits.get(label)
    if not made:
        return MISSING
    return f"{made[form].alpha:.3g}, {made[form].beta:.3g} (sd {made[form].residual:.2g})"


def _dominated(frontier: Frontier) -> str:
    """Return which losses have less quality at more KL than another, at the end of the budget."""
    if not frontier.dominated:
        return "At the end of the budget no loss has both less gain and more KL than another."
    shown = [f"{each.label} by {each.by}" for each in frontier.dominated if each.shown]
    open_ = [f"{each.label} by {each.by}" for each in frontier.dominated if not each.shown]
    parts = [f"shown (both differences have 95 % intervals on one side of 0): {', '.join(shown)}"] if shown else []
    parts += [f"by their values alone: {', '.join(open_)}"] if open_ else []
    return f"Dominated at the end of the budget, less gain at more KL than another, {'; '.join(parts)}."
