"""How several processes come together for one training, and part again.

A launcher has started the command several times (`planning/launch.py`). The worker of the first process comes to a cell
that is to be trained, and calls the others: a worker of each joins a process group made for this training alone, is
told what to train, does so, and ends. So a training that fails, or is ended at its time limit, takes no other down with
it. They find each other through the launcher's store, under `KEYS`.

Launchers, and no option of ours: they know of machines, devices and accelerate's configuration. Trainings, and not
runs, are what is shared: scoring, judging and writing stay as they are, in the first process alone.
"""

from __future__ import annotations

import contextlib
import copy
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import cloudpickle
import torch
import torch.distributed as dist
from torch.distributed import PrefixStore, Store, TCPStore  # type: ignore[attr-defined]  # not in torch's __all__

from harness.api import HarnessError, Loss
from harness.planning.budget import Plan, runs_reference
from harness.planning.ending import EndedError, Ending
from harness.planning.launch import Launch
from harness.run_folder.checkpoints import Origin
from harness.run_folder.shown import reason_of
from harness.training.checkpoints import Checkpoints
from harness.training.loss_inputs import TrainingData
from harness.training.peak_memory import leave_out_what_is_held
from harness.training.ranks import ALONE, Ranks
from harness.training.recipe import Recipe
from harness.training.trackers import NOWHERE
from harness.training.trainer import train

KEYS = "preference-harness"
NUMBER, OVER, READY, TROUBLE = "number", "over", "ready", "trouble"
"""Of the store: how many trainings were begun, whether the run is over; of a training, who came and what went wrong."""
COMING = 300.0
"""Seconds within which every process must have come."""
SILENT = timedelta(hours=1)
"""How long one waits for another inside a training: the first writes weights and checkpoints meanwhile."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A training, as the other processes are told of it."""

    open: Callable[[], Any]
    """Makes the model that is trained."""
    loss: Loss
    data: TrainingData
    plan: Plan
    recipe: Recipe
    scratch: Path
    log: Path
    """Where the first process's worker prints; those of the others print beside it."""
    threads: int
    libraries: Sequence[str] = ()
    """That the training imports as it begins."""
    origin: Origin | None = None
    """With `found`: of the cell's checkpoints; None: there are none."""
    every: float = 0.0
    found: Path | None = None


# -- the store ---------------------------------------------------------------------------------------------------------
def connected(launch: Launch, *, hosts: bool = False) -> Store:
    """Return the store through which the processes find each other; `hosts`: of the first, which runs it if need be."""
    store = TCPStore(
        launch.host,
        launch.port,
        is_master=hosts and not launch.store_runs,
        wait_for_workers=False,
        timeout=timedelta(seconds=COMING),
    )
    return PrefixStore(f"{KEYS}/{launch.attempt}", store)


def is_over(store: Store) -> bool:
    """Return whether the run has ended."""
    return bool(store.check([OVER]))


def trainings(store: Store) -> int:
    """Return how many trainings were begun."""
    return int(store.add(NUMBER, 0))


# -- the first process -------------------------------------------------------------------------------------------------
@contextmanager
def together(launch: Launch | None, task: Task) -> Iterator[Ranks]:
    """Have the other processes take part in the training inside; without a launcher there are none.

    Raises `HarnessError` where one of them does not come, or fails.
    """
    if launch is None:
        yield ALONE
        return
    store = connected(launch)
    number = store.add(NUMBER, 1)
    _await_others(store, number, launch)
    try:
        with _joined(store, number, launch) as ranks:
            told = replace(task, data=replace(task.data, pairs=(), frozen=None))
            dist.broadcast_object_list([cloudpickle.dumps(told)], src=0, device=torch.device("cpu"))
            with _variables(launch):
                yield ranks
    except RuntimeError as error:
        if not (isinstance(error, dist.DistError) or "gloo" in str(error)):
            raise  # the training's own
        gone = f"one of the {launch.count} processes that train the cell is gone, expected all to stay ({error})"
        key = f"{TROUBLE}/{number}"
        raise HarnessError(store.get(key).decode() if store.check([key]) else gone) from error


