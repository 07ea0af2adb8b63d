"""Pictures -> the part of a board's section that shows them: the buttons that choose losses, and the figures. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from harness.leaderboard.page.board_table import families
from harness.leaderboard.pictures.drawing import Picture
from harness.leaderboard.pictures.styles import Style
from harness.leaderboard.table import Board

DRAWN_AT_FIRST, MANY = 8, 12
"""With more losses than `MANY` the pictures begin with the first `DRAWN_AT_FIRST` of the board."""


@dataclass(frozen=True, kw_only=True)
class PagePictures:
    """The pictures of a page."""

    boards: Sequence[Sequence[Picture]]
    """Those of each board, in the table's order."""
    styles: Mapping[str, Style]
    """By label."""
    script: str
    """Vega, Vega-Lite and Vega-Embed."""
    files: Sequence[str] = ()
    """What the paths of each board's picture files begin with, such as `plots/all`; empty for a board without files."""


def section(board: Board, k: int, pictures: PagePictures) -> str:
    """Return the pictures of board `k`, which page.js draws from `data`."""
    if not pictures.boards[k]:
        return '<p class="note">No pictures: no loss of this board has a value yet.</p>'
    labels = [row.label for row in board.rows if row.kind == "loss" and row.status == "ok"]
    tags = {row.label: embedded(families(row)) for row in board.rows}
    drawn_at_first = set(labels if len(labels) <= MANY else labels[:DRAWN_AT_FIRST])
    chips = "".join(
        f'<button type="button" class="chip" data-label="{escape(label)}" data-kind="loss" '
        f'data-tags="{escape(tags[label])}" aria-pressed="{str(label in drawn_at_first).lower()}">'
        f"{_swatch(pictures.styles[label])}{escape(label)}</button>"
        for label in labels
    )
    begin = f" The first {DRAWN_AT_FIRST} of {len(labels)} are drawn to begin with." if len(labels) > MANY else ""
    figures = "\n".join(_figure(board, picture, k, pictures) for picture in pictures.boards[k])
    return (
        f"<h3>Pictures</h3>\n"
        f'<fieldset class="chips" hidden><legend>Losses drawn in the pictures; press to add or remove.{begin}</legend>'
        f'<button type="button" class="chip" data-every="true">all</button>'
        f'<button type="button" class="chip" data-every="false">none</button>{chips}</fieldset>\n'
        f'<noscript><p class="note">The pictures need JavaScript; their files do not.</p></noscript>\n'
        f'<div class="figures">\n{figures}\n</div>'
    )


def data(pictures: PagePictures, order: Sequence[int]) -> str:
    """Return the element that holds the specs, by the id of the place where each is drawn; boards in this order."""
    specs = {
        f"{picture.name}-{k}": {
            "selectable": picture.selectable,
            "spec": {name: value for name, value in picture.spec.items() if name != "$schema"},
        }
        for k in order
        for picture in pictures.boards[k]
    }
    return f'<script type="application/json" id="pictures">{embedded(specs)}</script>'


def embedded(content: Any) -> str:
    """Return `content` as JSON that may stand in a script element: no tag and no line separator can begin in it."""
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _swatch(style: Style) -> str:
    """Return a short line in the loss's style, for its button."""
    dash = " ".join(map(str, style.dash)) if len(style.dash) > 1 and style.dash[1] else "none"
    line = f'<line x1="0" y1="5" x2="24" y2="5" stroke="{style.colour}" stroke-width="3" stroke-dasharray="{dash}"/>'
    return f'<svg viewBox="0 0 24 10" aria-hidden="true">{line}</svg>'


def _figure(board: Board, picture: Picture, k: int, pictures: PagePictures) -> str:
    place = f"{picture.name}-{k}"
    to_know = f"<p>{escape('; '.join(board.weightiest))}.</p>" if board.weightiest else ""
    download = ""
    if pictures.files and pictures.files[k]:
        path = escape(f"{pictures.files[k]}-{picture.name}")
        download = f'<p>Save as <a href="{path}.svg" download>SVG</a>.</p>'
    wide = "" if picture.selectable else ' class="wide"'
    return (
        f'<figure{wide} aria-labelledby="{place}-title"><h3 id="{place}-title">{escape(picture.title)}</h3>\n'
        f'<div class="picture" id="{place}"></div>\n'
        f"<figcaption><p>{escape(picture.summary)}</p>{to_know}{download}</figcaption></figure>"
    )
