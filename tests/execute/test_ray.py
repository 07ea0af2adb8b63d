"""A run on a Ray cluster: what is refused, and that the results are those of one machine, also where a node is lost.

Those on a real cluster, of two nodes on this machine, take minutes: `tox -e ray`.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from waiting import HANGS, until

import harness as package
from harness.api import HarnessError
from harness.execute.executors import LocalExecutor, executor_of
from harness.execute.ray_executor import RayExecutor, _Node, _Resources, _token, _why_not
from harness.planning.run_file import make_run


# -- what is refused ---------------------------------------------------------------------------------------------------
def test_without_ray_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        HarnessError, match=r"needs ray, which is not installed; run: pip install 'preference-harness\[ray\]'"
    ):
        executor_of("ray")


def test_options_that_do_not_go_together_are_refused() -> None:
    with pytest.raises(HarnessError, match="got --devices 0 with --executor ray, expected one of them"):
        executor_of("ray", devices="0")
    with pytest.raises(HarnessError, match="got --address auto without --executor ray, expected both"):
        executor_of("local", address="auto")
    with pytest.raises(HarnessError, match="--executor got 'slurm', expected local or ray"):
        executor_of("slurm")
    assert isinstance(executor_of(), LocalExecutor)


def test_a_launcher_and_a_cluster_do_not_go_together(monkeypatch: pytest.MonkeyPatch) -> None:
    launched = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    for name, value in launched.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(HarnessError, match="got --executor ray in 2 processes of a launcher"):
        executor_of("ray")


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A module in the place of ray, whose cluster has what its `nodes` returns."""
    ray: Any = ModuleType("ray")
    ray.is_initialized = lambda: True
    monkeypatch.setitem(sys.modules, "ray", ray)
    return ray


def test_where_no_cluster_answers_the_error_says_how_to_start_one(stand_in: Any) -> None:
    def init(address: str, **_: object) -> None:
        raise ConnectionError(f"Could not find any running Ray instance at {address}.\nMore.")

    stand_in.is_initialized = lambda: False
    stand_in.init = init
    with pytest.raises(
        HarnessError, match=r"got no --address, expected a Ray cluster .*instance at auto\.\); start one"
    ):
        RayExecutor.on(None)
    with pytest.raises(HarnessError, match=r"--address got 10\.0\.0\.1:6379, expected"):
        RayExecutor.on("10.0.0.1:6379")


def node(alive: bool = True, **resources: float) -> dict[str, Any]:
    return {"NodeID": "n", "NodeManagerAddress": "10.0.0.1", "Resources": resources, "Alive": alive}


