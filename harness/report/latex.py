"""Tables, figures, sentences and references as LaTeX and BibTeX, for \\input. Pure; every text is escaped.

Whatever a name holds, nothing of it is read as a command: letters with accents and signs that we know become commands
of the LaTeX kernel, and what is left outside ASCII is named by its code point, so that any engine takes it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from harness.leaderboard.formatting import MISSING, one_line
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
BRACKET = re.compile(r"( ?\[[-+\d.,–\s]+\])")
"""An interval or a range of ranks behind its number."""
VALUE = re.compile(r"[+-]?\d[\d,.]*(?: ?\[[-+\d.,–\s]+\])?(?: [EPTGMk]| MiB|~| [†‡])?")
"""A cell that is a number, with what belongs to it."""
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
    letter, *marks = unicodedata.normalize("NFD", sign)
    if not letter.isascii() or not letter.isalpha() or not all(mark in ACCENTS for mark in marks):
        return f"[U+{ord(sign):04X}]"
    for mark in marks:
        letter = rf"\{ACCENTS[mark]}{{{letter}}}"
    return letter


def table(of: PaperTable, label: str) -> str:
    """Return the `table` environment of a table: what is said before it in its caption, what after it under it."""
    grid = of.grid
    numbers = [
        all(cell == MISSING or VALUE.fullmatch(cell) for cell in cells) for cells in zip(*grid.rows, strict=True)
    ] or [False] * len(grid.head)
    columns = "".join("r" if number else "l" for number in numbers)
    notes = [r"\par\smallskip", r"\begin{minipage}{\linewidth}\footnotesize", _paragraph(grid.after), r"\end{minipage}"]
    return _lines(
        _first(grid.title, r"\usepackage{booktabs,graphicx}"),
        r"\begin{table}",
        r"\centering",
        _caption(grid.title, grid.before),
        rf"\label{{tab:{label}}}",
        r"\small",
        FITTED,
        rf"\begin{{tabular}}{{{columns}}}",
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
        return _lines(heading, *sentences)
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


def _cell(cell: str) -> str:
    """Return a cell with what is in brackets behind its number in small type."""
    parts = BRACKET.split(cell)
    return "".join(
        rf" {{\scriptsize {text(part.strip())}}}" if odd % 2 else text(part) for odd, part in enumerate(parts)
    ).strip()


def _row(cells: Iterable[str]) -> str:
    first, *rest = cells
    return rf"{' & '.join([_after_command(first), *rest])} \\"


def _after_command(written: str) -> str:
    """Return text behind \\item or the end of a row, either of which would read a bracket or a star as its own."""
    return f"{{}}{written}" if written.startswith(("[", "*")) else written


def _lines(*lines: str) -> str:
    return "\n".join(lines) + "\n"
