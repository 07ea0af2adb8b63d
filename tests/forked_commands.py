"""`harness ...` in processes that are forked from one which has imported what commands import.

Each command is a process of its own, run as `python -m harness`, and starts with nothing of an earlier one; but nobody
waits for torch and pandas again: neither the command nor its workers, which are all forked from one process.

This file is a program as well: it reads a `Command` a line, as JSON, and answers with its exit code.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import import_module
from multiprocessing import forkserver
from pathlib import Path

from waiting import HANGS

from harness.execute import workers

IMPORTED = ("torch", "pandas", "harness.execute.whole_run", "harness.exchange.verify", "harness.exchange.export")
"""With these modules comes most of what commands import."""
COMPUTE = ("run", "score", "judge", "doctor")
"""The verbs that start workers, or ask whether vLLM can be imported."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """One `harness ...`: its words, its variables, the folder it runs in, the files for what it prints."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    folder: str
    stdout: str
    stderr: str
    pid: str | None = None
    """The file for the number of its process, where somebody wants to end it."""


def can_be_forked(arguments: tuple[str, ...], variables: Mapping[str, str]) -> bool:
    """Return whether a command is the same when forked.

    It is not where a library reads one of its variables when it is imported, nor where it may use vLLM, which the
    workers forked here have not imported.
    """
    own_variables = all(name == "PYTHONPATH" or name.startswith("HARNESS_") for name in variables)
    without_vllm = arguments[:1] not in [(verb,) for verb in COMPUTE] or "transformers" in arguments
    return sys.platform == "linux" and not workers.may_have_gpu() and own_variables and without_vllm


class ForkedCommands:
    """The process that commands are forked from; it starts with the first command."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self._process: subprocess.Popen[str] | None = None

    def run(
        self, arguments: tuple[str, ...], variables: Mapping[str, str], pid: Path | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run `harness ...`; return what it printed and its exit code. The number of its process goes into `pid`."""
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=self._environment,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with tempfile.TemporaryDirectory() as place:
            command = Command(
                arguments=arguments,
                environment={**self._environment, **variables},
                folder=os.getcwd(),
                stdout=f"{place}/stdout",
                stderr=f"{place}/stderr",
                pid=None if pid is None else str(pid),
            )
            print(json.dumps(asdict(command)), file=self._process.stdin, flush=True)
            code = int(self._process.stdout.readline())
            out, err = (Path(path).read_text() for path in (command.stdout, command.stderr))
        return subprocess.CompletedProcess(["harness", *arguments], code, out, err)

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.communicate()


def _run(command: Command) -> None:
    """Be the command, in a process that was forked for it."""
    for number, path in ((1, command.stdout), (2, command.stderr)):
        file = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.dup2(file, number)
        os.close(file)
    path = command.environment.get("PYTHONPATH", "")
    further = [] if path == os.environ.get("PYTHONPATH", "") else path.split(os.pathsep)
    os.environ.clear()
    os.environ.update(command.environment)
    os.chdir(command.folder)
    if command.pid:
        Path(command.pid).write_text(str(os.getpid()))
    sys.path[:1] = [command.folder, *further]
    sys.argv[1:] = command.arguments
    runpy.run_module("harness", run_name="__main__", alter_sys=True)


def _workers_are_there() -> None:
    """Stand for `forkserver.ensure_running` in a command: its workers are forked from the one started here."""
    assert workers.WITH_VLLM not in forkserver._forkserver._preload_modules  # type: ignore[attr-defined]


def _wait_for_the_end_of_what_ends() -> None:
    """Wait where what workers are forked from was killed and has threads that still end: it counts as running."""
    pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    ended = os.WEXITED | os.WNOHANG | os.WNOWAIT
    while pid and ") Z " in Path(f"/proc/{pid}/stat").read_text() and os.waitid(os.P_PID, pid, ended) is None:
        time.sleep(0.01)


def _serve() -> None:
    """Run the commands that are read, one after the other."""
    sys.path[0] = os.getcwd()  # as after `python -m`; it was the folder of this file
    workers.context()
    for module in IMPORTED:
        import_module(module)
    forking, really = multiprocessing.get_context("fork"), forkserver.ensure_running
    for line in sys.stdin:
        forkserver.ensure_running = really
        _wait_for_the_end_of_what_ends()
        workers.context()
        forkserver.ensure_running = forkserver._forkserver.ensure_running = _workers_are_there  # type: ignore[attr-defined]
        process = forking.Process(target=_run, args=(Command(**json.loads(line)),))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads that libraries start when imported
            process.start()
        process.join(HANGS)
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:  # before it said what to fork, what workers are forked from ends too
            time.sleep(1)
        print(process.exitcode, flush=True)


if __name__ == "__main__":
    _serve()
