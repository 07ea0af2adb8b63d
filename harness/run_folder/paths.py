"""Names of the files and folders of a run, and a new folder that is complete or never was."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.api.errors import HarnessError

RUN_FILE, MANIFEST, LOCK = "run.toml", "manifest.json", ".lock"
"""Files of a run: its options, what it ran on, and what keeps a second process from computing it."""
CELLS, LOGS, PLOTS = "cells", "logs", "plots"
"""Folders of a run: a folder per cell, the output of its workers, the pictures of its page."""
TENSORBOARD = "tensorboard"
"""Folder of a run: a folder per cell with its events, where they are asked for."""
BOARD_JSON, BOARD_MARKDOWN, BOARD_CSV, PAGE = (
    *("leaderboard.json", "leaderboard.md", "leaderboard.csv"),
    "leaderboard.html",
)
BOARDS = (BOARD_JSON, BOARD_MARKDOWN, BOARD_CSV)
"""The leaderboards that the records decide byte for byte; the page has pictures too, which libraries draw."""
PICTURE_SPECS = "pictures.json"
"""In `PLOTS`: the pictures as Vega-Lite has them, from which their files are drawn."""
NOISE_FLOOR = "gate.json"
"""Beside the baseline of a gate: what repeated runs of the same code differ by."""
RECORD, ROWS, RESPONSES, TRAIN_LOG = "record.json", "rows.parquet", "responses.parquet", "train.parquet"
GENERATIONS = "generations.parquet"
"""In a cell's folder: the answers of its model, where a run generates."""
JUDGEMENTS = "judgements"
"""In a cell's folder, or in that of a point: a table per judge."""
CELL_FILES = (ROWS, RESPONSES, TRAIN_LOG, GENERATIONS, RECORD)
"""What a finished cell consists of; the record is written last."""
POINTS = "points"
"""In a cell: a folder per point along the run, by the fraction of the budget; see `point_folder`."""
DEV = "dev"
"""In a point: its tables on the development split, where a run chooses among points."""
TRAINED, WEIGHTS, SCRATCH, MERGED = "trained.json", "weights", "scratch", "merged"
"""What training leaves for scoring, and its scratch space; the facts of training stay."""
CHECKPOINT = "checkpoint-"
"""So begins the name of what a training under way is continued from, in the folder of its cell; behind it, the step."""
TUNING, TUNED = "tuning", "tuned-"
"""Folders inside a run, each a run folder of its own: the trials, and `tuned-<trials>`, what was chosen from them."""
AXIS = "at-"
"""So begin folders inside a run, each a run folder of its own: the other settings of an axis, `at-budget=pairs=512`."""
ELSEWHERE_BOARDS = "elsewhere"
"""Folder inside a run, a run folder of its own: checkpoints trained elsewhere that read other tokens than the run."""
TRIALS = "trials.csv"
"""In `TUNING`: the list of the trials."""


def cache_folder() -> Path:
    """Return where nano models and reference log-probs are kept: HARNESS_CACHE, or the user's cache folder."""
    named = os.environ.get("HARNESS_CACHE")
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "preference-harness"


def point_folder(cell: Path, fraction: float) -> Path:
    """Return the folder of a cell's point, `points/0.25`: its weights until it is scored, then its tables."""
    return cell / POINTS / f"{fraction:.10g}"


def answers_folder(cell: Path, fraction: float) -> Path:
    """Return where the answers at a point of a cell lie: at 1, the end, in the cell's own folder."""
    return cell if fraction == 1 else point_folder(cell, fraction)


def judgements_file(folder: Path, judge: str) -> Path:
    """Return where a judge's table lies in the folder of a cell or of a point, by the judge's identity."""
    return folder / JUDGEMENTS / f"{re.sub(r'[^A-Za-z0-9.@-]+', '-', judge)}.parquet"


def judgements_files(folder: Path) -> list[Path]:
    """Return the tables of judges in the folder of a cell or of a point, in order."""
    return sorted((folder / JUDGEMENTS).glob("*.parquet"))


def is_run(folder: Path) -> bool:
    """Return whether this is a run folder: one with `cells/` in it."""
    return (folder / CELLS).is_dir()


def check_run(folder: Path) -> None:
    """Raise `HarnessError` for a folder that is no run folder."""
    if not is_run(folder):
        raise HarnessError(
            f"got {folder}, expected a run folder (one with {CELLS}/ in it); name the output folder of a run"
        )


def record_files(run: Path) -> Iterator[Path]:
    """Yield the record.json of every finished cell, in no order; none for a folder that is no run."""
    yield from run.glob(f"{CELLS}/*/{RECORD}")


def has_records(run: Path) -> bool:
    """Return whether the folder holds any finished cell."""
    return any(record_files(run))


def runs_inside(run: Path) -> list[Path]:
    """Return the run folders inside a run: its trials, what was chosen from them, boards of checkpoints from elsewhere.

    What was chosen from the fewest trials comes first. Behind them come the other settings of its axes, numbers in
    order, each with the run folders inside it.
    """
    tuned = sorted(run.glob(f"{TUNED}*"), key=lambda folder: (len(folder.name), folder.name))
    own = [folder for folder in (run / TUNING, *tuned, run / ELSEWHERE_BOARDS) if has_records(folder)]
    others = sorted(filter(has_records, run.glob(f"{AXIS}*")), key=lambda folder: _by_number(folder.name))
    return [*own, *(inner for other in others for inner in (other, *runs_inside(other)))]


def _by_number(name: str) -> list[tuple[float, str]]:
    """Return what sorts names as people do: `pairs=128` before `pairs=1024`."""
    parts = re.split(r"(\d+(?:\.\d+)?(?:e[+-]?\d+)?)", name)
    return [(float(part), "") if place % 2 else (0.0, part) for place, part in enumerate(parts)]


def axis_of(folder: Path) -> str:
    """Return at which other setting of an axis a folder is, such as `budget=pairs=512`; "" where it is at none."""
    runs = [above for above in folder.parents if above.name.startswith(AXIS) and is_run(above.parent)]
    return runs[0].name.removeprefix(AXIS) if runs else ""


def ranked_inside(run: Path) -> list[Path]:
    """Return the run folders inside a run whose boards stand behind its own: all but the trials."""
    return [folder for folder in runs_inside(run) if folder.name != TUNING]


def check_new(folder: Path) -> None:
    """Raise `HarnessError` where the folder is there already; an empty one may be."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise HarnessError(f"got {folder}, which is there already, expected a new folder; name another one")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Yield an empty folder to fill, which becomes `folder` at the end; after an error nothing is left of it."""
    check_new(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
        filling = Path(temporary) / folder.name  # a folder in it, because its own can be read by its owner only
        filling.mkdir()
        yield filling
        if folder.exists():
            folder.rmdir()
        filling.rename(folder)
