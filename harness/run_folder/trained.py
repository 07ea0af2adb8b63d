"""`trained.json`: what is known of a cell that is trained and not scored yet. Imports no torch.

<run>/cells/<key>/weights/, points/<fraction>/weights/, train.parquet, trained.json (last: it vouches for the weights)
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from harness.api.errors import HarnessError
from harness.run_folder.checkpoints import remove_checkpoints
from harness.run_folder.facts import Spend
from harness.run_folder.hashes import damaged, sealed, unsealed
from harness.run_folder.json_types import Facts, Number
from harness.run_folder.paths import POINTS, TRAINED, WEIGHTS, point_folder
from harness.run_folder.point_facts import PointFacts
from harness.run_folder.store import write_atomically


class TrainedCell(Facts):
    """What training left of a cell, all of which goes into its record."""

    status: Literal["ok", "diverged"]
    reason: str
    """Why it diverged; empty otherwise."""
    start_fingerprint: str
    """Fingerprint of the checkpoint it started from."""
    tokens_fingerprint: str | None = None
    """Hash of the token ids that it was trained on and is to be scored on; earlier versions did not write it."""
    spend: Spend
    """What training cost, as in the record."""
    prepared: dict[str, dict[str, Number]]
    """Mean and effective number of pairs of each column that the loss declared or prepared."""
    weights: dict[str, str] = Field(default_factory=dict)
    """sha256 of all that waits to be scored, by its path in the cell's folder; earlier versions did not write it."""
    points: tuple[PointFacts, ...] = ()
    """What was spent by each point along the run, in order, 1 last; absent where none was asked for, or it diverged."""


def write_trained(folder: Path, trained: TrainedCell) -> None:
    """Write `trained.json` into the folder of a cell."""
    write_atomically(folder / TRAINED, sealed(json.dumps(trained.as_json(), indent=1)))


def read_trained(folder: Path) -> TrainedCell | None:
    """Return what training left in the folder of a cell; None where it is not trained.

    Raises `HarnessError` where the file is not what `write_trained` writes.
    """
    path = folder / TRAINED
    if not path.exists():
        return None
    try:
        return TrainedCell.model_validate_json(unsealed(path.read_text(encoding="utf-8")))
    except (ValueError, OSError) as error:
        raise HarnessError(
            f"{path}: got {type(error).__name__}: {' '.join(str(error).split())}, expected a JSON object with "
            f"{', '.join(TrainedCell.model_fields)}; delete the file and run again"
        ) from None


def waits_to_be_scored(
    folder: Path, start_fingerprint: str, tokens_fingerprint: str, evaluate_at: Sequence[float] = ()
) -> bool:
    """Return whether a cell is trained from this checkpoint on these tokens, and what scoring needs of it is there.

    That is its weights at the end and at each point that it is to be scored at.
    """
    trained = read_trained(folder)
    if trained is None:
        return False
    if (trained.start_fingerprint, trained.tokens_fingerprint) != (start_fingerprint, tokens_fingerprint):
        return False
    if damaged(folder, trained.weights):
        return False
    if trained.status != "ok":
        return True
    places = [folder, *(point_folder(folder, fraction) for fraction in evaluate_at if fraction < 1)]
    known = [point.fraction for point in trained.points]
    return known == list(evaluate_at) and all((place / WEIGHTS).exists() for place in places)


def remove_trained(folder: Path) -> None:
    """Remove what an earlier training left in the folder of a cell, the file that vouches for the weights first."""
    (folder / TRAINED).unlink(missing_ok=True)
    remove_points(folder)
    shutil.rmtree(folder / WEIGHTS, ignore_errors=True)


def remove_points(folder: Path) -> None:
    """Remove the points of a cell: of a training that diverged or did not come to its end."""
    shutil.rmtree(folder / POINTS, ignore_errors=True)


def remove_scored(folder: Path, *, keep_end: bool) -> None:
    """Remove the weights of a cell that is scored; `keep_end`: but for those at the end of the training."""
    remove_checkpoints(folder)  # left where it was killed between its training and its scoring
    for weights in folder.glob(f"{POINTS}/*/{WEIGHTS}"):
        shutil.rmtree(weights, ignore_errors=True)
    if not keep_end:
        shutil.rmtree(folder / WEIGHTS, ignore_errors=True)
