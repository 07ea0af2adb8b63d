"""How a worker is asked to end: at once, or as soon as what it is at is kept."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from harness.planning.ending import EndedError, Ending


def test_where_nothing_would_be_lost_a_process_ends_as_by_the_signal() -> None:
    code = "from harness.planning.ending import Ending; Ending().ask(); print('still here')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-15, "")


def asked_while(work: Callable[[], object]) -> None:
    """Do something that must not be lost, and be asked to end before it."""
    ending = Ending()
    with ending.held():
        ending.ask()
        work()


def test_what_would_be_lost_is_done_first() -> None:
    done: list[str] = []
    with pytest.raises(EndedError):
        asked_while(lambda: done.append("kept"))
    assert done == ["kept"]


def test_nothing_more_is_begun_once_the_end_was_asked_for() -> None:
    ending, done = Ending(), list[str]()
    ending.asked = True
    with pytest.raises(EndedError), ending.held():
        done.append("begun")
    assert done == []


def test_an_error_meanwhile_is_not_covered_up() -> None:
    def fails() -> None:
        raise ValueError("on purpose")

    with pytest.raises(ValueError, match="on purpose"):
        asked_while(fails)
