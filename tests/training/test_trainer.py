"""The trainer: the step's loss, the order, the budget."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import pytest
import torch
from made_pairs import made_pairs, made_tokens
from transformers import AutoModelForCausalLM

from harness.api import HarnessError, Logps, Loss, Pair, PairLogps, ResponseLogps, Terms
from harness.data.mismatch import mismatched
from harness.logps.packed_attention import use_packed_attention
from harness.logps.response_logps import recompute_activations
from harness.manager import plugin_manager, resolver
from harness.models.families import FAMILIES
from harness.planning.budget import Plan
from harness.training.arguments import schedule
from harness.training.loss_columns import prepare_columns
from harness.training.loss_inputs import LossInputs, TrainingData
from harness.training.recipe import Recipe
from harness.training.reference_cache import Reference
from harness.training.trainer import Trained, train

RESOLVE = resolver(plugin_manager())
rng = np.random.default_rng(0)
TOKENS = made_tokens(rng, 16)
PAIRS = made_pairs(16)


def model() -> Any:
    torch.manual_seed(0)
    config = FAMILIES["qwen"].nano_config(64)
    config.num_hidden_layers = 2
    return AutoModelForCausalLM.from_config(config)


MISMATCHED = mismatched(TOKENS, [pair.prompt_id for pair in PAIRS], 16, seed=0)
REFERENCE = Reference(
    chosen=np.full(16, -20.0),
    rejected=np.full(16, -19.0),
    tokens=(
        [-rng.random(len(ids.chosen_ids)).astype(np.float32) for ids in TOKENS],
        [-rng.random(len(ids.rejected_ids)).astype(np.float32) for ids in TOKENS],
    ),
    mismatched=-30 * rng.random(16),
    seconds=0.0,
    cached=True,
)


def run(
    loss: Loss,
    tmp_path: Path,
    micro: int = 8,
    steps: int = 1,
    seconds: float | None = None,
    rate: float = 1e-3,
    packed: bool = False,
    recomputed: bool = False,
    seed: int = 0,
) -> tuple[Trained, Any]:
    net = model()
    if packed:
        use_packed_attention(net)
    if recomputed:
        recompute_activations(net)
    spending = Plan(batch_pairs=8, n_pairs=16, seed=0, steps=None if seconds else steps, seconds=seconds)
    columns = prepare_columns(loss, PAIRS, TOKENS, spending.visited(), REFERENCE)
    data = TrainingData(pairs=PAIRS, tokens=TOKENS, reference=REFERENCE, columns=columns, mismatched=MISMATCHED)
    recipe = Recipe(learning_rate=rate, micro_pairs=micro, seed=seed, dtype="float32")
    return train(net, loss, data, spending, recipe, tmp_path, lambda step, loss: None), net


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


@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable`:FutureWarning")  # transformers 5.0 has no other
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("name", "options"), [("dpo", {}), ("cpo", {"nll_reduction": "token"})])  # and coupled
def test_a_training_whose_activations_are_computed_again_is_the_same_bit_for_bit(
    name: str, options: dict[str, Any], packed: bool, tmp_path: Path
) -> None:
    kept, one = run(RESOLVE(name, options), tmp_path, micro=2, steps=2, packed=packed)
    again, two = run(RESOLVE(name, options), tmp_path, micro=2, steps=2, packed=packed, recomputed=True)
    assert all(layer.gradient_checkpointing for layer in two.model.layers)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert kept.log.equals(again.log)


def test_a_step_through_onednn_is_the_step_through_torchs_own_products(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logs = []
    for onednn in (False, True):
        monkeypatch.setattr("harness.logps.cpu_matmul.by_onednn", lambda onednn=onednn: onednn)
        logs.append(run(RESOLVE("simpo", {}), tmp_path, steps=2, packed=True)[0].log)
    torchs, ours = logs
    assert not ours.equals(torchs)  # other products were taken
    for name in ("loss", "logps/chosen", "rewards/margins"):
        np.testing.assert_allclose(ours[name], torchs[name], rtol=1e-5)
    np.testing.assert_allclose(ours["grad_norm"], torchs["grad_norm"], rtol=1e-4)


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
        if self.how == "detached":
            return Terms.of(value.detach())
        return Terms.of(value if self.how == "fine" else value.mean())

    def reward(self, response: ResponseLogps) -> torch.Tensor:
        return response.sum

    def prepare(self, pairs: pd.DataFrame) -> Mapping[str, np.ndarray]:
        return {"half": np.zeros(3)} if self.how == "prepare" else {}


@dataclass(frozen=True, kw_only=True)
class Plain(Loss):
    """The difference of the summed log-probs: a base for the losses below, with a diary of what they are given."""

    name: ClassVar[str] = "plain"
    diary: list[Any] = field(default_factory=list)

    def terms(self, pairs: PairLogps) -> Terms:
        return Terms.of(pairs.rejected.sum() - pairs.chosen.sum())

    def __call__(self, pairs: PairLogps) -> torch.Tensor:
        self.diary.append(pairs)
        return super().__call__(pairs)

    def reward(self, response: ResponseLogps) -> torch.Tensor:
        return response.sum


class Anchored(Plain):
    """KTO's form: each side against the mean log-ratio of the mismatched completions of the step."""

    name = "anchored"
    needs_reference = needs_kl = batch_coupled = True

    def terms(self, pairs: PairLogps) -> Terms:
        chosen, rejected = pairs.log_ratios()
        assert pairs.kl is not None
        anchor = (pairs.kl.sum() - pairs.ref_kl).mean().detach()
        return Terms.of(2 - torch.sigmoid(0.1 * (chosen - anchor)) - torch.sigmoid(0.1 * (anchor - rejected)))


