"""Commands that tests fork: the same as those started afresh, and none leaves anything to the next."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest
from forked_commands import ForkedCommands, can_be_forked
from waiting import until

from harness.execute import workers


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("plugins", "show", "gappo"), 0),
        (("plugins", "show", "nothing"), 2),
        (("run", "--no-such-option"), 2),
        (("leaderboard", "--help"), 0),
    ],
)
def test_a_forked_command_says_what_one_started_afresh_says(words: tuple[str, ...], code: int, harness: Any) -> None:
    forked, fresh = harness(*words), harness(*words, afresh=True)
    assert (forked.returncode, forked.stdout, forked.stderr) == (fresh.returncode, fresh.stdout, fresh.stderr)
    assert forked.returncode == code


def test_a_plugin_on_the_path_of_one_command_is_unknown_to_the_next(harness: Any, tmp_path: Path) -> None:
    source = (Path(__file__).parent / "example_plugin" / "example_loss.py").read_text()
    (tmp_path / "example_loss.py").write_text(source)
    info = tmp_path / "example_dist-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: example-dist\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[harness]\nexample-hinge = example_loss\n")
    asked = ("plugins", "show", "example-hinge")
    assert harness(*asked, PYTHONPATH=str(tmp_path)).returncode == 0
    assert harness(*asked).returncode == 2


@pytest.mark.skipif(sys.platform != "linux" or workers.may_have_gpu(), reason="workers are forked on Linux alone")
def test_what_workers_are_forked_from_is_there_again_after_it_was_killed(
    harness: Any, forked: ForkedCommands, tmp_path: Path
) -> None:
    words = ("run", "--plugins", "simpo", "--models", "qwen", "--limit", "16", "--budget", "pairs=16", "--no-pictures")

    def run(place: str) -> None:
        done = harness(*words, "--scorer", "transformers", "--output-dir", str(tmp_path / place))
        assert done.returncode == 0, done.stdout + done.stderr

    run("before")
    process = forked._process
    assert process is not None, "the command was forked"
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (server,) = [int(pid) for pid in children if b"multiprocessing.forkserver" in _command_line(pid)]
    os.kill(server, signal.SIGKILL)
    until(lambda: ") Z " in Path(f"/proc/{server}/stat").read_text(), "the end of it")
    run("after")


def _command_line(pid: int | str) -> bytes:
    """Return the words of a process; nothing of one that has ended."""
    return Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.skipif(sys.platform != "linux", reason="commands are forked on Linux alone")
@pytest.mark.parametrize(
    ("words", "variables", "expected"),
    [
        (("verify", "run"), {}, True),
        (("run", "--scorer", "transformers"), {"HARNESS_CACHE": "here"}, True),
        (("run", "--scorer", "transformers"), {"HF_HUB_OFFLINE": "1"}, False),  # read when its library is imported
        (("run", "--plugins", "simpo"), {}, False),  # vLLM may score it
        (("doctor",), {}, False),
    ],
)
def test_what_reads_its_variables_early_or_may_use_vllm_is_not_forked(
    words: tuple[str, ...], variables: dict[str, str], expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "may_have_gpu", lambda: False)
    assert can_be_forked(words, variables) == expected
