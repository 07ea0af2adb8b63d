"""A run folder -> the form another tool reads: lm-evaluation-harness results, a tidy CSV, a data set for the hub."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from harness.api.errors import HarnessError
from harness.exchange import hub, lm_eval
from harness.leaderboard import ranked_records, table_of
from harness.leaderboard.decide.estimates import Estimate
from harness.leaderboard.formatting import rounded
from harness.leaderboard.table import Board, Row, Table
from harness.run_folder.paths import check_new, new_folder
from harness.run_folder.record import Record
from harness.run_folder.shown import csv_cells
from harness.run_folder.store import write_atomically
from harness.statistics.answer_metrics import answer_metric
from harness.statistics.metrics import METRICS

FORMATS = ("lm-eval", "csv", "hf")
COLUMNS = (
    *("board", "model", "preset", "dataset", "budget", "learning_rate", "noise", "select", "optimizer", "evaluated_on"),
    *("protocol", "trials", "label", "loss", "kind", "options", "tuned", "seeds", "status", "reason"),
    *("metric", "unit", "direction", "value", "low", "high", "n", "why_missing", "fraction"),
)
"""Of the CSV. `board` counts the boards from 1; `model` is `all` on the one over all models. `trials` is 0 on boards of
untuned losses; `tuned` has, by model, what was chosen from how many trials, as JSON. `fraction` is that of the
budget spent at a point along the run, and empty in a run without points."""


def run_export(run: Path, format: str, output: Path) -> tuple[str, int]:
    """Return what `harness export RUN --format FORMAT --output PLACE` says, and its exit code, 0.

    `output` is a file for `csv`, replaced if it is there; for `lm-eval` and `hf` a new folder, written whole or not at
    all. Tuned losses are in all three, marked with their number of trials.
    Raises `HarnessError` for an unknown format, a folder that is there already, and a run without results.
    """
    if format not in FORMATS:
        raise HarnessError(f"--format got '{format}', expected one of {', '.join(FORMATS)}")
    records = ranked_records(run)
    scored = [record for record in records if record.scored]
    if not scored:
        raise HarnessError(
            f"got {run} with {len(records)} cells, none scored; expected at least one scored; finish the run first"
        )
    lost = len(records) - len(scored)
    if format == "csv":
        if output.is_dir():
            raise HarnessError(f"--output got the folder {output}, expected a file; name one, such as {output}/run.csv")
        text = as_csv(table_of(run)[0])
        write_atomically(output, text)
        return f"{output}: {text.count(chr(10)) - 1:,} lines, one per board, loss and metric", 0
    check_new(output)  # before the work
    if format == "lm-eval":
        with new_folder(output) as folder:
            _fill(folder, {lm_eval.file_name(record): lm_eval.render(record) for record in scored})
        summary = f"{output}: {len(scored)} files, one per cell, as lm-evaluation-harness writes results"
        return summary + (f"; {lost} cells that failed or diverged have no file" if lost else ""), 0
    return _export_hub(run, records, output), 0


def as_csv(table: Table) -> str:
    """Return a tidy table with a heading: one line per board, loss, metric and point, each complete in itself."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number, board in enumerate(table.boards, start=1):
        where = [number, board.model, board.preset, board.dataset]
        trials = board.settings.trials or 0
        for row in board.rows:
            of = board.settings
            settings = [of.budget, _rate(board, row), of.noise, of.select, of.optimizer or "adamw", of.evaluated_on]
            chosen = {model: asdict(choice) for model, choice in row.tuned.items()}
            options, tuned = (json.dumps(rounded(values), sort_keys=True) for values in (row.options, chosen))
            who = [trials, row.label, row.loss, row.kind, options, tuned if row.tuned else ""]
            who += [" ".join(map(str, row.seeds)), row.status, row.reason]
            answers = row.answers.values if row.answers else {}
            at: list[tuple[float | str, Mapping[str, Estimate]]] = [
                (1.0 if row.points else "", {**row.metrics, **answers})
            ]
            at += [(point.fraction, {**point.metrics, **point.answers}) for point in row.points if point.fraction < 1]
            for fraction, metrics in at:
                for name, estimate in metrics.items():
                    numbers = [*rounded([estimate.value, estimate.low, estimate.high]), estimate.n]
                    metric = METRICS[name] if name in METRICS else answer_metric(name)
                    what = [name, metric.unit, metric.direction, *numbers, row.metric_reasons.get(name, ""), fraction]
                    writer.writerow(csv_cells([*where, *settings, table.protocol, *who, *what]))
    return text.getvalue()


def _rate(board: Board, row: Row) -> float | None:
    """Return the learning rate of a row: the board's, or the one chosen where it is the same on all models."""
    chosen = {choice.learning_rate for choice in row.tuned.values()}
    return chosen.pop() if len(chosen) == 1 else board.settings.learning_rate


def _export_hub(run: Path, records: list[Record], output: Path) -> str:
    texts, frames = hub.files(table_of(run)[0], records)
    with new_folder(output) as folder:
        (folder / "data").mkdir()
        for name, table in frames.items():
            table.to_parquet(folder / name, index=False)
        _fill(folder, texts)
    counts = ", ".join(f"{name} ({len(table):,} rows)" for name, table in frames.items())
    return (
        f"{output}: {counts}, leaderboards and card. Set `license` in README.md, then push it: "
        f"hf upload --repo-type dataset NAME/REPOSITORY {output}"
    )


def _fill(folder: Path, texts: dict[str, str]) -> None:
    for name, text in texts.items():
        write_atomically(folder / name, text)
