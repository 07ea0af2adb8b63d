"""The example notebook and the code of docs/python.md, cell by cell in an interpreter without a main file."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from results.conftest import SHELL
from waiting import HANGS

import harness

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "examples" / "results.ipynb"
PAGE = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")


def cells(path: Path) -> list[str]:
    found = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == "code"]


def executed(code: list[str], folder: Path, environment: dict[str, str]) -> None:
    (folder / "cells.py").write_text(f"CELLS = {code!r}\n{SHELL}", encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-W", "error", "cells.py"],
        capture_output=True,
        text=True,
        timeout=HANGS,
        cwd=folder,
        env={**environment, "MPLBACKEND": "agg"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_notebook_runs_and_plots_a_run_in_three_lines(tmp_path: Path, environment: dict[str, str]) -> None:
    code = cells(NOTEBOOK)
    (plot,) = [cell for cell in code if "load_run" in cell]
    assert len(plot.splitlines()) <= 4  # the import and three lines
    count = "import matplotlib.pyplot as plt\nassert [len(plt.figure(k).axes[0].lines) for k in (1, 2)] == [3, 6]"
    executed([*code, count], tmp_path, environment)  # a line per loss, the one without the option empty; one per label
    (folder,) = (tmp_path / "runs").iterdir()
    labels = {row.label.partition("@")[0] for row in harness.load_run(folder).boards[0].rows}
    assert labels == {"shifted", "simpo(beta=1)", "simpo(beta=4)", "dpo", "base", "longer-wins"}


def test_the_notebook_is_committed_without_what_it_printed() -> None:
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_the_code_of_the_page_runs(tmp_path: Path, environment: dict[str, str]) -> None:
    executed(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL), tmp_path, environment)


@pytest.mark.parametrize("name", ["boards", "rows", "responses", "steps", "answers"])
def test_every_table_is_on_the_page(name: str) -> None:
    assert f'`results.frame("{name}")`' in PAGE
