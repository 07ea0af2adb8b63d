"""The names of a run's files and folders stand in one place, and the documentation of a run has them all."""

from __future__ import annotations

import ast
from pathlib import Path

import harness
from harness.run_folder import paths

ROOT = Path(__file__).parents[2]
NAMES = {
    value
    for name, value in vars(paths).items()
    if name.isupper() and isinstance(value, str) and "." in value  # a folder's name may be a word of a file's content
}


def test_a_file_of_a_run_is_called_by_its_constant() -> None:
    assert {"record.json", "train.parquet", ".lock", "leaderboard.html"} <= NAMES
    for path in Path(harness.__file__).parent.rglob("*.py"):
        if path == Path(paths.__file__):
            continue
        texts = [node.value for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.Constant)]
        assert not NAMES.intersection(text for text in texts if isinstance(text, str)), path


def test_the_documentation_of_a_run_names_every_file() -> None:
    text = (ROOT / "docs" / "run-folder.md").read_text("utf-8")
    assert f"{paths.BOARD_JSON} .md .csv .html" in text
    others = NAMES - {*paths.BOARDS, paths.PAGE, paths.LOCK}
    assert not [name for name in others if name not in text]
