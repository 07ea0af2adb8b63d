"""What a report is made of before it is written down in LaTeX or Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.leaderboard.grid import Grid
from harness.leaderboard.hints import Code, Term


@dataclass(frozen=True)
class Cite:
    """A reference, by its key."""

    key: str


Sentence = tuple[str | Term | Code | Cite, ...]
"""The pieces of one sentence, in order."""


@dataclass(frozen=True, kw_only=True)
class Section:
    """Sentences under a heading."""

    title: str
    sentences: tuple[Sentence, ...]
    listed: bool = False
    """Whether each sentence is an item of a list."""


@dataclass(frozen=True, kw_only=True)
class PaperTable:
    """A table with the name of its files."""

    name: str
    grid: Grid


@dataclass(frozen=True, kw_only=True)
class PaperFigure:
    """A picture with the name of its files."""

    name: str
    title: str
    caption: str
    svg: str
    pdf: bytes


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A paper, as the source of a loss names it."""

    key: str
    title: str
    authors: tuple[str, ...] = ()
    others: bool = False
    """Whether there are more authors than those named."""
    year: str = ""
    arxiv: str = ""
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class RunPaper:
    """All that a report has of one run folder."""

    name: str
    """What its files begin with where a report has several runs."""
    tables: tuple[PaperTable, ...]
    figures: tuple[PaperFigure, ...]
    no_figures: str
    """Why there are none, in one line; empty where there are."""
    protocol: tuple[Section, ...]
    references: Mapping[str, Reference]
    """By key."""
