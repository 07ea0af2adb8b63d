"""The trainer: the step's loss, the order, the budget."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from transformers import AutoModelForCausalLM

from harness.api import HarnessError, Loss, Message, Pair, PairLogps, ResponseLogps, Terms
from harness.budget import Plan
from harness.columns import prepare_columns
from harness.data.tokens import TokenPair
from harness.manager import plugin_manager, resolver
from harness.models.families import FAMILIES
from harness.reference import Reference
from harness.train import PreferenceTrainer, Recipe, Trained, TrainingData, schedule, train

RESOLVE = resolver(plugin_manager())
rng = np.random.default_rng(0)
TOKENS = [
    TokenPair(
        pair_id=str(i),
        prompt_ids=tuple(rng.integers(5, 60, 4).tolist()),
        chosen_ids=tuple(rng.integers(5, 60, 3 + i % 5).tolist()),
        rejected_ids=tuple(rng.integers(5, 60, 3 + i % 3).tolist()),
        truncated=False,
    )
    for i in range(16)
]
PAIRS = [
    Pair(
        pair_id=str(i), prompt_id=str(i), context=(Message(role="user", content="do"),), chosen="a b", rejected="a c",
        score_chosen=3.0 + i % 3, score_rejected=2.0,
    )
    for i in range(16)
]  # fmt: skip


def model() -> Any:
    torch.manual_seed(0)
    config = FAMILIES["qwen"].nano_config(64)
    config.num_hidden_layers = 2
    return AutoModelForCausalLM.from_config(config)


def run(
    loss: Loss, tmp_path: Path, micro: int = 8, steps: int = 1, seconds: float | None = None, rate: float = 1e-3
) -> tuple[Trained, Any]:
    net = model()
    spending = Plan(batch_pairs=8, n_pairs=16, seed=0, steps=None if seconds else steps, seconds=seconds)
    reference = Reference(chosen=np.full(16, -20.0), rejected=np.full(16, -19.0), seconds=0.0, cached=True)
    held = reference if loss.needs_reference else None
    columns = prepare_columns(loss, PAIRS, TOKENS, spending.visited(), held)
    data = TrainingData(pairs=PAIRS, tokens=TOKENS, reference=held, columns=columns)
    recipe = Recipe(learning_rate=rate, micro_pairs=micro, seed=0, dtype="float32")
    return train(net, loss, data, spending, recipe, tmp_path, lambda step: None), net


def difference(a: Any, b: Any) -> float:
    return max(
        float((x.detach() - y.detach()).abs().max()) for x, y in zip(a.parameters(), b.parameters(), strict=True)
    )


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("simpo", {}),
        ("dpo", {}),
        ("gappo", {}),
        ("cpo", {"nll_reduction": "token"}),  # coupled: the token mean of the whole step
        ("gappo", {"normalise": "batch_mean"}),  # coupled: divided by the step's own weights
    ],
)
def test_micro_batches_do_not_change_the_step(name: str, options: dict[str, Any], tmp_path: Path) -> None:
    whole, one = run(RESOLVE(name, options), tmp_path, micro=8, steps=2)
    parts, two = run(RESOLVE(name, options), tmp_path, micro=2, steps=2)
    assert difference(one, two) < 3e-5  # Adam divides by the size of the gradient: rounding is magnified
    assert difference(one, model()) > 1e-3  # it trained
    np.testing.assert_allclose(whole.log["loss"], parts.log["loss"], rtol=1e-5)
    np.testing.assert_allclose(whole.log["grad_norm"], parts.log["grad_norm"], rtol=1e-4)


def test_without_the_coupled_pass_a_token_mean_would_depend_on_micro_batches(tmp_path: Path) -> None:
    loss = RESOLVE("cpo", {"nll_reduction": "token"})

    class Uncoupled(type(loss)):  # type: ignore[misc]
        batch_coupled = False

    wrong = Uncoupled(**{name: getattr(loss, name) for name in loss.options()})
    one, two = (run(wrong, tmp_path, micro=micro)[0].log["grad_norm"].iloc[0] for micro in (8, 2))
    assert abs(one / two - 1) > 1e-4


def test_the_step_loss_is_the_mean_over_its_pairs(tmp_path: Path) -> None:
    trained, _ = run(RESOLVE("simpo", {}), tmp_path, micro=4)
    loss = RESOLVE("simpo", {})
    spending = Plan(batch_pairs=8, n_pairs=16, seed=0, steps=1)
    trainer = PreferenceTrainer(
        model=model(),
        loss=loss,
        data=TrainingData(pairs=PAIRS, tokens=TOKENS, reference=None, columns={}),
        plan=spending,
        recipe=Recipe(learning_rate=1e-3, micro_pairs=1, seed=0, dtype="float32"),
        scratch=tmp_path,
        on_step=lambda step: None,
    )
    one_by_one = [
        loss(trainer._pair_logps(trainer.model, trainer._collate(np.array([i])))).item()
        for i in next(spending.batches())
    ]
    assert trained.log["loss"].iloc[0] == pytest.approx(np.mean(one_by_one), rel=1e-5)


def test_the_log_has_trls_names_and_one_row_a_step(tmp_path: Path) -> None:
    trained, _ = run(RESOLVE("dpo", {}), tmp_path, steps=3)
    expected = {"step", "loss", "grad_norm", "learning_rate", "rewards/chosen", "rewards/rejected", "rewards/margins"}
    expected |= {"rewards/accuracies", "logps/chosen", "logps/rejected"}
    assert expected <= set(trained.log.columns)
    assert trained.log["step"].tolist() == [1, 2, 3]
    assert (trained.steps, trained.pairs) == (3, 24)


def test_the_tokens_spent_are_those_of_the_pairs_visited(tmp_path: Path) -> None:
    trained, _ = run(RESOLVE("simpo", {}), tmp_path, steps=2)
    assert trained.tokens == sum(2 * len(t.prompt_ids) + len(t.chosen_ids) + len(t.rejected_ids) for t in TOKENS)


def test_a_budget_in_seconds_stops_by_the_clock(tmp_path: Path) -> None:
    trained, _ = run(RESOLVE("simpo", {}), tmp_path, seconds=1.0)
    assert trained.steps >= 1
    assert trained.seconds < 5


def test_the_schedule_warms_up_and_ends_at_zero() -> None:
    assert schedule(0.05) == pytest.approx(0.5)
    assert schedule(0.1) == pytest.approx(1.0)
    assert schedule(0.55) == pytest.approx(0.5)
    assert schedule(1.0) == pytest.approx(0.0)


@dataclass(frozen=True, kw_only=True)
class Broken(Loss):
    """A loss that misbehaves as told."""

    name: ClassVar[str] = "broken"
    how: str = "nan"

    def terms(self, pairs: PairLogps) -> Terms:
        value = pairs.chosen.mean()
        if self.how == "nan":
            return Terms.of(value * float("nan"))
        if self.how == "gradient":
            return Terms.of((value - value.detach()).abs().sqrt())  # 0 in value, infinite in gradient
        return Terms.of(value.mean())

    def reward(self, response: ResponseLogps) -> torch.Tensor:
        return response.sum

    def prepare(self, pairs: pd.DataFrame) -> Mapping[str, np.ndarray]:
        return {"half": np.zeros(3)} if self.how == "prepare" else {}


@pytest.mark.parametrize(
    ("how", "words"), [("nan", "the loss is nan at step 1"), ("gradient", "gradient norm is .* at step 1")]
)
def test_what_is_not_finite_ends_the_cell_as_diverged_and_names_the_step(how: str, words: str, tmp_path: Path) -> None:
    trained, _ = run(Broken(how=how), tmp_path, steps=3)
    assert trained.status == "diverged"
    assert pd.Series([trained.reason]).str.contains(words, regex=True).all()


def test_a_loss_of_the_wrong_shape_is_named(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match=r"loss 'broken' gave shape \(\), expected one value a pair \(8,\)"):
        run(Broken(how="shape"), tmp_path)


def test_a_prepared_column_of_the_wrong_length_is_named(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="prepare gave 'half' of shape"):
        run(Broken(how="prepare"), tmp_path)


def test_missing_scores_are_said_where_a_loss_needs_them() -> None:
    unscored = [Pair(pair_id="0", prompt_id="0", context=PAIRS[0].context, chosen="a", rejected="b", score_chosen=1.0)]
    with pytest.raises(
        HarnessError, match="loss 'gappo' needs 'score_rejected' for every training pair, got it for 0 of 1"
    ):
        prepare_columns(RESOLVE("gappo", {}), unscored, TOKENS[:1], np.array([0]), None)
