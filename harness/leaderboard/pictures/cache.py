"""Pictures that this machine drew before from the same data: drawing them takes a second or more. Imports no torch.

They lie in the run's plots/, their specs in pictures.json; the hashes of these files lie in the user's cache folder,
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

from harness.leaderboard import formatting
from harness.leaderboard.decide import findings, wording
from harness.leaderboard.pictures import answers, drawing, files, options, places, styles, vega
from harness.leaderboard.pictures.drawing import Picture
from harness.leaderboard.pictures.points import PictureData
from harness.leaderboard.table import Table
from harness.run_folder.hashes import file_hash
from harness.run_folder.paths import PICTURE_SPECS, cache_folder
from harness.run_folder.store import write_atomically


def hash_of_sources(table: Table, data: Sequence[PictureData]) -> str:
    """Return the hash of all that pictures are drawn from: table, data, the drawing code and its libraries."""
    modules = (vega, answers, options, places, drawing, styles, files, formatting, findings, wording)
    code = [inspect.getsource(module) for module in modules]
    versions = [importlib.metadata.version(package) for package in files.PACKAGES.values()]
    return hashlib.sha256("\0".join([*code, *versions, repr(table), repr(list(data))]).encode()).hexdigest()


def drawn_before(folder: Path, sources: str) -> list[list[Picture]] | None:
    """Return the pictures of each board as they lie in `folder`; None where they were not drawn here from `sources`."""
    try:
        hashes = json.loads(_seal(sources).read_text(encoding="utf-8"))
        if any(file_hash(folder / name) != known for name, known in hashes.items()):
            return None
        boards = json.loads((folder / PICTURE_SPECS).read_text(encoding="utf-8"))
        return [[Picture(**picture) for picture in board] for board in boards]
    except (OSError, ValueError):  # never drawn, or a file is gone or broken
        return None


def remember(folder: Path, sources: str, boards: Sequence[Sequence[Picture]], written: Sequence[Path]) -> None:
    """Remember that the pictures of the boards and the files `written` in `folder` were drawn from `sources`."""
    specs = json.dumps([[asdict(picture) for picture in board] for board in boards], ensure_ascii=False)
    write_atomically(folder / PICTURE_SPECS, specs + "\n")
    hashes = {path.name: file_hash(path) for path in (folder / PICTURE_SPECS, *written)}
    write_atomically(_seal(sources), json.dumps(hashes, indent=1) + "\n")


def _seal(sources: str) -> Path:
    return cache_folder() / "pictures" / f"{sources}.json"
