"""Two processes that train a cell together: the numbers are those of one process, whatever the loss reads."""

from __future__ import annotations

import copy
import multiprocessing
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import cloudpickle
import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM
from waiting import HANGS

from harness.api import HarnessError, Loss, Message, Pair, PairLogps, ResponseLogps, Terms
from harness.data.collate import collate
from harness.data.mismatch import mismatched
from harness.data.tokens import TokenPair
from harness.execute import workers
from harness.execute.follow import follow
from harness.logps.response_logps import response_logps
from harness.manager import plugin_manager, resolver
from harness.models.families import FAMILIES
from harness.planning.budget import Plan, runs_reference
from harness.planning.ending import EndedError, Ending
from harness.planning.launch import Launch
from harness.planning.run_file import Run
from harness.run_folder.checkpoints import Origin, find_checkpoint
from harness.training.checkpoints import Checkpoints
from harness.training.loss_columns import prepare_columns
from harness.training.loss_inputs import TrainingData
from harness.training.recipe import Recipe
from harness.training.reference_cache import Reference
from harness.training.together import OVER, Task, connected, together
from harness.training.train_cell import start_model
from harness.training.trainer import Trained, train

RESOLVE = resolver(plugin_manager())
N_PAIRS, BATCH, STEPS = 24, 8, 4
rng = np.random.default_rng(3)
TOKENS = [
    TokenPair(
        pair_id=str(i),
        prompt_ids=tuple(rng.integers(5, 60, 4).tolist()),
        chosen_ids=tuple(rng.integers(5, 60, 3 + i % 5).tolist()),
        rejected_ids=tuple(rng.integers(5, 60, 3 + i % 3).tolist()),
        truncated=False,
    )
    for i in range(N_PAIRS)
]
PAIRS = [
    Pair(
        pair_id=str(i), prompt_id=str(i), context=(Message(role="user", content="do"),), chosen="a b", rejected="a c",
        score_chosen=3.0 + i % 3, score_rejected=2.0,
    )
    for i in range(N_PAIRS)
]  # fmt: skip
HELD_OUT = [tuple(rng.integers(5, 60, 6).tolist()) for _ in range(64)]
MISMATCHED = mismatched(TOKENS, [pair.prompt_id for pair in PAIRS], 16, seed=0)
REFERENCE = Reference(
    chosen=np.full(N_PAIRS, -20.0),
    rejected=np.full(N_PAIRS, -19.0),
    mismatched=np.full(N_PAIRS, -22.0),
    seconds=0.0,
    cached=True,
)


ORIGIN = Origin(
    cell="cell", board="{}", start_fingerprint="start", tokens_fingerprint="tokens", evaluate_at=(), code="",
    versions={},
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class FailsElsewhere(Loss):
    """A loss that only the second process cannot compute."""

    name: ClassVar[str] = "fails-elsewhere"
    how: str = "raises"

    def terms(self, pairs: PairLogps) -> Terms:
        if multiprocessing.parent_process() is not None:
            if self.how == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            raise ValueError("not with these pairs")
        return Terms.of(pairs.rejected.sum() - pairs.chosen.sum())

    def reward(self, response: ResponseLogps) -> torch.Tensor:
        return response.sum


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A start checkpoint in a folder."""
    torch.manual_seed(0)
    config = FAMILIES["qwen"].nano_config(64)
    folder = tmp_path_factory.mktemp("start")
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def two() -> Iterator[Launch]:
    """The place of the first of two processes; the second is there, and takes part in what the first begins."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    first = Launch(
        count=2, rank=0, local_rank=0, local_count=2, host="127.0.0.1", port=port, store_runs=False, config={}
    )
    store = connected(first, hosts=True)
    other = workers.context().Process(target=follow, args=(replace(first, rank=1, local_rank=1),))
    workers.start(other)
    yield first
    store.set(OVER, "")
    other.join(timeout=HANGS)
    assert other.exitcode == 0


Trains = Callable[..., tuple[Trained, Any]]


@pytest.fixture
def trains(start: Path, tmp_path: Path) -> Trains:
    """Train a loss, alone or with the process of `launch`."""

    def call(
        loss: Loss,
        launch: Launch | None,
        adapter: str = "full",
        cell: Path | None = None,
        stopped_at: int = 0,
    ) -> tuple[Trained, Any]:
        opened = partial(start_model, start, Run(adapter=adapter, dtype="float32"), 3, TOKENS[0], "tiny")
        model = opened()
        plan = Plan(batch_pairs=BATCH, n_pairs=N_PAIRS, seed=1, steps=STEPS)
        data = TrainingData(
            pairs=PAIRS,
            tokens=TOKENS,
            reference=None if loss.moving_reference else REFERENCE,
            columns=prepare_columns(loss, PAIRS, TOKENS, plan.visited(), REFERENCE),
            mismatched=MISMATCHED if loss.needs_kl else None,
            frozen=copy.deepcopy(model).requires_grad_(False) if runs_reference(loss) else None,
        )
        recipe = Recipe(learning_rate=1e-3, micro_pairs=2, seed=0, dtype="float32")
        ending, found = Ending(), find_checkpoint(cell) if cell else None
        task = Task(
            open=opened, loss=loss, data=data, plan=plan, recipe=recipe, scratch=(cell or tmp_path) / "scratch",
            log=tmp_path / "worker.log", threads=1, origin=ORIGIN if cell else None, every=1e9, found=found,
        )  # fmt: skip
        kept = None
        if cell:
            kept = Checkpoints(cell=cell, origin=ORIGIN, every=1e9, ending=ending, written=lambda *_: None, found=found)

        def on_step(step: int, value: float) -> None:
            ending.asked = step == stopped_at

        with together(launch, task) as ranks:
            return train(model, loss, data, plan, recipe, task.scratch, on_step, checkpoints=kept, ranks=ranks), model

    return call


def sums(model: Any) -> torch.Tensor:
    """Return the log-probs of responses that were not trained on."""
    batch = collate([(ids[:3], (ids[3:],)) for ids in HELD_OUT])
    with torch.no_grad():
        return response_logps(model, batch).token.double().sum(-1)


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
    one, alone = trains(RESOLVE(name, options), None, adapter=adapter)
    both, shared = trains(RESOLVE(name, options), two, adapter=adapter)
    assert np.ptp(one.log["loss"]) > 1e-3  # it trained
    np.testing.assert_allclose(both.log["loss"], one.log["loss"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(both.log["grad_norm"], one.log["grad_norm"], rtol=1e-4)
    for counted in ("steps", "pairs", "tokens", "mismatched_tokens"):
        assert getattr(both, counted) == getattr(one, counted)
    expected, got = sums(alone), sums(shared)
    assert float((got - expected).abs().max()) < 1e-4
    sides = [torch.sign(values[:32] - values[32:]) for values in (expected, got)]
    assert int((sides[0] != sides[1]).sum()) == 0


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
    how: str, words: str, trains: Trains, two: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # the other process does not know this file
    with pytest.raises(HarnessError, match=words):
        trains(FailsElsewhere(how=how), two)
    assert trains(RESOLVE("simpo", {}), two)[0].status == "ok"
