"""The noise floor: what runs of the same code differ by, as measured, and its file in a run folder. Imports no torch.

gate.json: {"schema": 1, "protocol", "metric", "dataset_fingerprint", "settings": the board's key, "runs": how many,
"seeds": of each run, "seeds_differ": whether no two runs share one, "smallest_margin", "share": 0.95, "cells":
[{"model", "label", "sd": of one run, "freedom", "largest_difference": between two of the runs}], "overall": the same
without model and label}.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from harness.api.errors import HarnessError
from harness.run_folder.board_key import BoardKey
from harness.run_folder.limits import read_json
from harness.run_folder.paths import NOISE_FLOOR
from harness.run_folder.store import as_text

SCHEMA = 1
SHARE = 0.95
"""The share of gates between two runs of the same code that pass at the smallest margin."""


class LossOnModel(NamedTuple):
    """What is compared: a loss on a model, over its seeds."""

    model: str
    label: str


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How far repeated runs lie apart."""

    sd: float
    """Standard deviation of one run's value; the average over all cells where that is larger."""
    freedom: float
    """Its degrees of freedom."""
    largest: float
    """The largest difference between two of the runs."""


@dataclass(frozen=True, kw_only=True)
class NoiseFloor:
    """What repeated runs of the same code differ by, and what a gate must allow for it."""

    protocol: int
    metric: str
    dataset_fingerprint: str
    settings: BoardKey
    runs: int
    """How many; of one run with several seeds, how many seeds."""
    seeds: int
    """Seeds of each run; 1 where the seeds of one run were the repeats."""
    seeds_differ: bool
    """Whether no two of the runs share a seed; else it is not what another seed changes."""
    cells: Mapping[LossOnModel, Spread]
    overall: Spread
    smallest_margin: float
    """Gates between two runs of the same code pass with this margin in `SHARE` of cases."""

    def spread_of(self, cell: LossOnModel) -> Spread:
        """Return how far repeated runs of a cell lie apart; a cell not measured counts as the noisiest that was."""
        return self.cells.get(cell) or max(self.cells.values(), key=lambda spread: spread.sd)

    def unfit_for(self, *, dataset_fingerprint: str | None, settings: BoardKey, metric: str, seeds: int | None) -> str:
        """Return why it cannot be used for these runs; empty where it can. `seeds`: of each run, None where unlike."""
        if metric != self.metric:
            return f"it was measured for {self.metric}"
        if dataset_fingerprint != self.dataset_fingerprint:
            return "it was measured on other data"
        if other := sorted(self.settings.differing(settings).keys() - {"dataset"}):  # the fingerprint speaks for it
            return f"it was measured with another {', '.join(other)}"
        if seeds is not None and seeds != self.seeds:
            return f"it was measured with {self.seeds} seeds per run, but here are {seeds}"
        return ""


def render_noise(noise: NoiseFloor) -> str:
    """Return the text of gate.json."""

    def as_json(spread: Spread) -> dict[str, float]:
        return {"sd": spread.sd, "freedom": spread.freedom, "largest_difference": spread.largest}

    return as_text(
        {
            "schema": SCHEMA,
            "protocol": noise.protocol,
            "metric": noise.metric,
            "dataset_fingerprint": noise.dataset_fingerprint,
            "settings": noise.settings.as_json(),
            "runs": noise.runs,
            "seeds": noise.seeds,
            "seeds_differ": noise.seeds_differ,
            "smallest_margin": noise.smallest_margin,
            "share": SHARE,
            "cells": [
                {"model": cell.model, "label": cell.label} | as_json(spread) for cell, spread in noise.cells.items()
            ],
            "overall": as_json(noise.overall),
        }
    )


def read_noise(folder: Path) -> NoiseFloor | None:
    """Return the noise floor that lies in a run folder; None where there is none."""
    path = folder / NOISE_FLOOR
    if not path.is_file():
        return None
    try:
        content = read_json(path)
        if content["schema"] != SCHEMA:
            raise ValueError(f"schema {content['schema']}")
        cells = {LossOnModel(str(cell["model"]), str(cell["label"])): _spread(cell) for cell in content["cells"]}
        if not cells:
            raise ValueError("without a cell")
        return NoiseFloor(
            protocol=int(content["protocol"]),
            metric=str(content["metric"]),
            dataset_fingerprint=content["dataset_fingerprint"],
            settings=BoardKey.of(content["settings"]),
            runs=int(content["runs"]),
            seeds=int(content["seeds"]),
            seeds_differ=bool(content.get("seeds_differ", False)),  # not in older files
            cells=cells,
            overall=_spread(content["overall"]),
            smallest_margin=float(content["smallest_margin"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise HarnessError(
            f"{path}: got {type(error).__name__} {error}, expected what `harness gate --calibrate` writes (schema "
            f"{SCHEMA}); measure it again, or delete it"
        ) from None


def _spread(fields: Mapping[str, Any]) -> Spread:
    spread = Spread(
        sd=float(fields["sd"]), freedom=float(fields["freedom"]), largest=float(fields["largest_difference"])
    )
    if not (0 <= spread.sd < float("inf") and spread.freedom > 0):
        raise ValueError(f"sd {spread.sd:g} with {spread.freedom:g} degrees of freedom")
    return spread
