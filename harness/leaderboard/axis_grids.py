"""What a run's boards say together, by data set, along noise and over settings, as tables of text."""

from __future__ import annotations

from harness.leaderboard.data_grid import data_grids
from harness.leaderboard.grid import Grid
from harness.leaderboard.robustness_grid import robustness_grid
from harness.leaderboard.sensitivity_grid import sensitivity_grid
from harness.leaderboard.table import Table


def axis_grids(table: Table) -> tuple[Grid, ...]:
    """Return the tables across boards: by data set, over settings, along noise; none for a run without axes."""
    return (*data_grids(table), *map(sensitivity_grid, table.sensitivity), *map(robustness_grid, table.robustness))
