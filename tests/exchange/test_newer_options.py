"""A run folder that was made before an option was there: what writes run.toml anew writes the option's default."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.exchange.verify import verify
from harness.planning.run_file import make_run

NANO = Path(__file__).parents[2] / "leaderboards" / "nano"


@pytest.fixture
def rewritten(tmp_path: Path) -> Path:
    """An older run, its run.toml written by this version from its manifest, as `merge` does."""
    folder = tmp_path / "nano"
    shutil.copytree(NANO, folder)
    run = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))["run"]
    assert "samples" not in run
    (folder / "run.toml").write_text(make_run(run).as_toml(), encoding="utf-8")
    return folder


def test_a_default_of_an_option_that_the_manifest_does_not_know_is_no_difference(rewritten: Path) -> None:
    assert "samples = 1\n" in (rewritten / "run.toml").read_text(encoding="utf-8")
    assert not verify(rewritten).problems


def test_another_value_than_the_default_is_one(rewritten: Path) -> None:
    text = (rewritten / "run.toml").read_text(encoding="utf-8")
    (rewritten / "run.toml").write_text(text.replace("samples = 1\n", "samples = 3\n"), encoding="utf-8")
    problems = [problem for problem in verify(rewritten).problems if "run.toml: got samples 3, expected 1" in problem]
    assert len(problems) == 1
