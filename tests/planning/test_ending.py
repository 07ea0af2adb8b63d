"""How a worker is asked to end: at once, or as soon as what it is at is kept."""

from __future__ import annotations

import subprocess
import sys

import pytest

from harness.planning.ending import EndedError, Ending


def test_where_nothing_would_be_lost_a_process_ends_as_by_the_signal() -> None:
    code = "from harness.planning.ending import Ending; Ending().ask(); print('still here')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-15, "")


def test_what_would_be_lost_is_done_first() -> None:
    ending, done = Ending(), list[str]()
    with pytest.raises(EndedError), ending.held():
        ending.ask()
        done.append("kept")
    assert done == ["kept"]
    with pytest.raises(EndedError), ending.held():
        done.append("begun")
    assert done == ["kept"]


def test_an_error_meanwhile_is_not_covered_up() -> None:
    ending = Ending()
    with pytest.raises(ValueError, match="on purpose"), ending.held():
        ending.ask()
        raise ValueError("on purpose")
