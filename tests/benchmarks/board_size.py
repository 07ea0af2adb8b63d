"""How a board grows with its rows: the time to build it, folder and page, and the page in a browser.

    python -m tests.benchmarks.board_size 10 30 100 200       # builds them, a process each
    python -m tests.benchmarks.board_size --page 1000         # the page alone: the rows of a page of 100 over and over

A row is a loss with an option of its own, on one model with one seed; cells are made up, their files are as the harness
writes. Rows are measured for 200 pairs of 50 prompts. Chromium and its driver are needed for the last two columns.
"""

from __future__ import annotations

import re
import resource
import shutil
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # tests import each other's modules by name

import numpy as np
from made_cells import add_cell

from harness.leaderboard import write
from harness.run_folder.paths import BOARD_JSON, PAGE

PAIRS, PROMPTS = 200, 50
READY = "return performance.getEntriesByType('navigation')[0].loadEventEnd"
SORT = """
const button = document.querySelector('th button[data-column]'), began = performance.now();
button.click();
document.body.offsetHeight;
return performance.now() - began;
"""


def make(run: Path, rows: int) -> None:
    """Write the cells of so many losses, better and worse ones, and the baseline rows."""
    rng = np.random.default_rng(0)
    for number in range(rows):
        right = rng.random(PAIRS) < 0.5 + 0.4 * number / rows
        margins = np.where(right, 1.0, -1.0) * (1 + rng.random(PAIRS))
        add_cell(run, f"loss(beta={number + 1})", margins, prompts=PROMPTS)
    for label in ("base", "longer-wins"):
        add_cell(run, label, rng.normal(size=PAIRS), prompts=PROMPTS)


def measure(rows: int, folder: Path) -> dict[str, float]:
    """Return what a board of so many rows takes."""
    run = folder / f"rows-{rows}"
    make(run, rows)
    cells = size(run)
    began = time.process_time()
    write(run, draw=False)
    found = {
        "rows": rows,
        "build CPU s": time.process_time() - began,
        "peak GB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,  # KiB on Linux
        "cells MB": cells / 1e6,
        "page MB": (run / PAGE).stat().st_size / 1e6,
        "json MB": (run / BOARD_JSON).stat().st_size / 1e6,
    }
    return found | (in_browser(run / PAGE) if shutil.which("chromedriver") else {})


def size(folder: Path) -> int:
    """Return the bytes of all files of a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def in_browser(page: Path) -> dict[str, float]:
    """Return the seconds until a page answers and those of a sort, in Chromium without a window."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900"):
        options.add_argument(flag)
    options.binary_location = str(shutil.which("chromium"))
    driver: Any = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        driver.get(page.resolve().as_uri())
        return {"ready s": driver.execute_script(READY) / 1e3, "sort s": driver.execute_script(SORT) / 1e3}
    finally:
        driver.quit()


def page_alone(rows: int, folder: Path) -> dict[str, float]:
    """Return what a page of so many rows takes, made of one with 100: all comparisons of 1,000 rows take an hour."""
    run = folder / "rows-100"
    make(run, 100)
    write(run, draw=False)
    text = (run / PAGE).read_text(encoding="utf-8")
    found = re.findall(r"<tr [^>]*data-label=.*?</tr>", text, re.DOTALL)
    many = (found * (rows // len(found) + 1))[:rows]
    page = run / "many.html"
    page.write_text(
        text.replace("".join(found), "".join(many)) if "".join(found) in text else spread(text, found, many)
    )
    return {"rows": len(many), "page MB": page.stat().st_size / 1e6} | in_browser(page)


def spread(text: str, found: list[str], many: list[str]) -> str:
    """Return the page with these rows behind its first one, where text stands between its own."""
    return text.replace(found[0], "".join(many[: len(many) - len(found)]) + found[0], 1)


def main(words: list[str]) -> None:
    """Print a table as Markdown, a line for each number of rows."""
    one = page_alone if "--page" in words else measure
    for place, rows in enumerate(int(word) for word in words if word != "--page"):
        with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(1) as alone:  # its peak of memory is its own
            found = alone.submit(one, rows, Path(folder)).result()
        if not place:
            print("| " + " | ".join(found) + " |\n" + "| --- " * len(found) + "|")
        print("| " + " | ".join(f"{value:.3g}" for value in found.values()) + " |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or ["10", "30", "100", "200"])
