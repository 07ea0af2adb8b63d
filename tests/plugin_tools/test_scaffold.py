"""`harness plugins new` and `check`: from nothing to a loss that is installed, checked and compared."""

from __future__ import annotations

import ast
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.api import HarnessError
from harness.plugin_tools.scaffold import new_plugin, next_steps

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a new distribution, whose class name must not hide an import."""
    return new_plugin("range", tmp_path_factory.mktemp("new"))


@pytest.fixture(scope="module")
def run(written: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Run Python with the new distribution installed."""
    site = tmp_path_factory.mktemp("site")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    pip += ["--disable-pip-version-check", "--no-index", "--target", str(site), str(written)]
    subprocess.run(pip, check=True, capture_output=True, text=True)

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(site), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        return subprocess.run(
            [sys.executable, "-m", *arguments],
            capture_output=True,
            text=True,
            env=environment,
            cwd=written,
            check=False,
        )

    return call


def test_the_files_are_python_with_nothing_left_to_fill_in(written: Path) -> None:
    names = {str(path.relative_to(written)) for path in written.rglob("*") if path.is_file()}
    assert {"pyproject.toml", "README.md", "src/range.py", "tests/test_conformance.py", "tests/golden.json"} <= names
    for path in written.glob("*/*.py"):
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree)
    assert "$" not in "".join((written / name).read_text() for name in names if not name.startswith("src/range.egg"))


def test_a_new_loss_is_found_and_its_report_card_has_no_failure(run: Run) -> None:
    done = run("harness", "plugins", "check", "range")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 failed" in done.stdout


def test_its_tests_pass_but_for_the_golden_values_that_are_to_be_filled_in(run: Run, written: Path) -> None:
    done = run("pytest", "-q", "-p", "no:cacheprovider")
    assert "1 failed" in done.stdout, done.stdout + done.stderr
    assert "has no numbers to compare with yet" in done.stdout
    assert "write the loss of each pair into `expected`" in done.stdout.replace('"\nE       "', "")


def test_values_from_outside_are_compared_and_the_wrong_ones_named(run: Run, written: Path) -> None:
    # A_w - A_l: (-3.75 / 3) - (-4 / 2) = 0.75 and (-3.25 / 2) - (-6.25 / 4) = -0.0625; the loss log(1 + exp(-2 gap))
    record = json.loads((written / "tests" / "golden.json").read_text())[0]
    right = record | {"expected": [math.log1p(math.exp(-1.5)), math.log1p(math.exp(0.125))], "source": "by hand"}
    wrong = right | {"expected": [right["expected"][0], right["expected"][1] + 1e-6], "source": "planted"}
    (written / "filled.json").write_text(json.dumps([right, wrong]))
    done = run("harness", "plugins", "check", "range", "--golden", "filled.json")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "(planted)" in done.stdout
    assert "(by hand)" not in done.stdout
    assert "1 failed" in done.stdout


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("My-Loss", "lower-case letters"),
        ("my_loss", "single dashes"),
        ("2fast", "beginning with a letter"),
        ("../up", "lower-case letters"),
        ("", "for example my-loss"),
        ("simpo", "preference-harness .* already uses"),
        ("all", "stands for every loss"),
        ("base", "baseline row of the untrained model"),
        ("torch", "Python already has"),
        ("lambda", "Python already has"),
    ],
)
def test_a_name_that_cannot_be_used_says_why_and_writes_nothing(name: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=words):
        new_plugin(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "my-loss").mkdir()
    with pytest.raises(HarnessError, match="exists already"):
        new_plugin("my-loss", tmp_path)
    assert list((tmp_path / "my-loss").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HarnessError, match="cannot be written"):
        new_plugin("my-loss", tmp_path / "file")


def test_the_next_steps_name_a_folder_that_pip_does_not_take_for_a_package_of_the_index(tmp_path: Path) -> None:
    assert "pip install -e './my-loss[test]'" in next_steps(Path("my-loss"))
    assert f"pip install -e '{tmp_path / 'my-loss'}[test]'" in next_steps(tmp_path / "my-loss")
