"""How much losses depend on their settings, as a table of text that every rendering writes down."""

from __future__ import annotations

from harness.leaderboard.decide.sensitivity import RIVAL, Sensitivity, Spread
from harness.leaderboard.formatting import MISSING, heading, number, number_with_interval
from harness.leaderboard.grid import Grid


def sensitivity_grid(of: Sensitivity) -> Grid:
    """Return a row per loss: its best, median and worst setting, and how many are better than the best DPO."""
    chosen = "on the development split" if of.on_dev else "on test, which favours it"
    lost = [f"Without a result: {'; '.join(of.left_out)}."] if of.left_out else []
    trained_on = f", noise {of.shared.noise}" if of.shared.noise else ""
    trained_on += f", pairs by {of.shared.select}" if of.shared.select else ""
    how = (
        "The best setting is the one with the highest value on the development split, told as measured on test."
        if of.on_dev
        else "No best setting is told, since choosing it on test would flatter: with --evaluate-at 0.5,1 --report "
        "best-on-dev the development split is scored too."
    )
    return Grid(
        title=f"{of.model}: {heading(of.metric)} over settings",
        before=(
            f"Every combination of options and learning rates; {of.data}, budget {of.shared.budget}{trained_on}, seeds "
            f"{', '.join(map(str, of.seeds))}. {how}",
        ),
        head=("loss", "settings", "best", "median", "worst", "over learning rates", f"better than the best {RIVAL}"),
        rows=tuple((loss, *_cells(spread)) for loss, spread in of.losses.items()),
        after=(
            "Over learning rates: the highest less the lowest mean at a rate. Better: settings with a higher value "
            f"than the best {RIVAL}, chosen {chosen}; shown: whose paired difference has its 95 % interval above 0, "
            "not adjusted for their number.",
            *lost,
        ),
    )


def _cells(of: Spread) -> tuple[str, ...]:
    better = MISSING if of.better is None else f"{of.better} of {of.settings}, {of.shown_better} shown"
    return (
        str(of.settings),
        f"{number_with_interval(of.best_value)} {of.best}" if of.best else MISSING,
        number(of.median, ".3f"),
        f"{number_with_interval(of.worst_value)} {of.worst}",
        MISSING if of.over_rates is None else number(of.over_rates, ".3f"),
        better,
    )
