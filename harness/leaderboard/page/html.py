"""Table -> leaderboard.html: one file that asks nothing of the network. Pure; every name is escaped.

The page forbids itself every request by its content security policy, which also names each script by its hash: text
that came in from a plugin, a model or a file cannot run even where escaping failed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any

from harness.leaderboard.page import board_table
from harness.leaderboard.page.manifest_facts import ManifestFacts
from harness.leaderboard.page.notes import PROTOCOL, facts, how_to_read, reproduce
from harness.leaderboard.pictures.styles import Style
from harness.leaderboard.pictures.vega import Picture, picture_disclaimers
from harness.leaderboard.table import Board, Table

DOWNLOADS = ("leaderboard.csv", "leaderboard.json", "leaderboard.md")
AT_FIRST, MANY = 8, 12
"""With more losses than `MANY` the pictures begin with the first `AT_FIRST` of the board."""


@dataclass(frozen=True, kw_only=True)
class PagePictures:
    """The pictures of a page."""

    boards: Sequence[Sequence[Picture]]
    """One tuple a board, in the table's order."""
    styles: Mapping[str, Style]
    """By label."""
    script: str
    """Vega, Vega-Lite and Vega-Embed."""
    files: Sequence[str] = ()
    """A board's path of its picture files, such as `plots/all`; empty where there are none."""


def render(table: Table, *, manifest: ManifestFacts, pictures: PagePictures | None = None, note: str = "") -> str:
    """Return the page. `pictures`: its pictures; without them `note` says, in one line, why there are none."""
    order = sorted(range(len(table.boards)), key=lambda k: table.boards[k].model != "all")
    sections = [_section(table, k, manifest, pictures) for k in order]
    names = sorted({name for board in table.boards for row in board.rows for name in board_table.families(row)})
    code = _own("page.js")
    scripts = [*([_script(pictures.script)] if pictures else []), _script(code)]
    parts = [
        _head(table, [*([pictures.script] if pictures else []), code]),
        '<body>\n<a class="skip" href="#main">Skip to the leaderboard</a>',
        _top(table, note),
        '<main id="main">',
        _boards(table, order) if len(order) > 1 else "",
        '<div class="controls" role="search" hidden>',
        '<label for="filter">Filter losses by name<input type="search" id="filter" autocomplete="off"></label>',
        f'<label for="family">Family<select id="family">{_options(names)}</select></label>',
        '<output id="count" for="filter family"></output>\n</div>',
        '<div id="status" class="silent" role="status"></div>',
        *sections,
        f'<section aria-labelledby="reading"><h2 id="reading">How to read this</h2>\n{how_to_read()}</section>',
        f'<section aria-labelledby="protocol"><h2 id="protocol">Protocol {table.protocol}</h2>\n{PROTOCOL}</section>',
        f'<section aria-labelledby="manifest"><h2 id="manifest">Manifest</h2>\n{facts(manifest)}</section>',
        "</main>",
        *([_data(pictures, order)] if pictures else []),
        *scripts,
        "</body>\n</html>\n",
    ]
    return "\n".join(part for part in parts if part)


def embedded(value: Any) -> str:
    """Return `value` as JSON that may stand in a script element: no tag and no line separator can begin in it."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _head(table: Table, scripts: Sequence[str]) -> str:
    hashes = " ".join(
        f"'sha256-{base64.b64encode(hashlib.sha256(_inert(code).encode()).digest()).decode()}'" for code in scripts
    )
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src {hashes}; img-src data:; base-uri 'none'"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<link rel="icon" href="data:,">\n'
        f"<title>{escape(_title(table))}</title>\n<style>\n{_own('page.css')}</style>\n</head>"
    )


def _title(table: Table) -> str:
    """Return the page's title, with preset and budget: those of its boards, each once."""
    settings = [
        f"{board.dataset or 'unknown data'}, {board.preset or 'unknown'} preset, "
        f"budget {board.settings.get('budget', 'unknown')}"
        for board in table.boards
    ]
    return f"Preference-loss leaderboard: {'; '.join(dict.fromkeys(settings))}"


def _top(table: Table, note: str) -> str:
    said = f'\n<p class="note" role="note">{escape(note)}</p>' if note else ""
    links = "".join(f'<li><a href="{name}" download>{name}</a></li>' for name in DOWNLOADS)
    return (
        f'<header>\n<div class="top"><div><h1>{escape(_title(table))}</h1>\n'
        '<p class="lead">Every loss trained by one trainer, from one checkpoint, on one order of pairs, under one '
        "budget; the preference loss is the only thing that varies.</p></div>\n"
        '<button type="button" class="button theme" id="theme" aria-pressed="false" hidden>Dark colours</button>'
        "</div>\n"
        f'<ul class="downloads" aria-label="Downloads">{links}</ul>{said}\n</header>'
    )


