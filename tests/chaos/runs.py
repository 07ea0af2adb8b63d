"""The run that is disturbed, and commands that can be killed with all that they have started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from chaos.outcomes import Done
from forked_commands import ForkedCommands
from waiting import HANGS, has_no_writer, until

RUN = (
    "run", "--plugins", "simpo,dpo", "--models", "qwen", "--limit", "16", "--budget", "pairs=48", "--batch-pairs", "8",
    "--evaluate-at", "0.5,1", "--checkpoint-every", "0.0001", "--generate", "2", "--max-new-tokens", "6",
    "--judge", "simulator", "--no-pictures",
)  # fmt: skip
"""Two losses, six steps with a checkpoint after each, two points, answers and a judge: every kind of file."""


@dataclass(frozen=True, kw_only=True)
class World:
    """What commands of the chaos share."""

    environment: Mapping[str, str]
    forked: ForkedCommands
    cache: Path

    def run(self, folder: Path, *, cache: Path | None = None, scorer: str = "transformers") -> Done:
        """Run the command to its end, in this folder."""
        if scorer == "transformers":
            return self.forked.run(words(folder, scorer), {"HARNESS_CACHE": str(cache or self.cache)})
        return self.fresh(folder, scorer=scorer)

    def fresh(self, folder: Path, *, scorer: str = "transformers", **variables: str) -> Done:
        """Run the command to its end in a Python of its own, with these variables."""
        process = self.start(folder, scorer, **variables)
        out, err = process.communicate(timeout=HANGS)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def killed(self, folder: Path, moment: Callable[[], bool], *, scorer: str = "transformers") -> Done:
        """Run the command, and kill it with its workers where `moment()` is true; return what it had done by then."""
        if scorer != "transformers":
            process = self.start(folder, scorer)
            until(lambda: moment() or process.poll() is not None, "the moment to kill")
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            until(lambda: has_no_writer(folder), "the end of the killed")
            return subprocess.CompletedProcess(process.args, process.returncode, out, err)
        pid, done = folder.with_name(f"{folder.name}.pid"), list[Done]()
        pid.unlink(missing_ok=True)
        variables = {"HARNESS_CACHE": str(self.cache)}
        waiting = threading.Thread(
            target=lambda: done.append(self.forked.run(words(folder, scorer), variables, pid)), daemon=True
        )
        waiting.start()
        until(lambda: moment() or done, "the moment to kill")
        until(lambda: (pid.exists() and pid.read_text()) or done, "the process")
        if not done:
            for victim in [int(pid.read_text()), *workers_of(folder)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
        waiting.join()
        until(lambda: has_no_writer(folder), "the end of the killed")
        return done[0]

    def start(self, folder: Path, scorer: str = "transformers", **variables: str) -> subprocess.Popen[str]:
        """Start the command in a session of its own, as a user's shell does."""
        return subprocess.Popen(
            [sys.executable, "-m", "harness", *words(folder, scorer)],
            env={**self.environment, "HARNESS_CACHE": str(self.cache), **variables},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


def words(folder: Path, scorer: str) -> tuple[str, ...]:
    """Return the words of the command behind `harness`."""
    return (*RUN, "--scorer", scorer, "--output-dir", str(folder))


def workers_of(folder: Path) -> Iterator[int]:
    """Yield the processes whose output goes to the logs of a run."""
    for link in Path("/proc").glob("[0-9]*/fd/1"):
        with contextlib.suppress(OSError):
            if link.readlink().is_relative_to(folder / "logs"):
                yield int(link.parts[2])
