"""Where losses are from, as the docstrings of those that are installed say it; nothing is looked up or added."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.api.paragraphs import paragraphs
from harness.api.wrapper import with_inner
from harness.manager import Manager, losses, owner_of, plugin_manager, resolver
from harness.report.names import plain_name
from harness.report.pieces import Reference
from harness.run_folder.record import Record

PAPER = re.compile(
    r"(?P<authors>[^\W\d_][^\d:;()\"]*?) \((?P<year>\d{4})\), \"(?P<title>[^\"]+)\", "
    r"arXiv:(?P<arxiv>\d{4}\.\d{4,5})(?:v\d+)?"
)
"""Authors (year), "Title", arXiv:number."""
UNDER_REVIEW = re.compile(r"\"(?P<title>[^\"]+)\" \((?P<note>[^()]+)\)")
"""A title alone, with what is said of it."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where a loss is from."""

    references: tuple[Reference, ...] = ()
    words: str = ""
    """What its docstring says, where that names no paper; empty where the loss is not installed."""


def sources(records: Iterable[Record]) -> Mapping[str, Source]:
    """Return the source of each loss by its label, those of losses that it wraps included."""
    manager = plugin_manager()
    firsts = {record.label: record for record in reversed([*records]) if record.kind == "loss"}
    return {label: _source(manager, record) for label, record in sorted(firsts.items())}


def _source(manager: Manager, record: Record) -> Source:
    said = [_said(manager, name) for name in _with_inner(manager, record)]
    found = {reference.key: reference for words in said for reference in papers(words)}
    return Source(references=tuple(found.values()), words="" if found else " ".join(said[:1]))


def _with_inner(manager: Manager, record: Record) -> list[str]:
    """Return the names of the loss and those that it wraps; none where another distribution has the name here."""
    name = record.loss.name
    if name not in losses(manager) or owner_of(manager, name).distribution != record.loss.plugin:
        return []
    try:
        return [loss.name for loss in with_inner(resolver(manager)(name, record.loss.options))]
    except Exception:  # another version may refuse the options, however it does: the loss itself has its source
        return [name]


def _said(manager: Manager, name: str) -> str:
    return paragraphs(losses(manager)[name]).get("Source", "")


def papers(said: str) -> list[Reference]:
    """Return the papers that the paragraph of a source names."""
    found = [
        Reference(
            key=f"arxiv-{paper['arxiv']}",
            title=paper["title"],
            authors=tuple(name.strip() for name in paper["authors"].removesuffix(" et al.").split(",")),
            others=paper["authors"].endswith(" et al."),
            year=paper["year"],
            arxiv=paper["arxiv"],
        )
        for paper in PAPER.finditer(said)
    ]
    if not found and (alone := UNDER_REVIEW.match(said)):
        key = plain_name(alone["title"])
        found = [Reference(key=key, title=alone["title"], note=alone["note"])]
    return found
