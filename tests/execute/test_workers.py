"""What workers start from, and that they end with their run."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import HANGS, until

from harness.execute import workers
from harness.execute.campaign import made_here

TORCH_LIBRARIES = Path(next(iter(importlib.util.find_spec("torch").submodule_search_locations))) / "lib"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")
SCRIPT = """
import os, sys
from harness.execute import workers

def told(connection):
    import harness.cell
    connection.send([harness.__file__, os.path.basename(sys.argv[0]), "torch" in sys.modules])

if __name__ == "__main__":
    starting = workers.context()
    ours, theirs = starting.Pipe(duplex=False)
    worker = starting.Process(target=told, args=(theirs,))
    worker.start()
    print(type(starting).__name__, *ours.recv())
    worker.join()
"""
ASKING = """
import sys
from harness.execute import workers
from harness.score.vllm_installed import why_not

def told(connection):
    connection.send("harness.execute.preload_vllm" in sys.modules)

if __name__ == "__main__":
    print(repr(workers.ask(why_not)))
    starting = workers.context(vllm=True)
    ours, theirs = starting.Pipe(duplex=False)
    worker = starting.Process(target=told, args=(theirs,))
    worker.start()
    print(ours.recv())
    worker.join()
"""
HANGING = """
import os, time
from dataclasses import dataclass
from typing import ClassVar
from harness.api import Loss, Terms, hookimpl

@dataclass(frozen=True, kw_only=True)
class Hanging(Loss):
    name: ClassVar[str] = "hanging"

    def terms(self, pairs):
        with open(os.environ["HANGING_PID"], "w") as file:
            file.write(str(os.getpid()))
        while True:  # for good: who does not end it waits for ever
            time.sleep(60)

    def reward(self, response):
        return response.sum

@hookimpl
def harness_losses():
    return [Hanging]
"""
LITTLE = ("--models", "qwen", "--limit", "16", "--budget", "pairs=16", "--scorer", "transformers")
JUMPING = """
import os, sys, time
from pathlib import Path
from types import SimpleNamespace

from harness.__main__ import main
from harness.execute import local

def clock():
    noted = Path(os.environ["HANGING_PID"])
    hangs = noted.exists() and Path(f"/proc/{noted.read_text() or 0}").exists()
    return time.monotonic() + 10_000 * hangs

if __name__ == "__main__":
    local.time = SimpleNamespace(monotonic=clock)
    sys.exit(main())
"""


def printed(code: str, folder: Path, **variables: str) -> str:
    """Return what a script prints with `folder` as the current one."""
    script = folder.parent / "script.py"
    script.write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env=os.environ | variables,
        capture_output=True,
        text=True,
        timeout=HANGS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@LINUX
def test_a_worker_imports_what_its_run_imports_and_nothing_of_the_current_folder(tmp_path: Path) -> None:
    here = tmp_path / "here"
    (here / "harness").mkdir(parents=True)
    (here / "harness" / "__init__.py").write_text("raise RuntimeError('another harness')", encoding="utf-8")
    (here / "torch.py").write_text("raise RuntimeError('another torch')", encoding="utf-8")
    kind, where, *_ = printed(SCRIPT, here, CUDA_VISIBLE_DEVICES="").split()
    assert kind == "ForkServerContext"
    assert Path(where) == Path(workers.__file__).parents[1] / "__init__.py"


WAITING = """
import subprocess, sys
from pathlib import Path
from harness.execute import workers

[openmp] = Path(sys.argv[1]).glob("libgomp*")
with workers._same_imports():
    loading = [sys.executable, "-c", f"import ctypes; ctypes.CDLL({str(openmp)!r})"]
    print(subprocess.run(loading, stderr=subprocess.PIPE, text=True).stderr)
"""
"""Has the copy of GNU's OpenMP that torch brings say what it was told, in a process such as workers are forked from."""


