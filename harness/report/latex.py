"""Tables, figures, sentences and references as LaTeX and BibTeX, for \\input. Pure; every text is escaped.

Whatever a name holds, nothing of it is read as a command: letters with accents and signs that we know become commands
of the LaTeX kernel, and what is left outside ASCII is named by its code point, so that any engine takes it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from harness.leaderboard.formatting import MISSING, one_line
from harness.leaderboard.grid import Grid
from harness.leaderboard.hints import Code, Term
from harness.report.pieces import Cite, PaperFigure, PaperTable, Reference, Section

SIGNS = {
    **{sign: f"\\{sign}" for sign in "$&#%_"},
    "{": r"\textbraceleft{}",  # BibTeX counts \{ as a brace
    "}": r"\textbraceright{}",
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",
    "`": "{`}",
    "–": "--",
    "—": "---",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\dots{}",
    "†": r"\dag{}",
    "‡": r"\ddag{}",
    "§": r"\S{}",
    "·": r"\textperiodcentered{}",
    "•": r"\textbullet{}",
    "×": r"$\times$",
    "±": r"$\pm$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "−": "$-$",
    "ß": r"\ss{}",
    "æ": r"\ae{}",
    "Æ": r"\AE{}",
    "ø": r"\o{}",
    "Ø": r"\O{}",
    "å": r"\aa{}",
    "Å": r"\AA{}",
    "ł": r"\l{}",
    "Ł": r"\L{}",
}
"""What a sign is written as."""
ACCENTS = dict(
    zip("\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u030a\u030b\u030c\u0327", "`'^~=u.\"rHvc", strict=True)
)
"""The command of a combining accent."""
SIGNED = re.compile(r"(?<![^\s\[(,;:=/–])([+-])(?=\.?\d)")
"""The sign of a number, which stands where no word goes on: not the dash of `gpt-4` or `1e-05`."""
INTERVAL = re.compile(r"([+-]?\d[\d,.]*) (\[[-+\d.,\s]+\])")
"""A number with its interval."""
RANKS = re.compile(r"( \[\d+–\d+\])")
"""The range of ranks behind a rank."""
PLAIN_NUMBER = re.compile(r"[+-]?\d[\d,.]*(?: [EPTGMk]| MiB)?")
"""A cell that is a number and nothing else."""
VALUE = r"\providecommand{\harnessvalue}[2]{\begin{tabular}{@{}c@{}}#1\\[-0.4ex]{\scriptsize #2}\end{tabular}}"
"""How a number and its interval are set: a document may say it otherwise before it takes in the first table."""
FITTED = r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%"
"""Begins what is scaled down to the line's width where it is wider."""


def text(plain: str) -> str:
    """Return text that LaTeX prints as it is, on one line; the signs of numbers as minus and plus."""
    parts = SIGNED.split(one_line(plain))
    return "".join(f"${part}$" if odd % 2 else _escaped(part) for odd, part in enumerate(parts))


def code(plain: str) -> str:
    """Return text in typewriter letters, each sign as it is typed."""
    return rf"\texttt{{{_escaped(one_line(plain)).replace(chr(39), chr(92) + 'textquotesingle{}')}}}"


def _escaped(plain: str) -> str:
    written = "".join(SIGNS.get(sign) or _letter(sign) for sign in plain)
    return re.sub(r"-(?=-)", "-{}", written) if "--" in plain else written


def _letter(sign: str) -> str:
    """Return an ASCII character itself, a letter with accents by their commands, and of any other its code point."""
    if sign.isascii():
        return sign
    letter, *marks = list(unicodedata.normalize("NFD", sign))
    if not letter.isascii() or not letter.isalpha() or not all(mark in ACCENTS for mark in marks):
        return f"[U+{ord(sign):04X}]"
    for mark in marks:
        letter = rf"\{ACCENTS[mark]}{{{letter}}}"
    return letter


def table(of: PaperTable, label: str) -> str:
    """Return the `table` environment of a table: what is said before it in its caption, what after it under it."""
    grid = of.grid
    notes = [r"\par\smallskip", r"\begin{minipage}{\linewidth}\footnotesize", _paragraph(grid.after), r"\end{minipage}"]
    return _lines(
        _first(grid.title, r"\usepackage{booktabs,graphicx}"),
        VALUE,
        r"\begin{table}",
        r"\centering",
        _caption(grid.title, grid.before),
        rf"\label{{tab:{label}}}",
        r"\smallskip",
        r"\small\setlength{\tabcolsep}{4pt}",
        FITTED,
        rf"\begin{{tabular}}{{{_columns(grid)}}}",
        r"\toprule",
        _row(map(text, grid.head)),
        r"\midrule",
        *(_row([text(row[0]), *map(_cell, row[1:])]) for row in grid.rows),
        r"\bottomrule",
        r"\end{tabular}}",
        *(notes if grid.after else []),
        r"\end{table}",
    )


