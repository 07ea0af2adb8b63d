"""What happens in a run, as values: a worker tells the command that started it, which tells the progress bar.

They are defined here, below both sides: the pipeline (`harness.cell`) makes them and must not know who runs it, and
`harness.execute` receives them. A worker's events are pickled on their way through a pipe.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Phase:
    """A worker begins something that all cells of its model need."""

    text: str
    scoring: bool = False
    """Whether the scorer is started, and trained cells wait for it."""


@dataclass(frozen=True, kw_only=True)
class TrainingBegins:
    """A worker begins to train a cell."""

    key: str


@dataclass(frozen=True, kw_only=True)
class TrainingGoesOn:
    """The training of a cell goes on from where it was stopped, or cannot."""

    key: str
    step: int
    """Steps that were done; 0: it begins anew."""
    reason: str = ""
    """Why it begins anew although it was kept."""


@dataclass(frozen=True, kw_only=True)
class StepTaken:
    """One optimiser step of a cell is done."""

    key: str
    step: int
    """Steps done so far."""
    steps: int | None
    """Steps of the whole budget; None where only the clock can tell."""
    loss: float
    """Of this step."""


@dataclass(frozen=True, kw_only=True)
class MemoryOut:
    """Memory did not hold the pairs that went through the model at once: the training goes on with fewer of them."""

    key: str
    step: int
    """The first with fewer."""
    pairs: int
    """As many at once from there on."""


@dataclass(frozen=True, kw_only=True)
class CheckpointWritten:
    """The training of a cell is kept as it is, or cannot be."""

    key: str
    step: int
    trouble: str = ""
    """Why it could not be written; it goes on as it was."""


@dataclass(frozen=True, kw_only=True)
class CellTrained:
    """A cell is trained, or has diverged."""

    key: str
    status: str
    """`ok` or `diverged`."""
    reason: str
    seconds: float
    loss: float
    """Of the last step; NaN where there was none."""


@dataclass(frozen=True, kw_only=True)
class SharedWork:
    """What was done once for all cells of a model, and what it would have cost each cell alone.

    A run that was resumed counts cells and seconds since then.
    """

    cells: int
    """Cells that have been trained."""
    start_seconds: float
    """Time to make or find the start checkpoint."""
    token_seconds: float
    """Time to turn all text into ids."""
    engine_seconds: float
    """Time to start the scoring engine."""
    reference_cells: int
    """Cells whose loss asks for reference log-probs."""
    reference_seconds: float
    """Time to compute those; what came from the cache is not in it."""
    saved_seconds: float
    """Start, ids and engine for every cell but one, and the reference passes that came from the cache."""


@dataclass(frozen=True, kw_only=True)
class ScorerRestarts:
    """The scorer died, and is started anew for what it was at."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class ScoringBegins:
    """The scorer begins with a cell, or with the start checkpoint."""

    key: str | None
    """None: the start checkpoint, which every cell is compared with."""


@dataclass(frozen=True, kw_only=True)
class AnsweringBegins:
    """The weights that the scorer has, of a cell or of the start checkpoint, begin to answer."""

    key: str | None
    """None: the start checkpoint."""


@dataclass(frozen=True, kw_only=True)
class CellScored:
    """A cell has its record."""

    key: str


@dataclass(frozen=True, kw_only=True)
class CellFailed:
    """A cell failed; the others go on."""

    key: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class CellWanted:
    """A worker has trained all that it was given: it waits for another cell, or for leave to score these."""


@dataclass(frozen=True, kw_only=True)
class WorkerDone:
    """A worker has done all it was given: its last word."""


@dataclass(frozen=True, kw_only=True)
class WorkerFailed:
    """A worker cannot go on, whatever the cell: its last word."""

    reason: str


@dataclass(frozen=True, kw_only=True)
class Stopping:
    """A training is to end, and is being kept as it is."""

    key: str
    seconds: float
    """The time it has for that."""


@dataclass(frozen=True, kw_only=True)
class ModelBegins:
    """Computing the cells of a model begins."""

    cells: int
    """Those without a result."""


@dataclass(frozen=True, kw_only=True)
class NothingToCompute:
    """Every cell of a model has its result."""


@dataclass(frozen=True, kw_only=True)
class ModelFailed:
    """A model's cells could not be computed; other models go on."""

    reason: str


CellEvent = (
    Phase
    | TrainingBegins
    | TrainingGoesOn
    | StepTaken
    | MemoryOut
    | CheckpointWritten
    | CellTrained
    | SharedWork
    | ScorerRestarts
    | ScoringBegins
    | AnsweringBegins
    | CellScored
    | CellFailed
)
"""What the pipeline tells."""
WorkerEvent = CellEvent | CellWanted | WorkerDone | WorkerFailed
"""What comes through a worker's pipe."""
RunEvent = CellEvent | Stopping | ModelBegins | NothingToCompute | ModelFailed
"""What is reported of a run, each with the name of its model."""

Tell = Callable[[CellEvent], None]
"""`tell(event)`: how the pipeline tells whoever runs it."""
Report = Callable[[str, RunEvent], None]
"""`report(model, event)`: told of every event of every worker, in order."""
