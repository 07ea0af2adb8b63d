"""Two processes that train a cell together: the numbers are those of one process, whatever the loss reads."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import cloudpickle
import pytest
import torch
from two_processes import BATCH, Outcome, require_same, second_process, start_checkpoint, trained

from harness.api import HarnessError, Loss, PairLogps, ResponseLogps, Terms
from harness.manager import plugin_manager, resolver
from harness.planning.ending import EndedError
from harness.planning.launch import Launch
from harness.run_folder.checkpoints import find_checkpoint

RESOLVE = resolver(plugin_manager())
Trains = Callable[..., Outcome]


@dataclass(frozen=True, kw_only=True)
class FailsElsewhere(Loss):
    """A loss that only the second process cannot compute."""

    name: ClassVar[str] = "fails-elsewhere"
    how: str = "raises"

    def terms(self, pairs: PairLogps) -> Terms:
        values = pairs.rejected.sum() - pairs.chosen.sum()
        if multiprocessing.parent_process() is None:
            return Terms.of(values)
        if self.how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "raises":
            raise ValueError("not with these pairs")
        return Terms.of(values * float("nan"))

    def reward(self, response: ResponseLogps) -> torch.Tensor:
        return response.sum


cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the other process does not know this file


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A start checkpoint in a folder."""
    return start_checkpoint(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def two() -> Iterator[Launch]:
    """The place of the first of two processes; the second is there."""
    with second_process({}) as first:
        yield first


@pytest.fixture
def trains(start: Path, tmp_path: Path) -> Trains:
    """Train a loss, alone or with the second process."""
    return partial(trained, start=start, scratch=tmp_path)


@pytest.mark.parametrize(
    ("name", "options", "adapter"),
    [
        ("simpo", {}, "full"),
        ("dpo", {}, "full"),
        ("dpo", {}, "lora"),
        ("cpo", {"nll_reduction": "token"}, "full"),  # coupled: the token mean of the whole step
        ("bco", {"shift": "running"}, "full"),  # with a state
        ("kto", {}, "full"),  # coupled, by mismatched responses
        ("tr-dpo", {"every": 2}, "full"),  # its reference follows the policy
    ],
)
def test_two_processes_have_the_loss_curve_of_one(
    name: str, options: dict[str, Any], adapter: str, trains: Trains, two: Launch
) -> None:
    loss = RESOLVE(name, options)
    require_same(trains(loss, None, adapter=adapter), trains(loss, two, adapter=adapter))


def test_a_training_of_two_processes_that_is_stopped_goes_on_as_if_it_had_not_been(
    trains: Trains, two: Launch, tmp_path: Path
) -> None:
    loss, cell = RESOLVE("bco", {"shift": "running"}), tmp_path / "cell"
    undisturbed, expected = trains(loss, two)
    with pytest.raises(EndedError):
        trains(loss, two, cell=cell, stopped_at=2)
    assert find_checkpoint(cell) == cell / "checkpoint-2"
    resumed, got = trains(loss, two, cell=cell)
    assert resumed.log.equals(undisturbed.log)
    assert (resumed.pairs, resumed.tokens) == (undisturbed.pairs, undisturbed.tokens)
    for one, other in zip(got.parameters(), expected.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("raises", "process 1 of the 2 that train the cell: ValueError: not with these pairs"),
        ("dies", "one of the 2 processes that train the cell is gone"),
    ],
)
def test_a_process_that_fails_costs_the_training_and_not_the_next_one(
    how: str, words: str, trains: Trains, two: Launch
) -> None:
    with pytest.raises(HarnessError, match=words):
        trains(FailsElsewhere(how=how), two)
    assert trains(RESOLVE("simpo", {}), two).trained.status == "ok"


def test_a_loss_that_is_not_finite_in_one_process_ends_the_training_of_all(trains: Trains, two: Launch) -> None:
    found = trains(FailsElsewhere(how="nan"), two).trained
    assert (found.status, found.reason) == ("diverged", "the loss is nan at step 1")


def test_a_budget_in_seconds_ends_by_the_clock_of_the_first_process(trains: Trains, two: Launch) -> None:
    found = trains(RESOLVE("simpo", {}), two, seconds=0.5).trained
    assert found.steps >= 1
    assert found.pairs == BATCH * found.steps
