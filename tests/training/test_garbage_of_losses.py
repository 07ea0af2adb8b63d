"""What a loss may give that it should not: each kind ends its cell with one reason, which names the loss."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM

from harness.api import HarnessError, Loss, Message, Pair, PairLogps, ResponseLogps, Terms
from harness.data.tokens import TokenPair
from harness.models.families import FAMILIES
from harness.planning.budget import Plan
from harness.training.loss_columns import prepare_columns
from harness.training.loss_inputs import TrainingData
from harness.training.own_errors import reason_in
from harness.training.own_rewards import own_rewards
from harness.training.recipe import Recipe
from harness.training.reference_cache import require_finite
from harness.training.trainer import Trained, train

N = 4
rng = np.random.default_rng(0)
TOKENS = [
    TokenPair(
        pair_id=str(i),
        prompt_ids=tuple(rng.integers(5, 60, 3).tolist()),
        chosen_ids=tuple(rng.integers(5, 60, 3).tolist()),
        rejected_ids=tuple(rng.integers(5, 60, 2).tolist()),
        truncated=False,
    )
    for i in range(N)
]
PAIRS = [
    Pair(
        pair_id=str(i), prompt_id=str(i), context=(Message(role="user", content="do"),), chosen="a b", rejected="a c",
        score_chosen=3.0, score_rejected=2.0,
    )
    for i in range(N)
]  # fmt: skip


class Bent(torch.autograd.Function):
    """Its value is what it gets; its gradient is `bend` of the true one."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, bend: Callable[[Tensor], Any]) -> Tensor:
        ctx.bend = bend
        return values.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:  # type: ignore[override]
        return ctx.bend(gradient), None


def same(given: Any) -> Any:
    """Leave it as it is."""
    return given


@dataclass(frozen=True, kw_only=True)
class Garbage(Loss):
    """The difference of the mean log-probs, and what is made of it."""

    name: ClassVar[str] = "garbage"
    needs_columns = ("score_chosen",)
    value: Callable[[Tensor], Any] = same
    gradient: Callable[[Tensor], Any] = same
    state: Callable[[dict[str, Tensor]], Any] = same
    column: Callable[[np.ndarray], Any] = same
    prepared: Callable[[dict[str, Any]], Any] = same
    reads: Callable[[ResponseLogps], Any] = lambda response: response.sum

    def __call__(self, pairs: PairLogps) -> Tensor:
        difference = pairs.rejected.mean() - pairs.chosen.mean()
        return self.value(Bent.apply(difference, self.gradient) * pairs.columns["weight"])  # type: ignore[no-any-return]

    def terms(self, pairs: PairLogps) -> Terms:
        return Terms.of(self(pairs))

    def prepare(self, pairs: pd.DataFrame) -> Mapping[str, np.ndarray]:
        return self.prepared({"weight": self.column(np.ones(len(pairs)))})  # type: ignore[no-any-return]

    def reward(self, response: ResponseLogps) -> Tensor:
        return self.reads(response)  # type: ignore[no-any-return]


class Coupled(Garbage):
    """The same over the whole step, with a state."""

    batch_coupled = stateful = True

    def initial_state(self) -> Mapping[str, Tensor]:
        return {"seen": torch.zeros(())}

    def step(self, pairs: PairLogps, state: Mapping[str, Tensor], rng: Any) -> Any:
        return self(pairs), self.state({"seen": state["seen"] + 1})


def fit(loss: Loss, folder: Path) -> Trained:
    """Train a step of two micro-batches."""
    torch.manual_seed(0)
    net = AutoModelForCausalLM.from_config(FAMILIES["qwen"].nano_config(64))
    plan = Plan(batch_pairs=N, n_pairs=N, seed=0, steps=1)
    columns = prepare_columns(loss, PAIRS, TOKENS, plan.visited(), None)
    data = TrainingData(pairs=PAIRS, tokens=TOKENS, reference=None, columns=columns)
    recipe = Recipe(learning_rate=1e-3, micro_pairs=2, seed=0, dtype="float32")
    return train(net, loss, data, plan, recipe, folder, lambda step, loss: None)


def raises(_given: Any) -> Any:
    raise RuntimeError("on purpose")


