"""The studies in leaderboards/studies: small, free of anybody's machine, and made again from their records."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from page_examples import needed

from harness.leaderboard.formatting import markdown_text
from harness.leaderboard.pictures.files import why_no_pictures
from harness.study.study_file import STUDY_FILE, read_study
from harness.study.write import RECORDS, REPORT, write_study

STUDIES = Path(__file__).parents[2] / "leaderboards" / "studies"
FOLDERS = sorted(path.parent for path in STUDIES.glob(f"*/{STUDY_FILE}"))
OF_A_NAME = {"argvalues": FOLDERS, "ids": [folder.name for folder in FOLDERS]}
AT_MOST = 10_000_000
"""Bytes of a committed study."""


def test_the_questions_of_the_readme_are_those_that_are_committed() -> None:
    page = (STUDIES.parent / "README.md").read_text(encoding="utf-8")
    for folder in FOLDERS:
        assert f"(studies/{folder.name}/study.md)" in page
        assert markdown_text(read_study(folder / STUDY_FILE).question) in page


@pytest.mark.parametrize("folder", **OF_A_NAME)
def test_a_study_is_small_and_whole(folder: Path) -> None:
    files = [path for path in folder.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= AT_MOST
    assert {path.name for path in files} >= {STUDY_FILE, REPORT, RECORDS, "leaderboard.html", "leaderboard.md"}
    assert any(path.suffix == ".svg" for path in files)


@pytest.mark.parametrize("folder", **OF_A_NAME)
def test_a_study_is_made_again_from_its_records_byte_for_byte(folder: Path, tmp_path: Path) -> None:
    needed(why_no_pictures())
    before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    for name in (STUDY_FILE, RECORDS):
        shutil.copy(folder / name, tmp_path)
    write_study(tmp_path, read_study(tmp_path / STUDY_FILE), draw=True)
    after = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert after.keys() == before.keys()
    # pictures are as another release of what draws them makes them
    assert [name for name in before if before[name] != after[name] and not name.endswith(".svg")] == []