@pytest.mark.parametrize(
    ("nodes", "models", "places", "threads"),
    [
        ([node(CPU=4.0), node(CPU=2.0), node(alive=False, CPU=8.0)], "qwen", 6, 1),  # nano models: a core each
        ([node(CPU=4.0), node(CPU=4.0), node(CPU=2.0)], "org/large-7B", 2, 4),  # all cores of a node
        ([node(CPU=8.0, GPU=4.0), node(CPU=2.0, GPU=4.0), node(CPU=64.0)], "qwen", 6, 1),  # a GPU and a core each
    ],
)
def test_there_are_as_many_places_as_the_nodes_have_resources_for(
    nodes: list[Any], models: str, places: int, threads: int, stand_in: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    stand_in.nodes = lambda: nodes
    nothing: Any = None
    run = make_run({"models": [models], "preset": "nano" if models == "qwen" else "medium"})
    cluster = RayExecutor.on(None)
    placing = cluster.placing(run, nothing, [], None)
    assert (len(placing.places), placing.workers, placing.threads) == (places, places, threads)
    stand_in.nodes = list  # all of them were lost; what a worker takes stays the same
    with pytest.raises(HarnessError, match=f"the Ray cluster has no node with {placing.devices[0].kind}, expected one"):
        cluster.placing(run, nothing, [], None)


def test_a_node_of_another_version_or_that_does_not_see_the_folders_says_so(tmp_path: Path) -> None:
    with _token(tmp_path / "run") as seen:
        assert _why_not(package.__version__, [seen]) == ""
        assert "it has harness" in _why_not("0.0.1", [seen])
        other = (str(tmp_path / "elsewhere" / "token"), "text")
        assert f"it does not see {tmp_path}/elsewhere, expected a folder that all nodes share" in _why_not(
            package.__version__, [seen, other]
        )
        assert "it does not see" in _why_not(package.__version__, [(seen[0], "of another folder")])
    assert not list((tmp_path / "run").iterdir())


def test_workers_of_a_node_are_bounded_by_what_it_has_least_of() -> None:
    has = _Node(key="n", address="10.0.0.1", has=_Resources(cpus=8, gpus=2))
    assert [has.workers(_Resources(cpus=cpus, gpus=gpus)) for cpus, gpus in ((1, 1), (8, 1), (3, 0), (9, 0))] == [
        2,
        1,
        2,
        0,
    ]


# -- a real cluster ----------------------------------------------------------------------------------------------------
CLUSTER = """
import sys
from ray.cluster_utils import Cluster

LITTLE = {"num_cpus": 1, "object_store_memory": 80_000_000, "include_dashboard": False}
QUICK = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000, "health_check_failure_threshold": 5}
cluster = Cluster(
    initialize_head=True, head_node_args=LITTLE | {"_system_config": QUICK | {"worker_niceness": 0}}
)
other = cluster.add_node(num_cpus=1, object_store_memory=80_000_000)
print(cluster.address, flush=True)
for line in sys.stdin:
    cluster.remove_node(other, allow_graceful=False)
cluster.shutdown()
"""
WORDS = ("run", "--plugins", "gamma-po,dpo", "--models", "qwen,gemma", "--limit", "48", "--budget", "pairs=128")
WORDS += ("--batch-pairs", "8", "--scorer", "transformers", "--checkpoint-every", "0.005", "--no-pictures")


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A cluster of two nodes on this machine, a core each; a line to its stdin kills one of them."""
    with subprocess.Popen(
        [sys.executable, "-c", CLUSTER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=tmp_path,
    ) as started:
        yield started
        assert started.stdin is not None
        started.stdin.close()
        started.wait(HANGS)


def without_spend(value: Any) -> Any:
    """Return JSON without what a machine spent, and what is said of its seconds."""
    if isinstance(value, dict):
        return {key: without_spend(inner) for key, inner in value.items() if "spend" not in key}
    if isinstance(value, list):
        return [without_spend(inner) for inner in value if not str(inner).startswith("Seconds are wall-clock")]
    return value


@pytest.mark.ray
def test_a_run_that_is_stopped_and_then_loses_a_node_has_the_tables_and_the_board_of_one_machine(
    cluster: subprocess.Popen[str], environment: dict[str, str], tmp_path: Path
) -> None:
    assert cluster.stdin is not None
    assert cluster.stdout is not None
    address = cluster.stdout.readline().strip()
    variables = environment | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "harness", *WORDS, "--output-dir"]
    alone = subprocess.run([*command, str(tmp_path / "alone")], env=variables, check=True, capture_output=True)
    assert alone.returncode == 0
    folder = tmp_path / "cluster"

    def begin() -> subprocess.Popen[str]:
        of_cluster = [*command, str(folder), "--executor", "ray", "--address", address]
        pipe = subprocess.PIPE
        return subprocess.Popen(of_cluster, env=variables, stdout=pipe, stderr=subprocess.STDOUT, text=True)

    def trained(model: str) -> bool:
        return any(folder.glob(f"cells/{model}--*/checkpoint-*/checkpoint.json"))

    def both() -> bool:
        return trained("qwen") and trained("gemma")

    stopped = begin()
    until(lambda: both() or stopped.poll() is not None, "a training on each node")
    stopped.send_signal(signal.SIGTERM)
    said, _ = stopped.communicate(timeout=HANGS)
    assert stopped.returncode == 143, said
    assert "Stopped. What was finished is kept, and " in said
    assert " at step " in said

    run = begin()
    lines = []
    assert run.stdout is not None
    for line in run.stdout:  # both go on with a training, whose end is far
        lines.append(line)
        if sum(" goes on from step " in each for each in lines) == 2:
            break
    cluster.stdin.write("kill\n")
    cluster.stdin.flush()
    rest, _ = run.communicate(timeout=HANGS)
    said = "".join(lines) + rest
    assert run.returncode == 0, said
    assert "what it had is tried again" in said
    tables = [
        {path.relative_to(each).as_posix(): path.read_bytes() for path in each.rglob("*.parquet")}
        for each in (tmp_path / "alone", folder)
    ]
    assert tables[0] == tables[1]
    boards = [json.loads((each / "leaderboard.json").read_text()) for each in (tmp_path / "alone", folder)]
    assert without_spend(boards[0]) == without_spend(boards[1])
    print(said)