NO_NUMBERS: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "None": (lambda v: None, "gave a NoneType, expected"),
    "a number": (lambda v: 1.0, "gave a float, expected"),
    "an array": (lambda v: v.detach().numpy(), "gave a ndarray, expected"),
    "a list": (list, "gave a list, expected"),
    "a column": (lambda v: v[:, None], "gave shape"),
    "a mean": (lambda v: v.mean(), "gave shape"),
    "too few": (lambda v: v[:1], "gave shape"),
    "complex": (lambda v: v.to(torch.complex64), "gave torch.complex64, expected"),
}
NOT_TRAINED = "values without a gradient"
BENT: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "None": (lambda g: None, NOT_TRAINED),
    "a sum": (lambda g: g.sum(), "its gradient cannot be computed (RuntimeError"),
    "complex": (lambda g: g.to(torch.complex64), "its gradient cannot be computed (RuntimeError"),
    "an error": (raises, "its gradient cannot be computed (RuntimeError: on purpose)"),
}
COLUMNS: dict[str, tuple[Callable[[np.ndarray], Any], str]] = {
    "None": (lambda w: None, "prepare gave 'weight' of shape (), expected (4,) finite numbers"),
    "two columns": (lambda w: np.ones((len(w), 2)), "of shape (4, 2)"),
    "one too few": (lambda w: w[1:], "of shape (3,)"),
    "text": (lambda w: w.astype(str), "of type <U"),
    "objects": (lambda w: np.array([None] * len(w)), "of type object"),
    "complex": (lambda w: w * 1j, "of type complex128"),
    "NaN": (lambda w: np.where(np.arange(len(w)) == 1, np.nan, w), "not finite in fp32 for 1 of 4 pairs"),
    "infinite": (lambda w: w * -np.inf, "not finite in fp32 for 4 of 4 pairs"),
    "infinite in fp32": (lambda w: w * 1e39, "not finite in fp32 for 4 of 4 pairs"),
}
MAPPINGS: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "None": (lambda m: None, "NoneType, expected"),
    "a list": (list, "expected"),
    "numbers": (lambda m: dict.fromkeys(m, 1.0), "expected"),
}


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        *((kind(value=value), words) for kind in (Garbage, Coupled) for value, words in NO_NUMBERS.values()),
        *((kind(value=torch.Tensor.detach), NOT_TRAINED) for kind in (Garbage, Coupled)),
        *((kind(value=torch.Tensor.long), NOT_TRAINED) for kind in (Garbage, Coupled)),
        *((kind(gradient=bend), words) for kind in (Garbage, Coupled) for bend, words in BENT.values()),
        *((Coupled(state=state), f"step gave a state of {words}") for state, words in list(MAPPINGS.values())[:1]),
        *((Coupled(state=state), "expected tensors by name") for state, _ in list(MAPPINGS.values())[1:]),
        *((Garbage(column=column), words) for column, words in COLUMNS.values()),
        *((Garbage(prepared=prepared), "prepare gave") for prepared, _ in MAPPINGS.values()),
        *((Garbage(reads=lambda r, v=v: v(r.sum)), f"reward {words}") for v, words in NO_NUMBERS.values()),
        (Garbage(reads=lambda r: r.sum > 0), "reward gave torch.bool, expected one number per response"),
    ],
)
def test_what_is_no_number_per_pair_ends_the_cell_and_names_the_loss(loss: Loss, words: str, tmp_path: Path) -> None:
    with pytest.raises(HarnessError) as caught:
        fit(loss, tmp_path)
    assert str(caught.value).startswith("loss 'garbage'")
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        (kind(**{place: lambda v, times=times: v * times}), words)
        for kind in (Garbage, Coupled)
        for place, times, words in (
            ("value", float("nan"), "the loss is nan at step 1"),
            ("value", float("inf"), "the loss is"),
            ("value", 1e30, "the gradient norm is inf at step 1"),
            ("gradient", float("nan"), "the gradient norm is nan at step 1"),
            ("gradient", float("inf"), "the gradient norm is"),
            ("gradient", 1e30, "the gradient norm is inf at step 1"),
        )
    ],
)
def test_numbers_that_are_not_finite_or_too_large_are_a_divergence(loss: Loss, words: str, tmp_path: Path) -> None:
    trained = fit(loss, tmp_path)
    assert trained.status == "diverged"
    assert trained.reason.startswith(words)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_rewards_that_are_not_finite_are_refused_where_the_cell_is_scored(value: float) -> None:
    with pytest.raises(HarnessError, match="loss 'garbage': reward is not finite for 2 of 2 responses"):
        own_rewards(Garbage(reads=lambda r: r.sum * value), np.array([-1.0, -2.0]), np.ones(2), np.zeros(2))


def test_what_a_loss_writes_into_its_table_and_its_rewards_is_its_own_affair(tmp_path: Path) -> None:
    class Writing(Garbage):
        def prepare(self, pairs: pd.DataFrame) -> Mapping[str, np.ndarray]:
            pairs.loc[:, "score_chosen"] = 0.0
            return super().prepare(pairs)

    def write(response: ResponseLogps) -> Tensor:
        return response.sum.mul_(2)

    sound, written = fit(Garbage(), tmp_path), fit(Writing(reads=write), tmp_path)
    for name in ("loss", "grad_norm", "logps/chosen"):
        assert sound.log[name].tolist() == written.log[name].tolist()
    columns = prepare_columns(Writing(), PAIRS, TOKENS, np.arange(N), None)
    assert columns["score_chosen"].tolist() == [3.0] * N


def test_an_error_in_the_code_of_a_loss_is_told_with_its_name_and_line_and_another_is_not() -> None:
    with pytest.raises(RuntimeError) as own:
        Garbage(reads=raises).reward(ResponseLogps(sum=torch.zeros(1), length=torch.ones(1), ref_sum=None))
    with pytest.raises(AttributeError) as ours:
        own_rewards(None, np.zeros(1), np.ones(1), np.zeros(1))  # type: ignore[arg-type]
    line = inspect.getsourcelines(raises)[1] + 1
    assert reason_in(own.value, Garbage()) == (
        f"loss 'garbage' raised RuntimeError: on purpose (test_garbage_of_losses.py:{line})"
    )
    ours.value.__traceback__ = ours.value.__traceback__.tb_next  # without this file, in which the loss is defined
    assert reason_in(ours.value, Garbage()).startswith("AttributeError: 'NoneType' object")


def test_a_start_checkpoint_that_gives_no_finite_log_prob_is_named_before_a_loss_reads_it() -> None:
    with pytest.raises(HarnessError, match="the start checkpoint gives a log-prob of -inf to training pair 8"):
        require_finite(np.array([[-1.0, -2.0], [-3.0, -np.inf]]), range(6, 8))
    require_finite(np.array([[-1.0, -2.0]]), range(2))
