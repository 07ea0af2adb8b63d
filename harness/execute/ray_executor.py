"""The workers of a run on the nodes of a Ray cluster, `--executor ray`: same folder, same cells, same board.

A worker is what it is on one machine, a process that trains and scores cells of one model. An actor with the resources
that it takes starts it on a node and passes on what it tells. The run folder and the cache are on a file system that
all nodes see: a cell whose node is lost goes on from its checkpoint there, on another node.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import cloudpickle

import harness
from harness.api import Dataset, HarnessError, Selector
from harness.execute import workers
from harness.execute.devices import Device
from harness.execute.placing import Placing
from harness.execute.worker import Died, NotStartedError, Worker
from harness.execute.worker_process import WorkerProcess
from harness.planning.events import Phase, WorkerEvent
from harness.planning.grid import Cell
from harness.planning.job import Job
from harness.planning.processors import asked_threads
from harness.planning.run_file import Run
from harness.run_folder.shown import environment

PASSED = ("HARNESS_", "VLLM_", "HF_", "OMP_", "MKL_", "OPENBLAS_", "GOMP_", "PYTORCH_", "TOKENIZERS_")
"""Beginnings of the environment variables that workers have from the command, secrets left out."""
PATIENCE = 60.0
"""Seconds that a node has to answer whether it can compute."""


@dataclass(frozen=True, kw_only=True)
class RayExecutor:
    """Workers as actors of a Ray cluster to which this process is connected."""

    gpus: int
    """That each takes: 1 where the cluster has any, also when the nodes with GPUs are lost later."""
    cores: int
    """Of the largest node."""

    @classmethod
    def on(cls, address: str | None) -> Self:
        """Connect to a cluster: the one at `address`, or the one that is running. Raises `HarnessError`."""
        ray = _ray()
        if not ray.is_initialized():
            try:
                with _same_signals():
                    ray.init(address or "auto", log_to_driver=False, logging_level="ERROR")
            except (ConnectionError, ValueError, RuntimeError) as error:
                named = f"--address got {address}" if address else "--executor ray got no --address"
                raise HarnessError(
                    f"{named}, expected a Ray cluster that is running ({_first_line(error)}); start one by ray start "
                    "--head, and ray start --address=... on its other nodes"
                ) from None
        has = [node.has for node in _nodes()]
        return cls(gpus=int(any(each.gpus for each in has)), cores=max([1, *(each.cpus for each in has)]))

    def placing(self, run: Run, data: Dataset, cells: Sequence[Cell], selector: Selector | None) -> Placing:
        """Return a place for each worker that the nodes have the resources for. Raises `HarnessError` for none."""
        takes = self._takes(run)
        on_nodes = [node.workers(takes) for node in _nodes()]
        count = sum(on_nodes)
        if not count:
            raise HarnessError(
                f"the Ray cluster has no node with {takes}, expected one at least; add it by ray start --address=..."
            )
        return Placing(
            devices=tuple(Device(name=f"ray-{number}", kind=str(takes)) for number in range(count)),
            needs={run.called(model): 0.0 for model in run.models},
            threads=asked_threads() or takes.cpus,
            on_node=max(on_nodes),
        )

    def _takes(self, run: Run) -> _Resources:
        """Return what a worker takes: a GPU and a core, or without GPUs a core for nano models, for others a node."""
        return _Resources(cpus=1 if self.gpus or workers.small(run) else self.cores, gpus=self.gpus)

    def require(self, folder: Path, cache: Path) -> None:
        """Raise `HarnessError` where a node does not have this harness, or does not see the run folder or the cache."""
        ray = _ray()
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        with _token(folder) as in_folder, _token(cache) as in_cache:
            asked = [
                (
                    node.address,
                    ray.remote(_why_not)
                    .options(num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.key, soft=False))
                    .remote(harness.__version__, [in_folder, in_cache]),
                )
                for node in _nodes()
            ]
            for node, answer in asked:
                try:
                    why = ray.get(answer, timeout=PATIENCE)
                except ray.exceptions.RayError as error:
                    why = f"it cannot answer ({_first_line(error)}); expected harness {harness.__version__} there"
                if why:
                    raise HarnessError(f"node {node} of the Ray cluster cannot compute this run: {why}")

    def start(self, job: Job, device: Device) -> Worker:
        """Ask for an actor that starts a worker, on whichever node has room."""
        takes, ray = self._takes(job.run), _ray()
        actor = ray.remote(_Host).options(num_cpus=takes.cpus, num_gpus=takes.gpus, max_restarts=0).remote()
        return RayWorker(actor, replace(job, folder=job.folder.resolve(), cache=job.cache.resolve()))


@dataclass(frozen=True, kw_only=True)
class _Resources:
    """What a worker takes of a node."""

    cpus: int
    gpus: int

    def __str__(self) -> str:
        gpus = f"{self.gpus} GPU and " if self.gpus else ""
        return f"{gpus}{self.cpus} CPU{'s' if self.cpus > 1 else ''}"


@dataclass(frozen=True, kw_only=True)
class _Node:
    """A machine of the cluster."""

    key: str
    address: str
    has: _Resources

    def workers(self, takes: _Resources) -> int:
        """Return how many workers it has the resources for."""
        by_cpus = self.has.cpus // takes.cpus
        return min(by_cpus, self.has.gpus // takes.gpus) if takes.gpus else by_cpus


class RayWorker:
    """A worker behind an actor; see `worker.Worker`."""

    def __init__(self, actor: Any, job: Job) -> None:
        self._actor, self._next = actor, None
        self._started = actor.start.remote(cloudpickle.dumps(job), environment(PASSED), os.getcwd())
        self._asked, self._ended = time.monotonic(), False

    def receive(self) -> WorkerEvent | Died | None:
        """Return the next event, None where none comes within half a second."""
        ray = _ray()
        if self._ended and self._started is not None:
            return Died()
        waited_for = self._started or self._next or self._actor.receive.remote()
        try:
            ready, _ = ray.wait([waited_for], timeout=0.5)
            if not ready:
                return self._waits(waited_for)
            found = ray.get(waited_for)
        except ray.exceptions.RayActorError as error:
            return Died(how=f"was lost with its node or its actor ({_first_line(error)})", lost=True)
        if self._started is not None:
            self._started = None
            return found if isinstance(found, Died) else Phase(text=f"worker on node {found}")
        self._next = None
        event: WorkerEvent | Died | None = found
        return event

    def _waits(self, waited_for: Any) -> Phase | None:
        """Keep what is waited for; say now and then that it is a node."""
        if self._started is None:
            self._next = waited_for
        elif time.monotonic() - self._asked > PATIENCE:
            self._asked = time.monotonic()
            return Phase(text="waits for a node of the cluster with room for it")
        return None

    def give(self, cell: Cell | None) -> None:
        """Answer a request for a cell."""
        self._actor.give.remote(cloudpickle.dumps(cell))

    def terminate(self) -> None:
        """Ask it to end."""
        self._ended = True
        self._actor.terminate.remote()

    def end(self, *, done: bool) -> None:
        """See to it that it is gone."""
        ray = _ray()
        with contextlib.suppress(ray.exceptions.RayError):
            if self._started is None:
                ray.wait([self._actor.end.remote(done)], timeout=15)
        ray.kill(self._actor)


class _Host:
    """The actor: holds a worker process on a node, and dies with it."""

    def start(self, packed: bytes, variables: dict[str, str], folder: str) -> str | Died:
        """Start the worker; return the node's address."""
        os.environ.update(variables)
        if Path(folder).is_dir():  # models and data may be named from there
            os.chdir(folder)
        try:
            self._worker = WorkerProcess.started(pickle.loads(packed))
        except NotStartedError as error:
            return Died(how=str(error))
        return str(_ray().util.get_node_ip_address())

    def receive(self) -> WorkerEvent | Died | None:
        """Return the worker's next event."""
        return self._worker.receive()

    def give(self, packed: bytes) -> None:
        """Answer its request for a cell."""
        self._worker.give(pickle.loads(packed))

    def terminate(self) -> None:
        """Ask it to end."""
        self._worker.terminate()

    def end(self, done: bool) -> None:
        """See to it that it is gone."""
        self._worker.end(done=done)


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise HarnessError(
            "--executor ray needs ray, which is not installed; run: pip install 'preference-harness[ray]'"
        ) from None
    return ray


