"""A second process beside this one, and trainings of a small model, alone or by both."""

from __future__ import annotations

import copy
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from made_pairs import made_pairs, made_tokens
from transformers import AutoModelForCausalLM
from waiting import HANGS

from harness.api import Loss
from harness.data.collate import collate
from harness.data.mismatch import mismatched
from harness.execute import workers
from harness.execute.follow import follow
from harness.logps.response_logps import response_logps
from harness.models.families import FAMILIES
from harness.planning.budget import Plan, Point, runs_reference
from harness.planning.ending import Ending
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

N_PAIRS, BATCH, STEPS = 24, 8, 4
rng = np.random.default_rng(3)
TOKENS = made_tokens(rng, N_PAIRS)
PAIRS = made_pairs(N_PAIRS)
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


class Outcome(NamedTuple):
    """A training, and its model with all weights."""

    trained: Trained
    model: Any

    def sums(self) -> torch.Tensor:
        """Return the log-probs of 64 responses that were not trained on."""
        batch = collate([(ids[:3], (ids[3:],)) for ids in HELD_OUT])
        with torch.no_grad():
            return response_logps(self.model, batch).token.double().sum(-1)


def start_checkpoint(folder: Path) -> Path:
    """Make a start checkpoint in a folder."""
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(FAMILIES["qwen"].nano_config(64)).save_pretrained(folder)
    return folder


@contextmanager
def second_process(config: dict[str, str]) -> Iterator[Launch]:
    """Have a second process that takes part in what the first begins, whose place is returned."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    first = Launch(
        count=2, rank=0, local_rank=0, local_count=2, host="127.0.0.1", port=port, store_runs=False, config=config
    )
    store = connected(first, hosts=True)
    other = workers.context().Process(target=follow, args=(replace(first, rank=1, local_rank=1),))
    workers.start(other)
    yield first
    store.set(OVER, "")
    other.join(timeout=HANGS)
    assert other.exitcode == 0


def trained(
    loss: Loss,
    launch: Launch | None,
    start: Path,
    scratch: Path,
    *,
    adapter: str = "full",
    opens: Callable[..., Any] = start_model,
    cell: Path | None = None,
    stopped_at: int = 0,
    seconds: float | None = None,
    points: tuple[Point, ...] = (),
    keep: Callable[[Any], None] = lambda model: None,
) -> Outcome:
    """Train a loss, alone or with the process beside the one of `launch`.

    `cell`: the folder of its checkpoints, from which it goes on, and which it is asked to leave after step
    `stopped_at`; `keep(model)` is given the weights at the points.
    """
    opened = partial(opens, start, Run(adapter=adapter, dtype="float32"), 3, TOKENS[0], "tiny")
    model, ending = opened(), Ending()
    steps = None if seconds else STEPS
    plan = Plan(batch_pairs=BATCH, n_pairs=N_PAIRS, seed=1, steps=steps, seconds=seconds, points=points)
    data = TrainingData(
        pairs=PAIRS,
        tokens=TOKENS,
        reference=None if loss.moving_reference else REFERENCE,
        columns=prepare_columns(loss, PAIRS, TOKENS, plan.visited(), REFERENCE),
        mismatched=MISMATCHED if loss.needs_kl else None,
        frozen=copy.deepcopy(model).requires_grad_(False) if runs_reference(loss) else None,
    )
    recipe = Recipe(learning_rate=1e-3, micro_pairs=2, seed=0, dtype="float32")
    kept = None
    if cell:
        found = find_checkpoint(cell)
        kept = Checkpoints(cell=cell, origin=ORIGIN, every=1e9, ending=ending, written=lambda *_: None, found=found)
    task = Task(
        open=opened, loss=loss, data=data, plan=plan, recipe=recipe, scratch=(cell or scratch) / "scratch",
        log=scratch / "worker.log", threads=1, origin=kept and kept.origin, every=1e9, found=kept and kept.found,
    )  # fmt: skip

    def on_step(step: int, value: float) -> None:
        ending.asked = step == stopped_at

    with together(launch, task) as ranks:
        outcome = train(
            model, loss, data, plan, recipe, task.scratch, on_step, lambda _: keep(ranks.whole(model, opened)), kept,
            ranks,
        )  # fmt: skip
        return Outcome(outcome, ranks.whole(model, opened))


def require_same(one: Outcome, both: Outcome) -> None:
    """Fail unless two trainings have one loss curve within 1e-6, and one model within 1e-4 nats, no pair aside."""
    assert np.ptp(one.trained.log["loss"]) > 1e-3  # it trained
    np.testing.assert_allclose(both.trained.log["loss"], one.trained.log["loss"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(both.trained.log["grad_norm"], one.trained.log["grad_norm"], rtol=1e-4)
    for counted in ("steps", "pairs", "tokens", "mismatched_tokens"):
        assert getattr(both.trained, counted) == getattr(one.trained, counted)
    expected, got = one.sums(), both.sums()
    assert float((got - expected).abs().max()) < 1e-4
    sides = [torch.sign(values[:32] - values[32:]) for values in (expected, got)]
    assert int((sides[0] != sides[1]).sum()) == 0
