"""`harness report`: what run folders say, as files that a paper takes in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.api.errors import HarnessError
from harness.leaderboard import table_of
from harness.report import latex, markdown
from harness.report.figures import figures
from harness.report.names import told_apart
from harness.report.pieces import RunPaper
from harness.report.protocol import protocol
from harness.report.references import sources
from harness.report.tables import tables
from harness.run_folder.manifest import known_manifest
from harness.run_folder.paths import check_new, check_run, new_folder
from harness.run_folder.store import write_atomically

TABLES, FIGURES = "tables", "figures"
PROTOCOL, REFERENCES, README = "protocol", "references.bib", "README.md"


def run_report(runs: Sequence[Path], output: Path) -> tuple[str, int]:
    """Return what `harness report RUN... --output FOLDER` says, and its exit code, 0.

    The folder is written whole or not at all. Raises `HarnessError` for a folder that is there already, a run that is
    named twice, and whatever a leaderboard cannot be made of.
    """
    check_new(output)  # before the work
    places = [run.resolve() for run in runs]
    for run, place in zip(runs, places, strict=True):
        check_run(run)
        if places.count(place) > 1:
            raise HarnessError(f"got {run} more than once, expected different runs; name each once")
    papers = [paper_of(run, name) for run, name in zip(runs, told_apart(place.name for place in places), strict=True)]
    with new_folder(output) as folder:
        write_paper(folder, papers)
    numbers = sum(len(paper.tables) for paper in papers), sum(len(paper.figures) for paper in papers)
    said = (
        f"{output}: {numbers[0]} tables, {numbers[1]} figures, protocol and references; README.md says how to use them"
    )
    notes = dict.fromkeys(paper.no_figures for paper in papers if paper.no_figures)
    return "\n".join([said, *notes]), 0


def paper_of(run: Path, name: str) -> RunPaper:
    """Return the tables, figures, sentences and references of a run folder; reads it, writes nothing."""
    table, records = table_of(run)
    where = sources(records)
    drawn, no_figures = figures(table, records)
    return RunPaper(
        name=name,
        tables=tables(table),
        figures=drawn,
        no_figures=no_figures,
        protocol=protocol(table, records, known_manifest(run), where),
        references={each.key: each for source in where.values() for each in source.references},
    )


def write_paper(folder: Path, papers: Sequence[RunPaper]) -> None:
    """Write the files of a report into an empty folder; those of several runs begin with the name of theirs."""
    prefixes = [f"{paper.name}--" if len(papers) > 1 else "" for paper in papers]  # no name has two dashes itself
    for paper, prefix in zip(papers, prefixes, strict=True):
        _write_run(folder, paper, prefix)
    _write_protocol(folder, papers)
    references = {key: of for paper in papers for key, of in paper.references.items()}
    write_atomically(folder / REFERENCES, "\n".join(latex.reference(references[key]) for key in sorted(references)))
    write_atomically(folder / README, markdown.readme(papers, prefixes))


def _write_run(folder: Path, paper: RunPaper, prefix: str) -> None:
    for table in paper.tables:
        name = prefix + table.name
        write_atomically(folder / TABLES / f"{name}.tex", latex.table(table, name))
        write_atomically(folder / TABLES / f"{name}.md", markdown.table(table))
    for figure in paper.figures:
        name = prefix + figure.name
        write_atomically(folder / FIGURES / f"{name}.svg", figure.svg)
        (folder / FIGURES / f"{name}.pdf").write_bytes(figure.pdf)
        write_atomically(folder / FIGURES / f"{name}.tex", latex.figure(figure, name))
        write_atomically(folder / FIGURES / f"{name}.md", markdown.figure(figure, name))


def _write_protocol(folder: Path, papers: Sequence[RunPaper]) -> None:
    for writer, suffix in ((latex, ".tex"), (markdown, ".md")):
        parts: list[str] = []
        for paper in papers:
            parts += [writer.heading(paper.name)] if len(papers) > 1 else []
            parts += map(writer.section, paper.protocol)
        write_atomically(folder / f"{PROTOCOL}{suffix}", "\n".join(parts))
