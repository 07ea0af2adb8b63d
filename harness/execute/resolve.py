"""What a run asks for, checked: plugins, models, budget and data. Nothing is started, tried or written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.api import Dataset, HarnessError, LoadOptions
from harness.data.sources import load
from harness.execute.preflight import check_learning_rate, local_names
from harness.manager import Manager, datasets, losses, plugin_manager, resolver
from harness.planning.budget import Budget
from harness.planning.estimates import estimates, visits
from harness.planning.grid import Cell, cells, select
from harness.planning.run_file import Run, make_run, read_run
from harness.run_folder.facts import BoardKey, content_key
from harness.run_folder.manifest import known_manifest
from harness.run_folder.paths import MANIFEST
from harness.statistics.metrics import METRICS

RUNS = Path("runs")
"""Where runs go without --output-dir."""


@dataclass(frozen=True, kw_only=True)
class Resolved:
    """What a run asks for, checked. Nothing is started or written yet."""

    run: Run
    folder: Path
    grid: tuple[Cell, ...]
    dataset: Dataset
    manager: Manager
    keep_checkpoints: bool


def run_values(path: Path | None, flags: dict[str, Any]) -> Run:
    """Return the run of a file and flags; a flag that was given wins over the file."""
    values = read_run(path) if path else {}
    return make_run(values | {name: value for name, value in flags.items() if value is not None})


def resolve(run: Run, output: Path | None, keep_checkpoints: bool) -> Resolved:
    """Return the run, checked: plugins, models, budget and data. Nothing is started, tried or written.

    Raises `HarnessError`, one line, for the first thing that is wrong.
    """
    manager = plugin_manager()
    known = losses(manager)
    systems = select(run.plugins, list(known), resolver(manager))
    names = local_names(run)
    check_learning_rate(run)
    Budget.parse(run.settings.budget)
    if run.ranked_by not in METRICS or METRICS[run.ranked_by].direction != "higher":
        ranking = [name for name, metric in METRICS.items() if metric.direction == "higher"]
        raise HarnessError(f"--ranked-by got '{run.ranked_by}', expected one of {', '.join(ranking)}")
    named = datasets(manager)
    data = limited(load(run.dataset, _load_options(run), named), run.limit)
    run, folder = _by_content(run, "" if run.dataset in named else content_key(data.fingerprint), names, output)
    grid = cells([run.called(model) for model in run.models], systems, run.seeds)
    # raises where the budget or the data cannot make one step; in tokens and FLOPs this is an estimate
    estimates(run, visits(data), ((cell, 1_000_000) for cell in grid))
    return Resolved(
        run=run,
        folder=folder,
        grid=tuple(grid),
        dataset=data,
        manager=manager,
        keep_checkpoints=keep_checkpoints,
    )


def _by_content(run: Run, data: str, names: Mapping[str, str], output: Path | None) -> tuple[Run, Path]:
    """Return the run and its folder: local data and local models are known by their content, whatever their path.

    `data`: what its key calls the data, empty for those with a name. `names`: what local models are called. A folder of
    an earlier version, which knows the same data or a model by a path, goes on with that path.
    """
    now = run.on(data, names)
    folders = [RUNS / asked.short_hash() for asked in (now, run.on(data), run)]
    folder = output or next((folder for folder in folders if (folder / MANIFEST).exists()), folders[0])
    before = known_manifest(folder)
    key = before.decisive or BoardKey()
    paths = {key.start, *before.models}
    now = run.on(data, {path: name for path, name in names.items() if path not in paths})
    if not data or key.dataset is None or key.knows_content or before.dataset is None:
        return now, folder
    if content_key(before.dataset.fingerprint) != data:
        return now, folder
    return now.model_copy(update={"dataset": key.dataset}).on("", now.local_models), folder


def _load_options(run: Run) -> LoadOptions:
    return LoadOptions(
        lenient=run.lenient,
        seed=run.data_seed,
        columns=run.columns or "",
        splits=run.splits or "",
        pairs_from_labels=run.pairs_from_labels,
    )


def limited(data: Dataset, limit: int | None) -> Dataset:
    """Return the data cut to `limit` training pairs and `limit` held-out pairs per split."""
    if limit is None:
        return data
    dev, test = data.dev[:limit], data.test[:limit]
    prompts = {pair.prompt_id for pair in (*dev, *test)}
    return replace(
        data,
        train=data.train[:limit],
        dev=dev,
        test=test,
        test_lenbalanced=data.test_lenbalanced[:limit],
        listwise_dev=tuple(listwise for listwise in data.listwise_dev if listwise.prompt_id in prompts),
        listwise_test=tuple(listwise for listwise in data.listwise_test if listwise.prompt_id in prompts),
        sft=data.sft[: 4 * limit],
        notes=(*data.notes, f"limited to {limit} pairs a split: a trial, not a result"),
    )
