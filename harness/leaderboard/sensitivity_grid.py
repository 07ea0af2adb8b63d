"""How much losses depend on their settings, as a table of text that every rendering writes down."""

from __future__ import annotations

from harness.leaderboard.decide.sensitivity import RIVAL, Sensitivity, Spread
from harness.leaderboard.formatting import MISSING, heading, number, number_with_interval
from harness.leaderboard.grid import Grid


def sensitivity_grid(of: Sensitivity) -> Grid:
    """Return a row per loss: its best, median and worst setting, and how many are better than the best DPO."""
    if of.trials:
        return _of_trials(of)
    chosen = "on the development split" if of.on_dev else "on test, which favours it"
    how = (
        "The best setting is the one with the highest value on the development split, told as measured on test."
        if of.on_dev
        else "No best setting is told, since choosing it on test would flatter: with --evaluate-at 0.5,1 --report "
        "best-on-dev the development split is scored too."
    )
    return Grid(
        title=f"{of.model}: {heading(of.metric)} over settings",
        before=(
            f"Every combination of options and learning rates; {_settings(of)}, seeds "
            f"{', '.join(map(str, of.seeds))}. {how}",
        ),
        head=("loss", "settings", "best", "median", "worst", "over learning rates", f"better than the best {RIVAL}"),
        rows=tuple(
            (
                loss,
                *_spread(each),
                MISSING if each.over_rates is None else number(each.over_rates, ".3f"),
                _better(each),
            )
            for loss, each in of.losses.items()
        ),
        after=(
            "Over learning rates: the highest less the lowest mean at a rate. Better: settings with a higher value "
            f"than the best {RIVAL}, chosen {chosen}; shown: whose paired difference has its 95 % interval above 0, "
            "not adjusted for their number.",
            *_lost(of),
        ),
    )


def _of_trials(of: Sensitivity) -> Grid:
    """Return a row per loss over its trials, told as of the development split."""
    return Grid(
        title=f"{of.model}: {heading(of.metric)} over trials, on the development split",
        before=(
            "Every trial, its options and learning rate drawn alike for every loss from the space that it declares; "
            f"{_settings(of)}, seed {', '.join(map(str, of.seeds))}. The best trial is chosen on the very pairs that "
            "it is told of, which flatters it: trained anew and measured on test it is on the board of equal tuning.",
        ),
        head=("loss", "trials", "best", "median", "worst", f"better than the best {RIVAL}"),
        rows=tuple((loss, *_spread(spread), _better(spread)) for loss, spread in of.losses.items()),
        after=(
            f"Better: trials with a higher value than the best {RIVAL}; shown: whose paired difference has its 95 % "
            "interval above 0, not adjusted for their number.",
            *_lost(of),
        ),
    )


def _settings(of: Sensitivity) -> str:
    """Return what all settings have in common."""
    noise = f", noise {of.shared.noise}" if of.shared.noise else ""
    pairs = f", pairs by {of.shared.select}" if of.shared.select else ""
    return f"{of.data}, budget {of.shared.budget}{noise}{pairs}"


def _lost(of: Sensitivity) -> list[str]:
    return [f"Without a result: {'; '.join(of.left_out)}."] if of.left_out else []


def _spread(of: Spread) -> tuple[str, ...]:
    return (
        str(of.settings),
        f"{number_with_interval(of.best_value)} {of.best}" if of.best else MISSING,
        number(of.median, ".3f"),
        f"{number_with_interval(of.worst_value)} {of.worst}",
    )


def _better(of: Spread) -> str:
    return MISSING if of.better is None else f"{of.better} of {of.settings}, {of.shown_better} shown"
