"""What the verbs `compare` and `gate` do: read, judge, write the reports, return the text and the exit code."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from harness.api.errors import HarnessError
from harness.compare import json, junit, markdown, text
from harness.compare.comparison import compare
from harness.compare.repeats import calibrate
from harness.compare.sides import read_side
from harness.compare.verdict import Verdict, check_margin, gate, no_baseline, not_comparable
from harness.run_folder.manifest import known_manifest
from harness.run_folder.noise_floor import render_noise
from harness.run_folder.paths import NOISE_FLOOR, has_records
from harness.run_folder.store import write_atomically


class Result(NamedTuple):
    """What a verb prints and ends with."""

    text: str
    exit_code: int


def run_compare(base: Path, new: Path, metric: str | None = None, json_file: Path | None = None) -> Result:
    """Return the paired differences of two runs as text, and write them to `json_file` where asked; exit code 0.

    `metric`: by default the one that BASE is ranked by. Raises `HarnessError` as `compare` does.
    """
    comparison = compare(base, new, metric or known_manifest(base).ranked_by)
    if json_file is not None:
        write_atomically(json_file, json.render_comparison(comparison))
    return Result(text.render_comparison(comparison), 0)


def run_gate(
    base: Path,
    new: Path,
    margin: float,
    metric: str | None = None,
    *,
    json_file: Path | None = None,
    junit_file: Path | None = None,
    markdown_file: Path | None = None,
) -> Result:
    """Return the verdict as text with its exit code, and write the reports asked for.

    `metric`: by default the one that BASE is ranked by. Raises `HarnessError` where the runs may not be compared; the
    reports then say so, lest an earlier one be read.
    """
    metric = metric or known_manifest(base).ranked_by
    check_margin(margin, metric)
    try:
        reason = _why_no_baseline(base)
        verdict = no_baseline(margin, reason) if reason else gate(compare(base, new, metric), margin)
    except HarnessError as error:
        _write(not_comparable(margin, str(error)), json_file, junit_file, markdown_file)
        raise
    _write(verdict, json_file, junit_file, markdown_file)
    return Result(text.render_verdict(verdict), verdict.exit_code)


def run_calibrate(runs: Sequence[Path], metric: str | None = None, out: Path | None = None) -> Result:
    """Measure the noise floor and write it into the first run's folder, or into that of the run `out`; exit code 0.

    `runs`: repeats of the same code, or one run with several seeds; `metric`: by default the one that the folder it is
    written into is ranked by. Raises `HarnessError` where they are no repeats, and where the floor does not fit the run
    `out`.
    """
    folder = out or runs[0]
    noise = calibrate(runs, metric or known_manifest(folder).ranked_by)
    if out is not None and (unfit := read_side(out).misfit_of(noise, noise.metric, seeds=None)):
        raise HarnessError(
            f"got --out {out}, which the noise floor does not fit: {unfit}; expected a run made as those that it was "
            "measured from; calibrate with repeats of that run"
        )
    write_atomically(folder / NOISE_FLOOR, render_noise(noise))
    return Result(text.render_calibration(noise, folder), 0)


def _why_no_baseline(base: Path) -> str:
    """Return why the folder is no baseline; empty where it is one."""
    if not base.is_dir():
        return f"{base} is not there"
    if not has_records(base):
        return f"{base} has no finished cell"
    return "" if read_side(base).records else f"{base} has no scored cell of a loss"


def _write(verdict: Verdict, json_file: Path | None, junit_file: Path | None, markdown_file: Path | None) -> None:
    for path, render in (
        (json_file, json.render_verdict),
        (junit_file, junit.render),
        (markdown_file, markdown.render),
    ):
        if path is not None:
            write_atomically(path, render(verdict))
