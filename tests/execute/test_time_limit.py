"""How long a worker may be silent about a cell: the clock starts anew when scoring or answers begin."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from harness.execute import local
from harness.execute.stop import Stop
from harness.planning.events import AnsweringBegins, ScoringBegins, TrainingBegins, WorkerDone
from harness.planning.run_file import make_run

JOB: Any = SimpleNamespace(run=make_run({"cell_timeout": 100.0}), model="qwen", device="")


def trouble(events: Sequence[object], monkeypatch: pytest.MonkeyPatch) -> tuple[str | None, str] | None:
    """Return the trouble of a worker that tells these events, one a minute; None stands for a silent minute."""
    told: Iterator[Any] = iter(events)
    minutes = iter(range(len(events) * 4))
    monkeypatch.setattr(local, "time", SimpleNamespace(monotonic=lambda: 30.0 * next(minutes)))  # asked twice an event
    worker: Any = SimpleNamespace(receive=lambda: next(told))
    found = local._follow(JOB, worker, lambda model, event: None, Stop())
    return None if found is None else (found.key, found.reason)


@pytest.mark.parametrize("begins", [TrainingBegins, ScoringBegins, AnsweringBegins])
def test_a_cell_that_says_nothing_for_its_time_limit_is_ended(begins: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    found = trouble([begins(key="one"), None, None, None, None, None], monkeypatch)
    assert found is not None
    assert found[0] == "one"
    assert "no result within 100 s" in found[1]


def test_answers_have_the_time_limit_of_a_cell_to_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    of_points = [AnsweringBegins(key="one")] * 8  # a minute each
    assert trouble([ScoringBegins(key="one"), *of_points, WorkerDone()], monkeypatch) is None
    found = trouble([AnsweringBegins(key=None), None, None, None, None], monkeypatch)
    assert found is not None
    assert found[0] is None