def _await_others(store: Store, number: int, launch: Launch) -> None:
    until = time.monotonic() + COMING
    while (came := store.add(f"{READY}/{number}", 0)) < launch.count - 1:
        if store.check([f"{TROUBLE}/{number}"]):
            raise HarnessError(store.get(f"{TROUBLE}/{number}").decode())
        if time.monotonic() > until:
            raise HarnessError(
                f"{came} of the {launch.count - 1} other processes came within {COMING:g} s, expected all; see what "
                "the launcher says of them"
            )
        time.sleep(0.02)


# -- the others --------------------------------------------------------------------------------------------------------
def take_part(launch: Launch, number: int) -> None:
    """Take part in a training that the first process has begun; what goes wrong is told to it."""
    store = connected(launch)
    with contextlib.suppress(EndedError), _telling(store, number, launch):
        if torch.cuda.is_available():
            torch.cuda.set_device(launch.local_rank)
        store.add(f"{READY}/{number}", 1)
        # it tells inside of the group too: before the first process notices that this one has left it
        with _joined(store, number, launch) as ranks, _telling(store, number, launch):
            packed: list[Any] = [None]
            dist.broadcast_object_list(packed, src=0, device=torch.device("cpu"))
            task: Task = cloudpickle.loads(packed[0])
            _print_to(task.log.with_suffix(f".{launch.rank}.log"))
            _do(task, launch, ranks)


@contextmanager
def _telling(store: Store, number: int, launch: Launch) -> Iterator[None]:
    """Tell the first process what went wrong inside."""
    try:
        yield
    except Exception as error:
        reason = f"process {launch.rank} of the {launch.count} that train the cell: {reason_of(error)}"
        store.compare_set(f"{TROUBLE}/{number}", "", reason)  # the first reason stays: others follow from it
        raise


def _do(task: Task, launch: Launch, ranks: Ranks) -> None:
    torch.set_num_threads(task.threads)
    leave_out_what_is_held(task.libraries)
    model = task.open()
    frozen = copy.deepcopy(model).requires_grad_(False) if runs_reference(task.loss) else None
    checkpoints = None
    if task.origin is not None:
        checkpoints = Checkpoints(
            cell=task.scratch.parent,
            origin=task.origin,
            every=task.every,
            ending=Ending(),
            written=lambda step, trouble: None,
            found=task.found,
        )
    with _variables(launch):
        trained = train(
            model,
            task.loss,
            replace(task.data, frozen=frozen),
            task.plan,
            replace(task.recipe, tracked=NOWHERE),
            task.scratch,
            lambda step, value: None,
            lambda fraction: ranks.whole(model, task.open),
            checkpoints,
            ranks,
        )
    if trained.status == "ok":
        ranks.whole(model, task.open)


def _print_to(log: Path) -> None:
    with open(log, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


# -- both --------------------------------------------------------------------------------------------------------------
@contextmanager
def _joined(store: Store, number: int, launch: Launch) -> Iterator[Ranks]:
    """Be in a process group of this training alone."""
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    group = PrefixStore(str(number), store)
    dist.init_process_group(backend, store=group, rank=launch.rank, world_size=launch.count, timeout=SILENT)
    try:
        yield Ranks(count=launch.count, index=launch.rank)
    finally:
        dist.destroy_process_group()


@contextmanager
def _variables(launch: Launch) -> Iterator[None]:
    """Have accelerate see what the launcher has set: nothing else may, or it would wait for the other processes."""
    before = dict(os.environ)
    threads = os.environ.get("OMP_NUM_THREADS") or str(torch.get_num_threads())  # where it is not set, they are changed
    variables = {"OMP_NUM_THREADS": threads, **launch.variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            os.environ.pop(name, None)
            if name in before:
                os.environ[name] = before[name]
