"""The pictures of a run's page, and the forest plot, as SVG and PDF without the title, which stands in the caption."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from typing import Any

from harness.leaderboard.pictures.data import picture_data
from harness.leaderboard.pictures.drawing import Drawing, Picture, picture_disclaimers
from harness.leaderboard.pictures.files import file_names, svg_of, why_no_pictures
from harness.leaderboard.pictures.forest import forest
from harness.leaderboard.pictures.styles import styles
from harness.leaderboard.pictures.vega import pictures
from harness.leaderboard.table import Board, Table
from harness.report.names import told_apart
from harness.report.pieces import PaperFigure
from harness.run_folder.record import Record

RESOURCES = re.compile(rb"(?:^ *+/[a-z]+\d+ \d+ 0 R\n)+", re.MULTILINE)
"""Lines of a dictionary of a PDF's resources, which vl-convert writes in any order."""

TYPE = {
    "axis": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"},
    "legend": {"labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal"},
    "text": {"fontSize": 12},
}
"""Type that can be read at the width of a column; of one font, since vl-convert writes several in any order."""


def figures(table: Table, records: Sequence[Record]) -> tuple[tuple[PaperFigure, ...], str]:
    """Return the figures of each board that has pictures on the page, and in one line why there are none."""
    note = why_no_pictures()
    if note:
        return (), note
    try:
        return tuple(_figures(table, records)), ""
    except Exception as error:  # whatever the drawing libraries raise, the tables are still there
        return (), f"No pictures: drawing them failed, {type(error).__name__}: {' '.join(str(error).split())}"


def _figures(table: Table, records: Sequence[Record]) -> Iterator[PaperFigure]:
    style_of, data = styles(table), picture_data(records, table)
    drawn = [k for k, name in enumerate(file_names(table)) if name]
    for k, name in zip(drawn, told_apart(table.boards[k].model for k in drawn), strict=True):
        board = table.boards[k]
        alt: Any = importlib.import_module("altair")
        first = forest(Drawing(alt=alt, board=board, data=data[k], styles=style_of, ranked_by=table.ranked_by))
        for picture in (*([first] if first else []), *pictures(board, data[k], style_of, table.ranked_by)):
            yield _figure(f"{name}-{picture.name}", board, picture)


def _figure(name: str, board: Board, picture: Picture) -> PaperFigure:
    vl: Any = importlib.import_module("vl_convert")
    plain = {key: value for key, value in picture.spec.items() if key != "title"}
    svg = svg_of(plain | {"config": picture.spec.get("config", {}) | TYPE})
    said = f"{picture.summary} {board.title}. {' '.join(picture_disclaimers(board))}".strip()
    pdf = RESOURCES.sub(lambda lines: b"".join(sorted(lines[0].splitlines(keepends=True))), vl.svg_to_pdf(svg))
    return PaperFigure(name=name, title=picture.title, caption=said, svg=svg, pdf=pdf)
