"""What a person installs and cites: the wheel has every file, the citation and the release name one version."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # its stubs are a package of their own

import harness

ROOT = Path(__file__).parents[2]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
CITATION: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
RELEASE: dict[Any, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text("utf-8"))
SOURCES = {"harness": "harness", "plugins": "harness_plugins"}
"""Folders of the repository, and what they are called when they are installed."""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """The wheel, built from a copy, without the network."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        shutil.copytree(ROOT / name, folder / "source" / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder / "source" / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    pip += ["--disable-pip-version-check", "--wheel-dir", str(folder), str(folder / "source")]
    subprocess.run(pip, check=True, capture_output=True, text=True)
    (path,) = folder.glob("*.whl")
    return zipfile.ZipFile(path)


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    wanted = {
        f"{installed}/{path.relative_to(ROOT / name).as_posix()}"
        for name, installed in SOURCES.items()
        for path in (ROOT / name).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == wanted
    assert {"harness/py.typed", "harness_plugins/py.typed", "harness/leaderboard/page/page.css"} <= held
    assert any(name.endswith("/licenses/LICENSE") for name in wheel.namelist())


def test_every_entry_point_of_the_wheel_is_a_module_in_it(wheel: zipfile.ZipFile) -> None:
    (path,) = (name for name in wheel.namelist() if name.endswith("entry_points.txt"))
    modules = re.findall(r"^[\w-]+ = ([\w.]+)", wheel.read(path).decode(), re.MULTILINE)
    assert len(modules) > len(PROJECT["entry-points"]["harness"])  # the command too
    names = set(wheel.namelist())
    assert [each for each in modules if f"{each.replace('.', '/')}.py" not in names] == []


def test_package_citation_and_code_have_one_version() -> None:
    assert PROJECT["version"] == harness.__version__ == CITATION["version"]
    assert CITATION["license"] == PROJECT["license"]
    assert CITATION["title"] == PROJECT["name"]
    assert CITATION["abstract"] == PROJECT["description"]


def test_the_citation_has_what_its_schema_requires() -> None:
    assert {"cff-version", "message", "title", "authors"} <= set(CITATION)
    assert CITATION["cff-version"] == "1.2.0"
    assert CITATION["type"] == "software"
    assert all("name" in author or "family-names" in author for author in CITATION["authors"])


def test_only_a_tag_publishes_after_the_checks_and_in_a_protected_environment() -> None:
    build, publish = RELEASE["jobs"]["build"], RELEASE["jobs"]["publish"]
    assert RELEASE["permissions"] == {"contents": "read"}
    assert publish["if"] == "github.event_name == 'push' && github.ref_type == 'tag'"
    assert publish["needs"] == "build"
    assert publish["environment"] == "pypi"
    assert publish["permissions"] == {"id-token": "write"}
    assert "permissions" not in build
    assert "tox -e package" in [step.get("run") for step in build["steps"]]
    assert "secrets." not in str(RELEASE)


@pytest.mark.parametrize(("tag", "code"), [(f"v{PROJECT['version']}", 0), ("v9.9.9", 1), (PROJECT["version"], 1)])
def test_a_tag_that_is_not_the_version_ends_the_release(tag: str, code: int) -> None:
    (step,) = (step for step in RELEASE["jobs"]["build"]["steps"] if step.get("if") == "github.ref_type == 'tag'")
    script = step["run"].replace("python ", f"{sys.executable} ")
    bash = ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", script]
    done = subprocess.run(bash, cwd=ROOT, env={"GITHUB_REF_NAME": tag}, check=False, capture_output=True)
    assert done.returncode == code