def figure(of: PaperFigure, label: str) -> str:
    """Return the `figure` environment of a picture, which is found by \\graphicspath."""
    return _lines(
        _first(of.title, r"\usepackage{graphicx}"),
        r"\begin{figure}",
        r"\centering",
        rf"\includegraphics[width=\linewidth,height=0.85\textheight,keepaspectratio]{{{label}}}",
        _caption(of.title, [of.caption]),
        rf"\label{{fig:{label}}}",
        r"\end{figure}",
    )


def section(of: Section) -> str:
    """Return the sentences as a paragraph with a heading, or as a list under one."""
    sentences = ["".join(map(_piece, sentence)) for sentence in of.sentences]
    heading = rf"\paragraph{{{text(of.title)}.}}"
    if not of.listed:
        return _lines(heading, r"\begin{sloppypar}", *sentences, r"\end{sloppypar}")
    items = [rf"\item {_after_command(sentence)}" for sentence in sentences]
    return _lines(heading, r"\begin{itemize}\raggedright", *items, r"\end{itemize}")


def heading(title: str) -> str:
    return _lines(rf"\subsection*{{{text(title)}}}")


def reference(of: Reference) -> str:
    """Return an entry of BibTeX, with what is known and nothing else."""
    authors = [*of.authors, *(["others"] if of.others else [])]
    fields = {
        "author": " and ".join(author if author == "others" else text(author) for author in authors),
        "title": f"{{{text(of.title)}}}",  # its capitals stay
        "year": of.year,
        "eprint": of.arxiv,
        "archiveprefix": "arXiv" if of.arxiv else "",
        "url": f"https://arxiv.org/abs/{of.arxiv}" if of.arxiv else "",
        "note": text(of.note),
        "key": "" if of.authors else text(of.title),  # what it is sorted by
    }
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items() if value]
    return _lines(f"@misc{{{of.key},", *lines, "}")


def _piece(piece: str | Term | Code | Cite) -> str:
    if isinstance(piece, str):
        return text(piece)
    if isinstance(piece, Cite):
        return rf"\cite{{{piece.key}}}"
    return rf"\emph{{{text(piece.text)}}}" if isinstance(piece, Term) else code(piece.text)


def _first(title: str, needs: str) -> str:
    """Return the comment that a file begins with."""
    return f"% {text(title)}\n% needs {needs}"


def _caption(title: str, sentences: Sequence[str]) -> str:
    return rf"\caption[{{{text(title)}}}]{{{_paragraph([f'{title}.', *sentences])}}}"


def _paragraph(sentences: Sequence[str]) -> str:
    return " ".join(map(text, sentences))


def _columns(grid: Grid) -> str:
    """Return how the columns are set: words from the left, numbers to the right, in the middle those with intervals."""
    return "".join(map(_column, zip(*grid.rows, strict=True))) or "l" * len(grid.head)


def _column(cells: Sequence[str]) -> str:
    known = [cell for cell in cells if cell != MISSING]
    if known and all(map(PLAIN_NUMBER.fullmatch, known)):
        return "r"
    return "c" if any(map(INTERVAL.search, known)) else "l"


def _cell(cell: str) -> str:
    """Return a cell with its intervals under their numbers and ranges of ranks in small type."""
    words, *found = INTERVAL.split(cell)
    written = _with_ranges(words)
    for value, ends, after in zip(found[::3], found[1::3], found[2::3], strict=True):
        written += rf"\harnessvalue{{{text(value)}}}{{{text(ends)}}}{_with_ranges(after)}"
    return written


def _with_ranges(words: str) -> str:
    parts = RANKS.split(words)
    return "".join(
        rf" {{\scriptsize {text(part.strip())}}}" if odd % 2 else text(part) for odd, part in enumerate(parts)
    )


def _row(cells: Iterable[str]) -> str:
    first, *rest = cells
    return rf"{' & '.join([_after_command(first), *rest])} \\"


def _after_command(written: str) -> str:
    """Return text behind \\item or the end of a row, either of which would read a bracket or a star as its own."""
    return f"{{}}{written}" if written.startswith(("[", "*")) else written


def _lines(*lines: str) -> str:
    return "\n".join(lines) + "\n"
