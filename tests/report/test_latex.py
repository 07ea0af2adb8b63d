"""Names as LaTeX: nothing of them is a command, and a reader sees what they were."""

from __future__ import annotations

import shutil
import string
import subprocess
from pathlib import Path

import latex_reader
import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_examples import HOSTILE, table

from harness.leaderboard.grid import Grid
from harness.leaderboard.hints import Code, Term
from harness.report import latex
from harness.report.pieces import Cite, PaperTable, Reference, Section
from harness.report.tables import tables

NAMES = (
    *HOSTILE,
    r"a_b%\input{x}",
    r"\end{table}\input{/etc/passwd}",
    "}}{{",
    "[1]*",
    "--beta=-1 & 50 % of #2 ~^|<>\"'`",
    "^^5cinput x",
    "Łukasz Ångström, café ß, naïve 模型 😀 a\u0301\u200b\u2028\r\n\x00\ud800",
)
ASCII = st.text(st.sampled_from(string.ascii_letters + string.digits + string.punctuation))


def a_table(*names: str) -> str:
    """Return a table that has these names in every place where a text from outside can stand."""
    every = tuple(names)
    grid = Grid(
        title=names[0], before=every, head=("loss", *every), rows=(("", *every), (names[0], *every)), after=every
    )
    return latex.table(PaperTable(name="x", grid=grid), "x")


@given(st.text())
def test_whatever_a_name_is_a_table_of_it_is_well_formed(name: str) -> None:
    latex_reader.check(a_table(name, f"[{name}"))
    latex_reader.check(latex.section(Section(title=name, sentences=((name, Term(name), Code(name)),), listed=True)))


@given(ASCII)
def test_a_name_is_printed_as_it_is(name: str) -> None:
    latex_reader.check(latex.text(name))
    assert latex_reader.read(latex.text(name)) == name
    assert latex_reader.read(latex.code(name).removeprefix(r"\texttt{").removesuffix("}")) == name


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_hostile_name_is_harmless_wherever_it_stands(name: str) -> None:
    latex_reader.check(a_table(name))
    latex_reader.check(latex.reference(Reference(key="k", title=name, authors=(name,), note=name)).replace("@misc", ""))
    for of in tables(table([name, "simpo"])):
        latex_reader.check(latex.table(of, of.name))


def test_the_reader_of_these_tests_refuses_what_an_escape_that_is_forgotten_leaves() -> None:
    for wrong in ("a_b", "50 % of it", "{", "a & b", r"\input{x}", "#1", "~", "$x", "café", r"\begin{table}"):
        with pytest.raises(AssertionError):
            latex_reader.check(wrong)


@pytest.mark.parametrize(
    ("plain", "written"),
    [
        ("-0.016 [-0.050, +0.028]", "$-$0.016 [$-$0.050, $+$0.028]"),
        ("1e-05 of gpt-4, 2024-01-02", "1e-05 of gpt-4, 2024-01-02"),
        ("dpo(beta=-1)", "dpo(beta=$-$1)"),
        ("[1–7] –", "[1--7] --"),
        ("--seeds", "-{}-seeds"),
        ("café", r"caf\'{e}"),
        ("ệ", "[U+1EC7]"),
        ("模", "[U+6A21]"),
        ("ab\u200bc", r"ab\textbackslash{}u200bc"),
    ],
)
def test_signs_and_accents_are_written_as_people_want_them(plain: str, written: str) -> None:
    assert latex.text(plain) == written


def test_cells_columns_and_rows() -> None:
    head = ("loss", "rank", "value", "number", "words")
    rows = (
        ("[a]", "2 [1–3]~", "-0.100 [-0.200, 0.000] ‡", "1,024", "0.5 [0.4, 0.6] beta=2"),
        ("*b", "–", "–", "–", "–"),
    )
    written = latex.table(PaperTable(name="x", grid=Grid(title="t", before=(), head=head, rows=rows)), "x").splitlines()
    assert r"\begin{tabular}{llcrc}" in written
    assert (
        r"{}[a] & 2 {\scriptsize [1--3]}\textasciitilde{} & \harnessvalue{$-$0.100}{[$-$0.200, 0.000]} \ddag{} & "
        r"1,024 & \harnessvalue{0.5}{[0.4, 0.6]} beta=2 \\"
    ) in written
    assert r"{}*b & -- & -- & -- & -- \\" in written


def test_sentences_with_citations_and_an_entry_with_what_is_known() -> None:
    section = Section(title="Losses", sentences=((Term("simpo"), ": beta = 2 ", Cite("arxiv-1"), "."),))
    assert r"\emph{simpo}: beta = 2 \cite{arxiv-1}." in latex.section(section)
    entry = Reference(key="arxiv-1", title="A & B", authors=("Meng", "Xia"), others=True, year="2024", arxiv="2405.1")
    assert latex.reference(entry) == (
        "@misc{arxiv-1,\n  author = {Meng and Xia and others},\n  title = {{A \\& B}},\n  year = {2024},\n"
        "  eprint = {2405.1},\n  archiveprefix = {arXiv},\n  url = {https://arxiv.org/abs/2405.1},\n}\n"
    )


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_latex_itself_takes_every_name(tmp_path: Path) -> None:
    body = a_table(*NAMES) + latex.section(
        Section(title=NAMES[4], sentences=tuple((name, Code(name)) for name in NAMES))
    )
    document = "\\documentclass{article}\\usepackage{booktabs,graphicx}\\begin{document}\\listoftables\n"
    (tmp_path / "main.tex").write_text(f"{document}{body}\\end{{document}}", encoding="utf-8")
    for _ in range(2):  # the list of tables reads what the captions wrote
        words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "main"]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:].decode(errors="replace")