class AnchoredAlone(Anchored):
    """The same with each pair's own mismatch as anchor, called per micro-batch."""

    batch_coupled = False

    def terms(self, pairs: PairLogps) -> Terms:
        assert pairs.kl is not None
        anchor = (pairs.kl.sum() - pairs.ref_kl).detach()
        return Terms.of(-torch.sigmoid(0.1 * (pairs.chosen.sum() - anchor)))


class Tails(Plain):
    """LD-DPO's form: tokens beyond the shorter response weigh a third, under policy and reference."""

    name = "tails"
    needs_reference_tokens = True

    def terms(self, pairs: PairLogps) -> Terms:
        assert pairs.ref_tokens is not None
        shared = torch.minimum(pairs.chosen.length(), pairs.rejected.length())[:, None]

        def weighted(response: Logps) -> torch.Tensor:
            places = torch.arange(response.token.shape[1])
            return (response.token * torch.where(places < shared, 1.0, 1 / 3)).sum(-1)

        chosen, rejected = (
            weighted(policy) - weighted(reference)
            for policy, reference in zip((pairs.chosen, pairs.rejected), pairs.ref_tokens, strict=True)
        )
        return Terms.of(-torch.nn.functional.logsigmoid(0.1 * (chosen - rejected)))


class Remembering(Plain):
    """beta-DPO's form: a running mean of the margins scales the loss of a random half of the step's pairs."""

    name = "remembering"
    batch_coupled = stateful = True

    def initial_state(self) -> Mapping[str, torch.Tensor]:
        return {"mean": torch.zeros(())}

    def step(
        self, pairs: PairLogps, state: Mapping[str, torch.Tensor], rng: np.random.Generator
    ) -> tuple[torch.Tensor, Mapping[str, torch.Tensor]]:
        margin = pairs.chosen.mean() - pairs.rejected.mean()
        mean = 0.5 * state["mean"] + 0.5 * margin.detach().mean()
        kept = rng.permutation(len(margin)) < len(margin) // 2
        self.diary.append((float(state["mean"]), kept.tolist()))
        values = -torch.nn.functional.logsigmoid((1 + mean) * margin) * torch.from_numpy(kept) * 2
        return values, {"mean": mean}


@pytest.mark.parametrize(
    ("kind", "packed"),
    [(Anchored, True), (Anchored, False), (AnchoredAlone, False), (Tails, True), (Remembering, False)],
)
def test_micro_batches_do_not_change_what_declared_inputs_do(kind: type[Plain], packed: bool, tmp_path: Path) -> None:
    whole, one = run(kind(), tmp_path, micro=8, steps=3, packed=packed)
    parts, two = run(kind(), tmp_path, micro=2, steps=3, packed=packed)
    assert difference(one, two) < 5e-5
    assert difference(one, model()) > 1e-3
    np.testing.assert_allclose(whole.log["loss"], parts.log["loss"], rtol=1e-5)
    np.testing.assert_allclose(whole.log["grad_norm"], parts.log["grad_norm"], rtol=1e-4)


def test_a_state_moves_once_a_step_alike_for_every_micro_batch_size(tmp_path: Path) -> None:
    whole, parts, again, other = Remembering(), Remembering(), Remembering(), Remembering()
    for loss, micro, seed in ((whole, 8, 0), (parts, 2, 0), (again, 8, 0), (other, 8, 1)):
        run(loss, tmp_path, micro=micro, steps=3, seed=seed)
    assert whole.diary == again.diary
    assert [kept for _, kept in whole.diary] == [kept for _, kept in parts.diary]
    assert [kept for _, kept in whole.diary] != [kept for _, kept in other.diary]
    np.testing.assert_allclose([mean for mean, _ in whole.diary], [mean for mean, _ in parts.diary], rtol=1e-4)
    assert whole.diary[0][0] == 0
    assert len({mean for mean, _ in whole.diary}) == 3