@pytest.mark.skipif(not any(TORCH_LIBRARIES.glob("libgomp*")), reason="torch has another OpenMP here")
@pytest.mark.parametrize(
    ("users", "expected"),
    [({}, "'1000'"), ({"OMP_WAIT_POLICY": "ACTIVE"}, "'30000000000'"), ({"GOMP_SPINCOUNT": "77"}, "'77'")],
    ids=["nothing", "waits actively", "another spin"],
)
def test_threads_of_workers_give_up_their_core_soon_where_the_user_has_said_nothing(
    users: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in users.items():
        monkeypatch.setenv(name, value)
    environment = os.environ | {"OMP_DISPLAY_ENV": "VERBOSE", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", WAITING, str(TORCH_LIBRARIES)]
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    [line] = [line for line in said.splitlines() if "GOMP_SPINCOUNT =" in line]
    assert line.endswith(expected)
    said_in_manifest = made_here().environment
    assert users.items() <= said_in_manifest.items()
    assert ("GOMP_SPINCOUNT" in said_in_manifest) == (users.keys() != {"OMP_WAIT_POLICY"})


@LINUX
def test_without_a_place_for_its_socket_a_worker_is_a_process_of_its_own(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    (tmp_path / "here").mkdir()
    said = printed(SCRIPT, tmp_path / "here", CUDA_VISIBLE_DEVICES="", TMPDIR=str(long))
    assert said.split()[0] == "SpawnContext"


VLLMS = {
    "pass\nLLM = object": ["None", "True"],
    "raise RuntimeError('built for another torch')": ["vLLM is installed but does not import: RuntimeError", "True"],
    "import os; os._exit(7)": ["vLLM is installed but does not import: exit code 7", "False"],
}
"""What vLLM does when imported, what is said of it then, and whether workers are forked from what has tried it."""


@LINUX
@pytest.mark.parametrize("code", VLLMS, ids=["imports", "raises", "ends the process"])
def test_vllm_is_tried_where_workers_come_from_and_may_bring_that_process_down(tmp_path: Path, code: str) -> None:
    for name, text in (("libraries/vllm", code), ("here", "")):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "__init__.py").write_text(text, encoding="utf-8")
    variables = {"PYTHONPATH": str(tmp_path / "libraries"), "HARNESS_CACHE": str(tmp_path / "cache")}
    answer, tried = printed(ASKING, tmp_path / "here", CUDA_VISIBLE_DEVICES="", **variables).splitlines()
    expected, before = VLLMS[code]
    assert expected in answer
    assert tried == before
    assert (tmp_path / "cache" / "vllm-imports").exists() == (answer == "None")


def test_a_worker_is_not_forked_beside_a_gpu_or_on_another_system(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(workers, "GPU_FILES", ("null",))
    assert workers.context().get_start_method() == "spawn"
    monkeypatch.setattr(workers, "GPU_FILES", ())
    monkeypatch.setattr(sys, "platform", "darwin")
    assert workers.context().get_start_method() == "spawn"


@pytest.fixture
def hanging(environment: dict[str, str], tmp_path: Path) -> dict[str, str]:
    """The environment of a run that has the loss `hanging`, which writes its process into HANGING_PID and hangs."""
    (tmp_path / "hanging.py").write_text(HANGING, encoding="utf-8")
    about = tmp_path / "hanging-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: hanging\nVersion: 1.0\n", encoding="utf-8")
    (about / "entry_points.txt").write_text("[harness]\nhanging = hanging\n", encoding="utf-8")
    return environment | {"PYTHONPATH": str(tmp_path), "HANGING_PID": str(tmp_path / "pid")}


@LINUX
def test_a_cell_that_hangs_is_ended_at_its_time_limit_and_costs_no_other(
    hanging: dict[str, str], tmp_path: Path
) -> None:
    """The clock of the run jumps as soon as the loss hangs, so that nobody waits and no slow machine is judged."""
    script = tmp_path / "script.py"
    script.write_text(JUMPING, encoding="utf-8")
    folder = tmp_path / "run"
    words = ("run", "--plugins", "hanging,simpo", *LITTLE, "--cell-timeout", "5000", "--no-pictures")
    command = [sys.executable, str(script), *words, "--output-dir", str(folder)]
    done = subprocess.run(command, env=hanging, capture_output=True, text=True, timeout=HANGS, check=False)
    assert done.returncode == 6, done.stderr
    found = [json.loads(path.read_text()) for path in folder.glob("cells/*/record.json")]
    records = {record["label"]: record for record in found}
    assert (records["hanging"]["status"], records["simpo"]["status"]) == ("failed", "ok")
    assert "no result within 5000 s" in records["hanging"]["reason"]
    assert "no result within 5000 s" in (folder / "leaderboard.md").read_text()
    assert not _lives(int((tmp_path / "pid").read_text()))


@LINUX
def test_a_worker_that_hangs_ends_with_its_run(hanging: dict[str, str], tmp_path: Path) -> None:
    noted = tmp_path / "pid"
    command = ("run", "--plugins", "hanging", *LITTLE, "--output-dir", str(tmp_path / "run"))
    run = subprocess.Popen(
        [sys.executable, "-m", "harness", *command],
        env=hanging,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until(lambda: (noted.exists() and noted.read_text()) or run.poll() is not None, "a loss that hangs")
    worker = int(noted.read_text())
    os.kill(run.pid, signal.SIGKILL)
    run.wait()
    until(lambda: not _lives(worker), "the end of the worker")


def _lives(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
