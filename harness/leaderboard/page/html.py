"""Table -> leaderboard.html: one file that asks nothing of the network. Pure; every name is escaped.

The page forbids itself every request by its content security policy, which also names each script by its hash: text
that came in from a plugin, a model or a file cannot run even where escaping failed.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files

from harness.leaderboard.axis_grids import axis_grids
from harness.leaderboard.decide.wording import data_in_words
from harness.leaderboard.formatting import things_to_know
from harness.leaderboard.hints import PROTOCOL
from harness.leaderboard.page import answer_section, board_table, picture_section, point_section, subset_section
from harness.leaderboard.page.forest import forest
from harness.leaderboard.page.manifest_facts import ManifestFacts
from harness.leaderboard.page.notes import facts, how_to_read, reproduce
from harness.leaderboard.page.picture_section import PagePictures
from harness.leaderboard.table import Board, Table
from harness.run_folder.paths import BOARDS

DOWNLOADS = sorted(BOARDS)


def render(table: Table, *, manifest: ManifestFacts, pictures: PagePictures | None = None, note: str = "") -> str:
    """Return the page. Without `pictures`, `note` says in one line why there are none."""
    order = sorted(range(len(table.boards)), key=lambda k: table.boards[k].model != "all")
    scripts = [*([pictures.script] if pictures else []), page_file("page.js")]
    parts = [
        _head(table, scripts),
        '<body>\n<a class="skip" href="#main">Skip to the leaderboard</a>',
        _top(table, note),
        '<main id="main">',
        _board_links(table, order) if len(order) > 1 else "",
        _controls(table),
        '<div id="status" class="visually-hidden" role="status"></div>',
        *(_board_section(table, k, manifest, pictures) for k in order),
        _axes(table),
        f'<section aria-labelledby="reading"><h2 id="reading">How to read this</h2>\n{how_to_read()}</section>',
        f'<section aria-labelledby="protocol"><h2 id="protocol">Protocol {table.protocol}</h2>\n<p>{PROTOCOL}</p>'
        "</section>",
        f'<section aria-labelledby="manifest"><h2 id="manifest">Manifest</h2>\n{facts(manifest)}</section>',
        "</main>",
        *([picture_section.data(pictures, order)] if pictures else []),
        *(f"<script>{_inert(code)}</script>" for code in scripts),
        "</body>\n</html>\n",
    ]
    return "\n".join(part for part in parts if part)


def _axes(table: Table) -> str:
    """Return the tables of losses along the axes of the run; "" where there are none."""
    tables = "".join(map(answer_section.grid_table, axis_grids(table)))
    return f'<section aria-labelledby="axes"><h2 id="axes">Across boards</h2>\n{tables}</section>' if tables else ""


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
        f"<title>{escape(_title(table))}</title>\n<style>\n{page_file('page.css')}</style>\n</head>"
    )


def _title(table: Table) -> str:
    """Return the page's title, with data, preset and budget: those of its boards, each once."""
    settings = [
        f"{data_in_words(board.dataset, board.tested_on)}, {board.preset or 'unknown'} preset, "
        f"budget {board.settings.budget or 'unknown'}"
        for board in table.boards
    ]
    return f"Preference-loss leaderboard: {'; '.join(dict.fromkeys(settings))}"


def _top(table: Table, note: str) -> str:
    shown_note = f'\n<p class="note" role="note">{escape(note)}</p>' if note else ""
    links = "".join(f'<li><a href="{name}" download>{name.rpartition(".")[2]}</a></li>' for name in DOWNLOADS)
    return (
        f'<header>\n<div class="top"><h1>{escape(_title(table))}</h1>\n'
        f'<ul class="downloads" aria-label="Downloads of this leaderboard">{links}</ul>\n'
        '<button type="button" class="button theme" id="theme" aria-pressed="false" hidden>Dark colours</button>'
        f"</div>{shown_note}\n</header>"
    )


def _board_links(table: Table, order: Sequence[int]) -> str:
    """Return the links to the boards, by model; by all of their titles where boards differ in more than the model."""
    alike = len({_settings_of(board) for board in table.boards}) == 1
    links = []
    for k in order:
        board = table.boards[k]
        model = "all models" if board.model == "all" else board.model
        text = model if alike else f"{model}: {_settings_of(board)}"
        links.append(f'<li><a href="#board-{k}">{escape(text)}</a></li>')
    return f'<nav aria-label="Boards"><ul class="boards">{"".join(links)}</ul></nav>'


def _settings_of(board: Board) -> str:
    """Return the title without the model that it begins with."""
    return board.title.partition(" · ")[2]


def _controls(table: Table) -> str:
    names = sorted({name for board in table.boards for row in board.rows for name in board_table.families(row)})
    options = "".join(f'<option value="{escape(name)}">{escape(name)}</option>' for name in names)
    return (
        '<div class="controls" role="search" hidden>\n'
        '<label for="filter">Filter losses by name<input type="search" id="filter" autocomplete="off"></label>\n'
        f'<label for="family">Family<select id="family"><option value="">all</option>{options}</select></label>\n'
        '<output id="count" for="filter family"></output>\n</div>'
    )


def _board_section(table: Table, k: int, manifest: ManifestFacts, pictures: PagePictures | None) -> str:
    board, ranked_by, section_id = table.boards[k], table.ranked_by, f"board-{k}"
    parts = [
        f'<section class="board" id="{section_id}" aria-labelledby="{section_id}-title">',
        f'<h2 id="{section_id}-title">{escape(board.title)}</h2>',
        _found(board),
        _to_know(board),
        forest(board, ranked_by),
        board_table.table(board, ranked_by, section_id),
        subset_section.section(board, ranked_by),
        point_section.section(board, ranked_by),
        answer_section.section(board),
        picture_section.section(board, k, pictures) if pictures else "",
        reproduce(board, manifest),
        "</section>",
    ]
    return "\n".join(part for part in parts if part)


def _found(board: Board) -> str:
    """Return what the board found: the headline, and each other finding on a line of its own."""
    return "\n".join(
        f'<p class="{"conclusion" if k else "headline"}">{escape(sentence)}</p>'
        for k, sentence in enumerate(board.conclusions)
    )


def _to_know(board: Board) -> str:
    """Return the disclaimers, folded into one line that says how many there are and what weighs most."""
    if not board.disclaimers:
        return ""
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in board.disclaimers)
    line = escape(things_to_know(len(board.disclaimers), board.weightiest))
    return f'<details class="to-know"><summary>{line}</summary><ul>{items}</ul></details>'


def _inert(code: str) -> str:
    """Return a script whose strings and patterns can neither close its element nor open a comment in it."""
    return re.sub(r"</(?=script)", r"<\\/", code, flags=re.IGNORECASE).replace("<!--", "<\\!--")


def page_file(name: str) -> str:
    """Return the text of page.css or page.js."""
    return (files("harness.leaderboard.page") / name).read_text(encoding="utf-8")