def _boards(table: Table, order: Sequence[int]) -> str:
    several = len({board.title.partition(" · ")[2] for board in table.boards}) > 1
    links = []
    for k in order:
        board = table.boards[k]
        name = "all models" if board.model == "all" else board.model
        text = f"{name}: {board.title.partition(' · ')[2]}" if several else name
        links.append(f'<li><a href="#board-{k}">{escape(text)}</a></li>')
    return f'<nav aria-label="Boards"><ul class="boards">{"".join(links)}</ul></nav>'


def _options(names: Sequence[str]) -> str:
    found = "".join(f'<option value="{escape(name)}">{escape(name)}</option>' for name in names)
    return f'<option value="">all</option>{found}'


def _section(table: Table, k: int, manifest: ManifestFacts, pictures: PagePictures | None) -> str:
    board, place = table.boards[k], f"board-{k}"
    said = "".join(f"<li>{escape(sentence)}</li>" for sentence in board.disclaimers)
    return (
        f'<section class="board" id="{place}" aria-labelledby="{place}-title">\n'
        f'<h2 id="{place}-title">{escape(board.title)}</h2>\n<ul class="said">{said}</ul>\n'
        f"{board_table.table(board, table.ranked_by, place)}\n"
        f"{_pictures(board, k, pictures) if pictures else ''}\n{reproduce(board, manifest)}\n</section>"
    )


def _pictures(board: Board, k: int, pictures: PagePictures) -> str:
    if not pictures.boards[k]:
        return '<p class="note">No pictures: no loss of this board has a value yet.</p>'
    labels = [row.label for row in board.rows if row.kind == "loss" and row.status == "ok"]
    tags = {row.label: embedded(board_table.families(row)) for row in board.rows}
    chips = "".join(
        f'<button type="button" class="chip" data-label="{escape(label)}" data-kind="loss" '
        f'data-tags="{escape(tags[label])}" aria-pressed="{_first(j, len(labels))}">'
        f"{_swatch(pictures.styles[label])}{escape(label)}</button>"
        for j, label in enumerate(labels)
    )
    begin = f" The first {AT_FIRST} of {len(labels)} are drawn to begin with." if len(labels) > MANY else ""
    figures = "\n".join(_figure(board, picture, k, pictures) for picture in pictures.boards[k])
    return (
        f"<h3>Pictures</h3>\n"
        f'<fieldset class="chips" hidden><legend>Losses drawn in the pictures; press to add or remove.{begin}</legend>'
        f'<button type="button" class="chip" data-every="true">all</button>'
        f'<button type="button" class="chip" data-every="false">none</button>{chips}</fieldset>\n'
        f'<noscript><p class="note">The pictures need JavaScript; their files do not.</p></noscript>\n'
        f'<div class="figures">\n{figures}\n</div>'
    )


def _first(j: int, number: int) -> str:
    return "true" if number <= MANY or j < AT_FIRST else "false"


def _swatch(style: Style) -> str:
    dash = " ".join(map(str, style.dash)) if len(style.dash) > 1 and style.dash[1] else "none"
    line = f'<line x1="0" y1="5" x2="24" y2="5" stroke="{style.colour}" stroke-width="3" stroke-dasharray="{dash}"/>'
    return f'<svg viewBox="0 0 24 10" aria-hidden="true">{line}</svg>'


def _figure(board: Board, picture: Picture, k: int, pictures: PagePictures) -> str:
    place = f"{picture.name}-{k}"
    said = escape(f"{board.title}. {' '.join(picture_disclaimers(board))}")
    saved = ""
    if pictures.files and pictures.files[k]:
        path = escape(f"{pictures.files[k]}-{picture.name}")
        saved = f'<p>Save as <a href="{path}.svg" download>SVG</a> or <a href="{path}.png" download>PNG</a>.</p>'
    wide = "" if picture.selectable else ' class="wide"'
    return (
        f'<figure{wide} aria-labelledby="{place}-title"><h3 id="{place}-title">{escape(picture.title)}</h3>\n'
        f'<div class="picture" id="{place}"></div>\n'
        f"<figcaption><p>{escape(picture.summary)}</p><p>{said}</p>{saved}</figcaption></figure>"
    )


def _data(pictures: PagePictures, order: Sequence[int]) -> str:
    found = {
        f"{picture.name}-{k}": {
            "selectable": picture.selectable,
            "spec": {name: value for name, value in picture.spec.items() if name != "$schema"},
        }
        for k in order
        for picture in pictures.boards[k]
    }
    return f'<script type="application/json" id="pictures">{embedded(found)}</script>'


def _script(code: str) -> str:
    return f"<script>{_inert(code)}</script>"


def _inert(code: str) -> str:
    """Return a script whose strings and patterns can neither close its element nor open a comment in it."""
    return re.sub(r"</(?=script)", r"<\\/", code, flags=re.IGNORECASE).replace("<!--", "<\\!--")


def _own(name: str) -> str:
    return (files("harness.leaderboard.page") / name).read_text(encoding="utf-8")
