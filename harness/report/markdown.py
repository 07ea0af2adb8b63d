"""Figures, sentences and a report's own README as Markdown. Pure; every text is escaped."""

from __future__ import annotations

import re
from collections.abc import Sequence

from harness.leaderboard.formatting import markdown_text, one_line
from harness.leaderboard.hints import Code, Term
from harness.leaderboard.markdown import grid_lines
from harness.report.pieces import Cite, PaperFigure, PaperTable, RunPaper, Section

MOST_LISTED = 24
"""More tables and figures are counted in the README: it is one screen."""


def table(of: PaperTable) -> str:
    return "\n".join(grid_lines(of.grid)) + "\n"


def figure(of: PaperFigure, label: str) -> str:
    title = markdown_text(of.title)
    return f"![{title}]({label}.svg)\n\n**{title}.** {markdown_text(of.caption)}\n"


def section(of: Section) -> str:
    """Return the sentences as a paragraph under a heading, or as a list."""
    sentences = ["".join(map(_piece, sentence)) for sentence in of.sentences]
    body = "\n".join(f"- {sentence}" for sentence in sentences) if of.listed else " ".join(sentences)
    return f"## {markdown_text(of.title)}\n\n{body}\n"


def heading(title: str) -> str:
    return f"# {markdown_text(title)}\n"


def _piece(piece: str | Term | Code | Cite) -> str:
    if isinstance(piece, str):
        return markdown_text(piece)
    if isinstance(piece, Cite):
        return f"[@{piece.key}]"
    return f"*{markdown_text(piece.text)}*" if isinstance(piece, Term) else code(piece.text)


def code(plain: str) -> str:
    """Return text as code, on one line, whatever backticks are in it."""
    line = one_line(plain)
    fence = "`" * (1 + max(map(len, re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if "`" in line else f"`{line}`"


README = """\
# Tables, figures and sentences for a paper

Made by `harness report` from {runs}. Every number is from the records of a run, written as on its leaderboard.

- `tables/`: each table as `.tex` (one `table` environment with caption and label) and `.md`
- `figures/`: each picture as `.pdf` and `.svg`, its `figure` environment as `.tex`, its caption as `.md`{no_figures}
- `protocol.tex`, `protocol.md`: what was trained, scored and tested, on which versions, and how to run it again
- `references.bib`: the papers of the losses, as the losses name them: complete the authors before you print

In a LaTeX document beside this folder, called `paper/` here:

```latex
\\usepackage{{booktabs,graphicx}}
\\graphicspath{{{{paper/figures/}}}}
\\input{{paper/{table}}}{figure}
\\input{{paper/protocol}}
\\bibliographystyle{{plain}}
\\bibliography{{paper/references}}
```

Labels are `tab:` and `fig:` with the name of the file. A table wider than the line is scaled down to it; in two columns
`table*` and `figure*` give it the page. Intervals stand under their numbers; a document that begins with
`\\newcommand{{\\harnessvalue}}[2]{{#1 {{\\scriptsize #2}}}}` has them behind. LaTeX of 2020 or newer; pdfTeX warns of
pictures in PDF 1.7 unless `\\pdfminorversion=7` is its first line.

{listed}
"""


def readme(papers: Sequence[RunPaper], prefixes: Sequence[str]) -> str:
    """Return README.md of a report; `prefixes`: what the files of each run begin with."""
    tables, figures = [], []
    for paper, prefix in zip(papers, prefixes, strict=True):
        tables += [(f"tables/{prefix}{table.name}", table.grid.title) for table in paper.tables]
        figures += [(f"figures/{prefix}{figure.name}", figure.title) for figure in paper.figures]
    why = next((paper.no_figures for paper in papers if paper.no_figures), "")
    files = tables + figures
    left = len(files) - MOST_LISTED
    lines = [f"- `{name}`: {markdown_text(title.partition(' · ')[0])}" for name, title in files[:MOST_LISTED]]
    lines += [f"- and {left} more; the first line of each says what it shows"] if left > 0 else []
    return README.format(
        runs=", ".join(code(paper.name) for paper in papers),
        no_figures=f". {markdown_text(why)}" if why else "",
        table=tables[0][0],
        figure=f"\n\\input{{paper/{figures[0][0]}}}" if figures else "",
        listed="\n".join(lines),
    )
