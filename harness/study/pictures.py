"""The intervals of an answer as one SVG, by Altair and vl-convert (of the extra `plots`)."""

from __future__ import annotations

import importlib
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.leaderboard.pictures.files import svg_of, why_no_pictures
from harness.run_folder.store import write_atomically
from harness.study.answer import Answer

ROW_HEIGHT, WIDTH = 16, 420
"""px, of a row and of a panel."""


def draw_answers(folder: Path, found: Sequence[Answer]) -> list[str]:
    """Write <name>.svg of every answer; return the names of those drawn: none where the extra is not installed."""
    if why_no_pictures():
        return []
    for answer in found:
        write_atomically(folder / f"{answer.name}.svg", svg_of(_chart(answer).to_dict(validate=False)))
    return [answer.name for answer in found]


def _chart(answer: Answer) -> Any:
    """Return a panel per column (Altair), a line per row: estimate, interval, and where nothing would be."""
    alt: Any = importlib.import_module("altair")
    values = [
        {"row": p.row, "column": p.column, "value": p.estimate.value, "low": p.estimate.low, "high": p.estimate.high}
        for p in answer.points
        if math.isfinite(p.estimate.value)
    ]
    base = alt.Chart().encode(
        alt.Y(
            "row:N", sort=list(dict.fromkeys(p.row for p in answer.points)), title=None, axis=alt.Axis(labelLimit=400)
        )
    )
    rules = base.mark_rule(strokeWidth=2, color="#3b78c4").encode(
        alt.X("low:Q", title=answer.grids[0].title), alt.X2("high:Q")
    )
    dots = base.mark_point(filled=True, size=45, opacity=1, color="#3b78c4").encode(alt.X("value:Q"))
    none = alt.Chart().mark_rule(color="#888", strokeDash=[4, 4]).encode(alt.X(datum=0))
    panel = alt.layer(none, rules, dots, data=alt.Data(values=values)).properties(
        width=WIDTH, height=alt.Step(ROW_HEIGHT)
    )
    columns = list(dict.fromkeys(p.column for p in answer.points))
    if len(columns) == 1:
        return panel
    return panel.facet(
        alt.Facet("column:N", sort=columns, title=None, header=alt.Header(labelAnchor="start", labelFontSize=12)),
        columns=1,
    ).resolve_scale(y="independent")
