"""Two processes that train a cell together: the numbers are those of one process, whatever the loss reads."""

from __future__ import annotations

import copy
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM
from waiting import HANGS

from harness.api import Loss, Message, Pair
from harness.data.collate import collate
from harness.data.mismatch import mismatched
from harness.data.tokens import TokenPair
from harness.execute import workers
from harness.execute.follow import follow
from harness.logps.response_logps import response_logps
from harness.manager import plugin_manager, resolver
from harness.models.families import FAMILIES
from harness.planning.budget import Plan, runs_reference
from harness.planning.launch import Launch
from harness.planning.run_file import Run
from harness.training.loss_columns import prepare_columns
from harness.training.loss_inputs import TrainingData
from harness.training.recipe import Recipe
from harness.training.reference_cache import Reference
from harness.training.together import OVER, Task, connected, together
from harness.training.train_cell import start_model
from harness.training.trainer import Trained, train

RESOLVE = resolver(plugin_manager())
N_PAIRS, BATCH, STEPS = 24, 8, 6
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

    def call(loss: Loss, launch: Launch | None, micro: int = 2, adapter: str = "full") -> tuple[Trained, Any]:
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
        recipe = Recipe(learning_rate=1e-3, micro_pairs=micro, seed=0, dtype="float32")
        task = Task(
            open=opened, loss=loss, data=data, plan=plan, recipe=recipe, scratch=tmp_path / "scratch",
            log=tmp_path / "worker.log", threads=1,
        )  # fmt: skip
        with together(launch, task) as ranks:
            return train(model, loss, data, plan, recipe, task.scratch, lambda *_: None, ranks=ranks), model

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