@pytest.mark.parametrize("micro", [8, 2])
def test_mismatches_are_evaluated_once_a_visit_without_gradient(micro: int, tmp_path: Path) -> None:
    loss = Anchored()
    trained, _ = run(loss, tmp_path, micro=micro, steps=2)
    assert len(loss.diary) == 2
    assert not any(pairs.kl.token.requires_grad for pairs in loss.diary)
    # two steps of 8 are an epoch of the 16 pairs
    assert trained.mismatched_tokens == sum(
        len(ids.prompt_ids) + len(other) for ids, other in zip(TOKENS, MISMATCHED, strict=True)
    )


def test_what_a_loss_does_not_declare_it_does_not_get(tmp_path: Path) -> None:
    loss = Plain()
    trained, _ = run(loss, tmp_path, micro=4)
    assert trained.mismatched_tokens == 0
    for pairs in loss.diary:
        assert (pairs.ref_chosen, pairs.ref_rejected, pairs.ref_tokens, pairs.kl, pairs.ref_kl) == (None,) * 5
        assert pairs.chosen.log_sum_sq is None
        assert pairs.columns == {}


def plain_logps(net: Any, prompt: Sequence[int], response: Sequence[int]) -> torch.Tensor:
    logp = net(torch.tensor([[*prompt, *response]])).logits.float().log_softmax(-1)[0]
    return torch.stack([logp[len(prompt) - 1 + i, token] for i, token in enumerate(response)]).detach()


@pytest.mark.parametrize("packed", [True, False], ids=["packed", "padded"])
def test_mismatched_log_probs_are_those_of_a_plain_forward_of_prompt_and_mismatch(packed: bool) -> None:
    data = TrainingData(pairs=PAIRS, tokens=TOKENS, reference=REFERENCE, columns={}, mismatched=MISMATCHED)
    inputs, net, oracle = LossInputs(Anchored(), data, "float32"), model(), model()
    if packed:
        use_packed_attention(net)
    indices = np.array([3, 14, 0])
    pairs = inputs.pair_logps(net, inputs.collated(indices), for_loss=True)
    assert pairs.kl is not None
    assert pairs.ref_kl is not None
    for row, index in enumerate(indices):
        expected = plain_logps(oracle, TOKENS[index].prompt_ids, MISMATCHED[index])
        torch.testing.assert_close(pairs.kl.token[row][pairs.kl.mask[row]], expected, rtol=1e-4, atol=1e-5)
        assert pairs.ref_kl[row].item() == pytest.approx(REFERENCE.mismatched[index])


@pytest.mark.parametrize(("batch_coupled", "micro"), [(True, 8), (True, 2), (False, 2)])
@pytest.mark.parametrize(
    ("how", "words"),
    [("detached", "loss 'broken' gave values without a gradient"), ("shape", r"loss 'broken' gave shape \(\)")],
)
def test_a_loss_that_cannot_be_trained_is_named(
    how: str, words: str, batch_coupled: bool, micro: int, tmp_path: Path
) -> None:
    kind = type("Broken", (Broken,), {"batch_coupled": batch_coupled})
    with pytest.raises(HarnessError, match=words):
        run(kind(how=how), tmp_path, micro=micro)


def test_a_coupled_loss_that_ignores_one_side_is_trained(tmp_path: Path) -> None:
    class Coupled(Broken):
        batch_coupled = True

    trained, _ = run(Coupled(how="fine"), tmp_path, micro=2)
    assert trained.status == "ok"


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
    first = next(Plan(batch_pairs=8, n_pairs=16, seed=0, steps=1).batches())
    inputs = LossInputs(loss, TrainingData(pairs=PAIRS, tokens=TOKENS, reference=None, columns={}), "float32")
    one_by_one = [loss(inputs.pair_logps(model(), inputs.collated(np.array([i])), for_loss=True)).item() for i in first]
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


@pytest.mark.parametrize(
    ("how", "words"), [("nan", "the loss is nan at step 1"), ("gradient", "gradient norm is .* at step 1")]
)
@pytest.mark.parametrize("batch_coupled", [True, False])
def test_what_is_not_finite_ends_the_cell_as_diverged_and_names_the_step(
    how: str, words: str, batch_coupled: bool, tmp_path: Path
) -> None:
    kind = type("Broken", (Broken,), {"batch_coupled": batch_coupled})
    trained, _ = run(kind(how=how), tmp_path, steps=3, micro=4)
    assert trained.status == "diverged"
    assert pd.Series([trained.reason]).str.contains(words, regex=True).all()


def test_a_prepared_column_of_the_wrong_length_is_named(tmp_path: Path) -> None:
    with pytest.raises(HarnessError, match="prepare gave 'half' of shape"):
        run(Broken(how="prepare"), tmp_path)


def test_missing_scores_are_said_where_a_loss_needs_them() -> None:
    unscored = [Pair(pair_id="0", prompt_id="0", context=PAIRS[0].context, chosen="a", rejected="b", score_chosen=1.0)]
    with pytest.raises(
        HarnessError, match="loss 'gappo' needs 'score_rejected' for every training pair, got it for 0 of 1"
    ):
        prepare_columns(RESOLVE("gappo", {}), unscored, TOKENS[:1], np.array([0]), None)
