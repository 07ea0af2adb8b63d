"""Pictures -> SVG and PNG files, and the script that draws them in a page, by vl-convert (of the extra `plots`).

Nothing here needs a browser or the network. Imports no torch.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.leaderboard.pictures.drawing import Picture
from harness.leaderboard.table import Table
from harness.run_folder.store import write_atomically

PACKAGES = {"altair": "altair", "vl_convert": "vl-convert-python"}


def why_no_pictures() -> str:
    """Return which packages are missing to draw, one line with its remedy; empty where none is."""
    absent = [name for module, name in PACKAGES.items() if importlib.util.find_spec(module) is None]
    if not absent:
        return ""
    verb = "is" if len(absent) == 1 else "are"
    return (
        f"No pictures: {' and '.join(absent)} {verb} not installed; "
        "pip install 'preference-harness[plots]' and rebuild the leaderboard."
    )


def write_files(folder: Path, names: Sequence[str], boards: Sequence[Sequence[Picture]]) -> list[Path]:
    """Write <name of the board>-<picture>.svg and .png into `folder`; return their paths.

    `names`: one per board; a board whose name is empty has no files.
    """
    vl: Any = importlib.import_module("vl_convert")
    written = []
    for name, board in zip(names, boards, strict=True):
        for picture in board if name else ():
            svg = svg_of(picture.spec)
            path = folder / f"{name}-{picture.name}.svg"
            write_atomically(path, svg)
            path.with_suffix(".png").write_bytes(vl.svg_to_png(svg, scale=1.5))
            written += [path, path.with_suffix(".png")]
    return written


def svg_of(spec: Mapping[str, Any]) -> str:
    """Return a picture as SVG, the same bytes for the same spec."""
    vl: Any = importlib.import_module("vl_convert")
    return _plain_ids(vl.vegalite_to_svg(json.dumps(spec)))


def vega_script(cache: Path) -> str:
    """Return Vega, Vega-Lite and Vega-Embed as one script that imports nothing more, kept in `cache` by version.

    Making it takes seconds, and one version of vl-convert always makes the same bytes.
    """
    vl: Any = importlib.import_module("vl_convert")
    path = cache / f"vega-{vl.__version__}.js"
    if not path.is_file():
        write_atomically(path, vl.javascript_bundle())
    return path.read_text(encoding="utf-8")


def file_names(table: Table) -> list[str]:
    """Return the name of each board's files, one that any file system takes; empty for a board that has none.

    Where there is a board over all models, the boards of its models have none: drawing is slow.
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
    """Return the SVG with its generated ids counted from 0: vl-convert goes on counting from picture to picture."""
    plain: dict[str, str] = {}
    return re.sub(r"\b(clip|gradient_)(\d+)\b", lambda hit: plain.setdefault(hit[0], f"{hit[1]}{len(plain)}"), svg)
