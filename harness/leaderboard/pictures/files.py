"""Pictures -> SVG and PNG files, and the script that draws them in a page, by vl-convert (of the extra `plots`).

Nothing here needs a browser or the network. Imports no torch.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.leaderboard.pictures.vega import Picture, Style
from harness.leaderboard.table import Table
from harness.run_folder.store import write_atomically

PACKAGES = {"altair": "altair", "vl_convert": "vl-convert-python"}
HUES = (
    *("#3b78c4", "#d9730d", "#1a8f5a", "#c2405a", "#8a63c9"),
    *("#8c6d31", "#c255a1", "#0d8ea0", "#7f7f7f", "#8a9a1c"),
)
"""At least 3:1 against both backgrounds of the page."""
DASHES = ([1, 0], [6, 2], [2, 2], [8, 2, 2, 2], [1, 3])


def missing() -> str:
    """Return what the pictures lack on this machine, one line with its remedy; empty where nothing is missing."""
    absent = [name for module, name in PACKAGES.items() if importlib.util.find_spec(module) is None]
    if not absent:
        return ""
    verb = "is" if len(absent) == 1 else "are"
    return (
        f"No pictures: {' and '.join(absent)} {verb} not installed; "
        "pip install 'preference-harness[plots]' and rebuild the leaderboard."
    )


def styles(table: Table) -> dict[str, Style]:
    """Return the style of every loss, by label: ten hues, then the same hues in other dashes.

    In the order of the last board, the one over all models where there are several, so that leaders differ most.
    """
    boards = reversed(table.boards)
    labels = dict.fromkeys(row.label for board in boards for row in board.rows if row.kind == "loss")
    return {
        label: Style(colour=HUES[k % len(HUES)], dash=DASHES[k // len(HUES) % len(DASHES)])
        for k, label in enumerate(labels)
    }


def write_files(folder: Path, names: Sequence[str], boards: Sequence[Sequence[Picture]]) -> list[Path]:
    """Write <name of the board>-<picture>.svg and .png into `folder`; return their paths. No browser is used.

    A board without a name has no files.
    """
    vl: Any = importlib.import_module("vl_convert")
    written = []
    for name, board in zip(names, boards, strict=True):
        for picture in board if name else ():
            svg = _plain_ids(vl.vegalite_to_svg(json.dumps(picture.spec)))
            path = folder / f"{name}-{picture.name}.svg"
            write_atomically(path, svg)
            path.with_suffix(".png").write_bytes(vl.svg_to_png(svg, scale=1.5))
            written += [path, path.with_suffix(".png")]
    return written


def script(cache: Path) -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script without a further import, kept in `cache` by version.

    Making it takes seconds, and one version of vl-convert always makes the same bytes.
    """
    vl: Any = importlib.import_module("vl_convert")
    path = cache / f"vega-{vl.__version__}.js"
    if not path.is_file():
        write_atomically(path, vl.javascript_bundle())
    return path.read_text(encoding="utf-8")


def file_names(table: Table) -> list[str]:
    """Return a name for the files of each board that has some, one that any file system takes; empty for the others.

    The board over all models has files, and that of a single model where there is no other: drawing is slow.
    """
    names: list[str] = []
    for board in table.boards:
        if board.model != "all" and any(board.model in other.models for other in table.boards if other.model == "all"):
            names.append("")
            continue
        stem = re.sub(r"[^A-Za-z0-9.-]+", "_", board.model.rstrip("/").rpartition("/")[2]).strip("._") or "board"
        name, k = stem, 2
        while name in names:
            name, k = f"{stem}-{k}", k + 1
        names.append(name)
    return names


def _plain_ids(svg: str) -> str:
    """Return the SVG with its generated ids counted from 0: vl-convert counts them on through a process."""
    found: dict[str, str] = {}
    return re.sub(r"\b(clip|gradient_)(\d+)\b", lambda hit: found.setdefault(hit[0], f"{hit[1]}{len(found)}"), svg)
