"""Records -> the cells of a study: each row of the run at each setting of its axes, with all its seeds and models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from harness.api import HarnessError
from harness.leaderboard.decide.align_examples import gather
from harness.leaderboard.decide.estimates import Unit
from harness.planning.axes import DEFAULTS
from harness.run_folder.record import Record
from harness.statistics.factorial import GridValues
from harness.statistics.intervals import Floats, cluster_sums

OF_BOARDS = ("dataset", "noise", "select", "budget", "learning_rate", "optimizer", "trials")
"""What sets the boards of a run apart, as factors are called."""
LOSS, NONE = "loss", "none"


@dataclass(frozen=True, kw_only=True)
class StudyCell:
    """A row of the run at one setting of its axes."""

    label: str
    setting: str
    """What its board is set to that others are not: `noise flip=0.2`; empty where there is one board."""
    factors: Mapping[str, str]
    """The loss, its options and what its board is set to."""

    @property
    def name(self) -> str:
        """What sentences call it."""
        return f"{self.label} at {self.setting}" if self.setting else self.label


@dataclass(frozen=True, kw_only=True)
class Cells:
    """What the cells of a study have in common, and the metric of each."""

    cells: tuple[StudyCell, ...]
    settings: tuple[str, ...]
    """In the order of the boards."""
    grid: GridValues
    models: tuple[str, ...]
    seeds: tuple[int, ...]
    metric: str
    n_pairs: int
    left_out: tuple[str, ...]
    """Cells without a result on some seed or model."""

    def places(self, **wanted: str) -> list[int]:
        """Return the places of the cells whose label, setting or factors are these."""
        return [
            place
            for place, cell in enumerate(self.cells)
            if all(
                {"label": cell.label, "setting": cell.setting, **cell.factors}.get(k) == v for k, v in wanted.items()
            )
        ]

    def only(self, places: Sequence[int]) -> GridValues:
        """Return the values of some cells."""
        return GridValues(per_seed=self.grid.per_seed[:, places], sums=self.grid.sums[places], sizes=self.grid.sizes)


def cells_of(records: Sequence[Record], metric: str) -> Cells:
    """Return the cells of a run's ranked records, over the test pairs that all of them have.

    Raises `HarnessError` where no cell has a result.
    """
    losses = [record for record in records if record.kind == "loss"]
    varying = [name for name in OF_BOARDS if len({_of_board(record, name) for record in losses}) > 1]
    if "trials" in varying:  # tuned boards have no learning rate of their own
        varying = [name for name in varying if name != "learning_rate"]
    found: dict[tuple[str, str], dict[tuple[str, int], Record]] = {}
    shown: dict[tuple[str, str], StudyCell] = {}
    for record in losses:
        cell = _cell(record, varying)
        shown.setdefault((cell.setting, cell.label), cell)
        of = found.setdefault((cell.setting, cell.label), {})
        if record.scored and record.seed is not None:
            of[record.model.name, record.seed] = record
    models = tuple(dict.fromkeys(record.model.name for record in losses))
    seeds = tuple(sorted({record.seed for record in losses if record.seed is not None}))
    wanted = {(model, seed) for model in models for seed in seeds}
    whole = [key for key, of in found.items() if set(of) == wanted]
    if not whole:
        raise HarnessError("got a run without a cell that has a result for every seed and model; finish the run first")
    named = {key: shown[key].name for key in whole}
    units = {Unit(named[key], *each): found[key][each] for key in whole for each in sorted(wanted)}
    evidence = gather(units)
    values = evidence.values[metric]
    whole = [key for key in whole if all(Unit(named[key], *each) in values.units for each in wanted)]
    by_seed = np.array(
        [[np.mean([values.units[Unit(named[key], m, s)] for m in models], axis=0) for key in whole] for s in seeds]
    )  # (S, C, n)
    sums, sizes = cluster_sums(values.prompt, by_seed.mean(0), values.n_prompts)
    return Cells(
        cells=tuple(shown[key] for key in whole),
        settings=tuple(dict.fromkeys(setting for setting, _ in shown)),
        grid=GridValues(per_seed=by_seed.mean(2), sums=sums, sizes=sizes[0]),
        models=models,
        seeds=seeds,
        metric=metric,
        n_pairs=len(values.prompt),
        left_out=tuple(cell.name for key, cell in shown.items() if key not in whole),
    )


def weights_of(cells: Cells, plus: Sequence[int], minus: Sequence[int]) -> Floats:
    """Return the weights (C,) of the mean of some cells less that of others; a cell on both sides counts on both."""
    weights = np.zeros(len(cells.cells))
    for places, sign in ((plus, 1.0), (minus, -1.0)):
        for place in places:
            weights[place] += sign / len(places)
    return weights


def _cell(record: Record, varying: Sequence[str]) -> StudyCell:
    options = {name: NONE if value is None else str(value) for name, value in record.loss.options.items()}
    boards = {name: _of_board(record, name) for name in OF_BOARDS}
    return StudyCell(
        label=record.label,
        setting=", ".join(in_words(name, boards[name]) for name in varying),
        factors={**options, **boards, LOSS: record.loss.name},
    )


def _of_board(record: Record, name: str) -> str:
    value = record.board.as_json().get(name)
    return DEFAULTS.get(name, NONE) if value is None else f"{value:g}" if isinstance(value, float) else str(value)


def in_words(name: str, value: str) -> str:
    """Return a setting of a board as a heading: `noise flip=0.2`, `learning rate 0.001`, `8 trials`."""
    if name == "trials":
        return "untuned" if value == NONE else f"best of {value} trials"
    return value if name == "dataset" else f"{name.replace('_', ' ')} {value}"
