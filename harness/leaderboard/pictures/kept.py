"""Pictures that this machine drew before from the same things: drawing takes seconds. Imports no torch.

They lie in the run's plots/, the specs in pictures.json; the hashes of these files lie in the user's cache folder,
under the hash of what they were drawn from. So pictures that came with a run folder, or were changed in it, are drawn
anew.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from harness.leaderboard.decide import wording
from harness.leaderboard.pictures import files, vega
from harness.leaderboard.pictures.data import Frames
from harness.leaderboard.pictures.vega import Picture
from harness.leaderboard.table import Table
from harness.run_folder.paths import cache_folder
from harness.run_folder.store import file_hash, write_atomically

SPECS = "pictures.json"


def made_from(table: Table, found: Sequence[Frames]) -> str:
    """Return the hash of all that pictures are drawn from: table, frames, the drawing code and its libraries."""
    code = [inspect.getsource(module) for module in (vega, files, wording)]
    versions = [importlib.metadata.version(package) for package in files.PACKAGES.values()]
    return hashlib.sha256("\0".join([*code, *versions, repr(table), repr(list(found))]).encode()).hexdigest()


def kept(folder: Path, key: str) -> list[list[Picture]] | None:
    """Return the pictures of each board as they lie in `folder`; None where these were not drawn here from `key`."""
    try:
        hashes = json.loads(_seal(key).read_text(encoding="utf-8"))
        if any(file_hash(folder / name) != known for name, known in hashes.items()):
            return None
        return [
            [Picture(**each) for each in board] for board in json.loads((folder / SPECS).read_text(encoding="utf-8"))
        ]
    except (OSError, ValueError):  # never drawn, or a file is gone or broken
        return None


def keep(folder: Path, key: str, boards: Sequence[Sequence[Picture]], written: Sequence[Path]) -> None:
    """Remember that the pictures of the boards and the files `written` in `folder` were drawn from `key`."""
    specs = json.dumps([[asdict(each) for each in board] for board in boards], ensure_ascii=False)
    write_atomically(folder / SPECS, specs + "\n")
    hashes = {path.name: file_hash(path) for path in (folder / SPECS, *written)}
    write_atomically(_seal(key), json.dumps(hashes, indent=1) + "\n")


def _seal(key: str) -> Path:
    return cache_folder() / "pictures" / f"{key}.json"
