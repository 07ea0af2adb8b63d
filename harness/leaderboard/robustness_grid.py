"""How losses stand up to noise, as a table of text that every rendering writes down."""

from __future__ import annotations

from harness.leaderboard.decide.robustness import TRUTH, Robustness
from harness.leaderboard.formatting import MISSING, heading, number_with_interval
from harness.leaderboard.grid import Grid
from harness.run_folder.label_noise import GAUSSIAN

TRULY = "own reward against true quality"
"""What `TRUTH` is called in a title."""
USUAL = "dpo"
"""The loss that slopes are compared with, where it is there; else the first one."""


def robustness_grid(of: Robustness) -> Grid:
    """Return a row per loss: its accuracy at each amount of noise, its slope, and how that differs from another's."""
    usual = USUAL if USUAL in of.slopes else next(iter(of.slopes), "")
    rows = [
        (
            label,
            *(number_with_interval(value) for value in values),
            number_with_interval(of.slopes[label], "+.3f"),
            MISSING if label == usual else number_with_interval(of.differences[label][usual], "+.3f"),
        )
        for label, values in of.values.items()
    ]
    unit = "per 1 of the scores' own unit" if of.dial == GAUSSIAN else "from no label changed to all"
    lost = [f"Without a result somewhere on the axis: {', '.join(of.left_out)}."] if of.left_out else []
    return Grid(
        title=f"{of.model}: {TRULY if of.metric == TRUTH else heading(of.metric)} along noise {of.dial}",
        before=(f"{of.n_pairs} test pairs without noise, seeds {', '.join(map(str, of.seeds))}; {_settings(of)}.",),
        head=("loss", *(f"{amount:.10g}" for amount in of.amounts), "slope", *([f"slope over {usual}'s"])),
        rows=tuple(rows),
        after=(
            f"Slope: the change of the metric {unit}, by least squares, with 95 % intervals over the same test pairs"
            f"{' and seeds' if len(of.seeds) > 1 else ''}; above 0 over {usual}'s: it loses less. No interval is "
            "adjusted for the number of losses.",
            *lost,
        ),
    )


def _settings(of: Robustness) -> str:
    shared = of.settings
    rate = "tuned" if shared.learning_rate is None else f"learning rate {shared.learning_rate:g}"
    pairs = f", pairs by {shared.select}" if shared.select else ""
    return f"{of.data}, budget {shared.budget}, {rate}{pairs}"
