"""What a training under way is continued from after it was stopped: written whole or not at all. Imports no torch.

<run>/cells/<key>/checkpoint-<step>/: one per cell, gone when its training has ended. checkpoint.json vouches for the
other files, which are those of `transformers.Trainer` and of `training/checkpoints.py`.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from harness.run_folder.hashes import file_hash
from harness.run_folder.json_types import Facts
from harness.run_folder.paths import CHECKPOINT, POINTS, SCRATCH, TRAINED, WEIGHTS, point_folder

VOUCHER = "checkpoint.json"


class Origin(Facts):
    """What a training and a checkpoint must have in common for it to go on from there.

    Not how many pairs go through the model at once: that changes rounding only, and may be what a stop was for.
    """

    cell: str
    """Its key: model, loss, all options, learning rate and seed."""
    board: str
    """The board's key, as JSON: all else that decides a result."""
    start_fingerprint: str
    tokens_fingerprint: str
    evaluate_at: tuple[float, ...]
    code: str
    """Hash of the file that defines the loss; "" where there is none."""
    versions: dict[str, str]
    """Of what trains: a training is not done half by one version and half by another."""


class Voucher(Facts):
    """checkpoint.json."""

    origin: Origin
    points: tuple[float, ...]
    """The points along the run that were reached by then: their weights lie in the folder of the cell."""
    files: dict[str, str]
    """sha256 of every other file."""


def find_checkpoint(cell: Path) -> Path | None:
    """Return the newest checkpoint in the folder of a cell."""
    return max(cell.glob(f"{CHECKPOINT}[0-9]*"), key=step_of, default=None)


def step_of(checkpoint: Path) -> int:
    """Return the steps that were done by a checkpoint, from its name."""
    return int(checkpoint.name.removeprefix(CHECKPOINT))


def read_voucher(checkpoint: Path) -> Voucher | None:
    """Return what checkpoint.json says; None where it cannot be read."""
    try:
        return Voucher.model_validate_json((checkpoint / VOUCHER).read_bytes())
    except (OSError, ValueError):
        return None


def why_unusable(checkpoint: Path, origin: Origin) -> str:
    """Return why a training of this origin cannot go on from a checkpoint; "" where it can."""
    voucher = read_voucher(checkpoint)
    if voucher is None:
        return f"{VOUCHER} cannot be read"
    ours, theirs = origin.given(), voucher.origin.given()
    if differing := [name for name in ours if ours[name] != theirs.get(name)]:
        return f"it is of another {', '.join(differing)}"
    for name, known in voucher.files.items():
        path = checkpoint / name
        if not path.is_file() or file_hash(path) != known:
            return f"{name} is damaged or missing"
    for fraction in voucher.points:
        if not (point_folder(checkpoint.parent, fraction) / WEIGHTS).is_dir():
            return f"the weights at {fraction:.10g} of the budget are missing"
    return ""


def keep_checkpoint(cell: Path, made: Path, origin: Origin, points: tuple[float, ...]) -> None:
    """Put the files in `made`, a folder on the disk of the cell, in the place of its earlier checkpoint."""
    paths = sorted(path for path in made.rglob("*") if path.is_file())
    files = {str(path.relative_to(made)): file_hash(path) for path in paths}
    voucher = Voucher(origin=origin, points=points, files=files)
    (made / VOUCHER).write_text(json.dumps(voucher.as_json(), indent=1), encoding="utf-8")
    for path in (*paths, made / VOUCHER, made):
        _to_disk(path)
    earlier = find_checkpoint(cell)
    made.rename(cell / made.name)
    _to_disk(cell)
    if earlier is not None:
        shutil.rmtree(earlier, ignore_errors=True)


def remove_behind(checkpoint: Path) -> None:
    """Remove what its cell has done since this checkpoint, and any earlier one."""
    cell, voucher = checkpoint.parent, read_voucher(checkpoint)
    assert voucher is not None, "it is usable"
    (cell / TRAINED).unlink(missing_ok=True)
    reached = {point_folder(cell, fraction) for fraction in voucher.points}
    others = [path for path in cell.glob(f"{CHECKPOINT}*") if path != checkpoint]
    later = [path for path in cell.glob(f"{POINTS}/*") if path not in reached]
    for path in (*others, *later, cell / WEIGHTS, cell / SCRATCH):
        shutil.rmtree(path, ignore_errors=True)


def remove_checkpoints(cell: Path) -> None:
    """Remove the checkpoints of a cell, and what is left of one that was being written."""
    for path in (*cell.glob(f"{CHECKPOINT}*"), cell / SCRATCH):
        shutil.rmtree(path, ignore_errors=True)


def _to_disk(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
