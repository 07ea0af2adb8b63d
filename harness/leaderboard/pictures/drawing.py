"""What the charts of a board share: losses and their styles, axes and tooltips, and how a chart becomes a picture."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.leaderboard.decide.wording import MEASURES, NANO
from harness.leaderboard.formatting import spoken_name
from harness.leaderboard.pictures.points import PictureData
from harness.leaderboard.pictures.styles import Style
from harness.leaderboard.table import Board

WIDTH = 640
"""Of a panel, px."""


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One chart of one board."""

    name: str
    """Of its files and of its place in the page."""
    title: str
    summary: str
    """What is drawn and how to read it, in a few sentences."""
    spec: Mapping[str, Any]
    """Vega-Lite; its parameter `shown`, where `selectable`, is the list of losses to draw, all of them when empty."""
    selectable: bool


def picture_disclaimers(board: Board) -> list[str]:
    """Return the disclaimers that stand by every picture of a board."""
    of_what = [sentence for sentence in board.conclusions if sentence.startswith("One seed")]  # what it can say
    return [*of_what, *(sentence for sentence in (MEASURES, NANO) if sentence in board.disclaimers)]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What the pictures of a board share."""

    alt: Any
    board: Board
    data: PictureData
    styles: Mapping[str, Style]
    ranked_by: str

    @property
    def labels(self) -> list[str]:
        """The losses that are drawn, in the board's order."""
        return [row.label for row in self.board.rows if row.kind == "loss" and row.status == "ok"]

    @property
    def metric(self) -> str:
        """The metric that the board is ranked by, as it is read."""
        return spoken_name(self.ranked_by)

    def colour(self) -> Any:
        """Return the encoding of a loss by its colour, with a legend that lists all losses."""
        scale = self.alt.Scale(domain=self.labels, range=[self.styles[label].colour for label in self.labels])
        columns = 1 + (len(self.labels) - 1) // 24
        return self.alt.Color(
            "loss:N",
            scale=scale,
            title="loss",
            legend=self.alt.Legend(symbolLimit=0, columns=columns, labelLimit=180, symbolOpacity=1),
        )

    def dash(self) -> Any:
        """Return the encoding of a loss by its dashes."""
        dashes = [list(self.styles[label].dash) for label in self.labels]
        return self.alt.StrokeDash("loss:N", scale=self.alt.Scale(domain=self.labels, range=dashes), legend=None)

    def chart(self, name: str) -> Any:
        """Return a chart over the losses that the parameter `shown` asks for."""
        return self.alt.Chart(self.alt.NamedData(name=name)).transform_filter(
            "!length(shown) || indexof(shown, datum.loss) >= 0"
        )

    def picture(
        self,
        name: str,
        title: str,
        summary: str,
        chart: Any,
        points: Sequence[Mapping[str, object]],
        selectable: bool = True,
    ) -> Picture:
        """Return a chart as a picture: with its title, the disclaimers under it, and its points."""
        lines = textwrap.wrap(self.board.title, 122) + textwrap.wrap(" ".join(picture_disclaimers(self.board)), 122)
        spec = chart.to_dict(validate=False)  # the tests check against the schema; here it doubles the time
        spec["title"] = {
            "text": title,
            "subtitle": lines,
            "anchor": "start",
            "frame": "group",
            "offset": 12,
            "fontSize": 15,
            "subtitleFontSize": 11,
        }
        spec["description"] = f"{title}. {summary}"
        spec.setdefault("datasets", {})[name] = points
        if selectable:
            spec["params"] = [{"name": "shown", "value": []}, *spec.get("params", [])]
        return Picture(name=name, title=title, summary=summary, spec=spec, selectable=selectable)


def y_axis(alt: Any, field: str, title: str) -> Any:
    return alt.Y(f"{field}:Q", title=title, scale=alt.Scale(zero=False))


def tooltip(alt: Any, *fields: Any) -> list[Any]:
    """Return the channels of a tooltip; no bare strings, for which Altair searches its whole schema."""
    return [alt.Tooltip(field) if isinstance(field, str) else field for field in fields]


def line_at(alt: Any, value: float) -> Any:
    rule = alt.Chart(alt.Data(values=[{"at": value}])).mark_rule(color="#888", strokeDash=[4, 4])
    return rule.encode(alt.Y("at:Q"))
