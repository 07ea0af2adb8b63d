"""Points along a training: the weights that are kept there, what was spent by then, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_pairs import made_pairs, made_tokens
from transformers import AutoModelForCausalLM

from harness.manager import plugin_manager, resolver
from harness.models.families import FAMILIES
from harness.planning.budget import Budget, Cost, Plan, plan
from harness.training.loss_inputs import TrainingData
from harness.training.recipe import Recipe
from harness.training.trainer import Trained, train

rng = np.random.default_rng(0)
TOKENS = made_tokens(rng, 8)
PAIRS = made_pairs(8)
TOKENS_OF_PAIRS = [2 * len(ids.prompt_ids) + len(ids.chosen_ids) + len(ids.rejected_ids) for ids in TOKENS]
COST = Cost(tokens=TOKENS_OF_PAIRS, flops=[10.0 * tokens for tokens in TOKENS_OF_PAIRS])
SIMPO = resolver(plugin_manager())("simpo", {})


class StoppedError(Exception):
    """Stands for a hand on the switch."""


def model() -> Any:
    torch.manual_seed(0)
    config = FAMILIES["qwen"].nano_config(64)
    config.num_hidden_layers = 1
    return AutoModelForCausalLM.from_config(config)


def weights(net: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in net.state_dict().items()}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def trained(
    spending: Plan,
    tmp_path: Path,
    net: Any,
    on_step: Callable[[int, float], None] = lambda step, loss: None,
    keep: Callable[[float], None] = lambda fraction: None,
) -> Trained:
    data = TrainingData(pairs=PAIRS, tokens=TOKENS, reference=None, columns={}, mismatched=())
    recipe = Recipe(learning_rate=1e-2, micro_pairs=2, seed=0, dtype="float32")
    return train(net, SIMPO, data, spending, recipe, tmp_path, on_step, keep)


def planned(budget: str, *fractions: float) -> Plan:
    return plan(Budget.parse(budget), batch_pairs=2, seed=3, cost=COST, evaluate_at=fractions)


@pytest.mark.parametrize("budget", ["pairs=12", "steps=6", f"tokens={int(1.6 * sum(TOKENS_OF_PAIRS))}", "flops=4000"])
def test_the_weights_of_a_point_are_those_of_a_training_stopped_by_hand_at_its_step(
    budget: str, tmp_path: Path
) -> None:
    spending = planned(budget, 0.5, 1.0)
    (point,) = spending.points
    assert point.steps is not None
    assert 1 <= point.steps < (spending.steps or 0)
    kept: dict[float, dict[str, torch.Tensor]] = {}
    net, by_hand = model(), model()
    trained(spending, tmp_path, net, keep=lambda fraction: kept.update({fraction: weights(net)}))

    def switch(step: int, _loss: float) -> None:
        if step == point.steps:
            raise StoppedError

    with pytest.raises(StoppedError):
        trained(replace(spending, points=()), tmp_path, by_hand, on_step=switch)
    assert list(kept) == [0.5]
    assert same(kept[0.5], weights(by_hand))
    assert not same(kept[0.5], weights(net))


def test_training_is_the_same_in_every_bit_with_points_and_without(tmp_path: Path) -> None:
    with_points, without = model(), model()
    one = trained(planned("steps=5", 0.2, 0.4, 1.0), tmp_path, with_points)
    other = trained(planned("steps=5"), tmp_path, without)
    assert same(weights(with_points), weights(without))
    assert one.log.equals(other.log)


def test_what_was_spent_by_a_point_is_counted_from_the_pairs_of_its_steps(tmp_path: Path) -> None:
    spending = planned("steps=5", 0.4, 1.0)
    done = trained(spending, tmp_path, model())
    visited = list(spending.batches())
    by_hand = [
        (fraction, steps, 2 * steps, sum(TOKENS_OF_PAIRS[pair] for step in visited[:steps] for pair in step))
        for fraction, steps in ((0.4, 2), (1.0, 5))
    ]
    assert [(point.fraction, point.steps, point.pairs, point.tokens) for point in done.points] == by_hand
    assert (done.steps, done.pairs, done.tokens) == by_hand[-1][1:]
    assert 0 < done.points[0].seconds < done.points[1].seconds == done.seconds


class Watch:
    """A clock that a test sets."""

    now = 100.0

    def perf_counter(self) -> float:
        return self.now


def test_a_budget_in_seconds_has_its_points_where_the_clock_is_and_keeping_weights_takes_none_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    watch = Watch()
    monkeypatch.setattr("harness.training.step_end.time", watch)

    def a_step_takes_an_eighth(_step: int, _loss: float) -> None:
        watch.now += 0.125

    def keeping_takes_long(_fraction: float) -> None:
        watch.now += 60

    spending = planned("seconds=1", 0.25, 0.6, 1.0)
    done = trained(spending, tmp_path, model(), on_step=a_step_takes_an_eighth, keep=keeping_takes_long)
    reached = [(point.fraction, point.steps, point.seconds) for point in done.points]
    assert reached == [(0.25, 2, 0.25), (0.6, 5, 0.625), (1.0, 8, 1.0)]
    assert (done.steps, done.seconds) == (8, 1.0)