@contextlib.contextmanager
def _same_signals() -> Iterator[None]:
    """Leave the answer to SIGTERM as it is: Ray sets one of its own, and a run that is stopped keeps what it has."""
    before = signal.getsignal(signal.SIGTERM)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, before)


def _nodes() -> list[_Node]:
    """Return the nodes that are there now."""
    return [
        _Node(
            key=node["NodeID"],
            address=node["NodeManagerAddress"],
            has=_Resources(cpus=int(node["Resources"].get("CPU", 0)), gpus=int(node["Resources"].get("GPU", 0))),
        )
        for node in _ray().nodes()
        if node["Alive"]
    ]


@contextlib.contextmanager
def _token(folder: Path) -> Iterator[tuple[str, str]]:
    """Put a file into a folder for nodes to look for; yield its path and its text."""
    folder.mkdir(parents=True, exist_ok=True)
    path, text = folder.resolve() / f".seen-{uuid.uuid4().hex[:8]}", uuid.uuid4().hex
    path.write_text(text, encoding="utf-8")
    try:
        yield str(path), text
    finally:
        path.unlink(missing_ok=True)


def _why_not(version: str, tokens: Sequence[tuple[str, str]]) -> str:
    """Return, on a node, why it cannot compute a run; empty where it can."""
    if harness.__version__ != version:
        return f"it has harness {harness.__version__}, expected {version}; install the same version on every node"
    for path, text in tokens:
        if not (Path(path).is_file() and Path(path).read_text(encoding="utf-8") == text):
            return (
                f"it does not see {Path(path).parent}, expected a folder that all nodes share; name one by "
                "--output-dir, and for the cache by HARNESS_CACHE"
            )
    return ""


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
