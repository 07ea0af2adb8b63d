"""SFT, RRHF, SLiC-HF, ORPO, RePO, ODPO, WPO, AMaPO and AOT against other libraries' numbers and hand arithmetic."""

import functools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from harness_plugins.alphapo import AlphaPO
from harness_plugins.amapo import AMaPO
from harness_plugins.aot import AOT
from harness_plugins.cpo import CPO
from harness_plugins.dpo import DPO
from harness_plugins.gapo import GaPO
from harness_plugins.odpo import ODPO
from harness_plugins.orpo import ORPO
from harness_plugins.repo import RePO
from harness_plugins.rrhf import RRHF
from harness_plugins.sft import SFT
from harness_plugins.simpo import SimPO
from harness_plugins.slic_hf import SLiCHF
from harness_plugins.wpo import WPO
from torch import Tensor

from harness.api import HarnessError, Logps, Loss, PairLogps, ResponseLogps
from harness.api.gradients import recording, replaying

GOLDEN = Path(__file__).parents[1] / "golden"
RECORDS: dict[str, dict[str, Any]] = {
    record["name"]: record
    for name in ("trl", "official")
    for record in json.loads((GOLDEN / f"{name}.json").read_text())
}
LOSSES: dict[str, Loss] = {
    "sft": SFT(),
    "sft-token": SFT(nll_reduction="token"),
    "rrhf": RRHF(),
    "slic-hf": SLiCHF(),
    "orpo": ORPO(),
    "repo": RePO(),
    "odpo": ODPO(base=SimPO()),
    "odpo-dpo": ODPO(base=DPO()),
    "odpo-alphapo": ODPO(base=AlphaPO()),
    "odpo-cpo": ODPO(base=CPO()),
    "wpo": WPO(),
    "wpo-unclamped": WPO(clamp=False),
    "amapo": AMaPO(),
    "aot": AOT(),
}


def softplus(value: float) -> float:
    """Return -log sigmoid(-value)."""
    return math.log1p(math.exp(value))


def completion(rows: Sequence[Sequence[float]], dtype: torch.dtype = torch.float64) -> Logps:
    mask = torch.arange(max(map(len, rows)))[None, :] < torch.tensor([len(row) for row in rows])[:, None]
    token = torch.zeros(mask.shape, dtype=dtype)
    token[mask] = torch.tensor([value for row in rows for value in row], dtype=dtype)
    return Logps(token=token, mask=mask)


def of_sums(sums: Sequence[float], lengths: Sequence[int]) -> Logps:
    return completion([[total / length] * length for total, length in zip(sums, lengths, strict=True)])


def of_means(chosen: Iterable[float], rejected: Iterable[float], **columns: list[float]) -> PairLogps:
    """Chosen responses of 3 tokens, rejected ones of 5, reference sums -3.5 and -4.5."""
    return PairLogps(
        chosen=(side := completion([[mean] * 3 for mean in chosen])),
        rejected=completion([[mean] * 5 for mean in rejected]),
        ref_chosen=torch.full((len(side.token),), -3.5, dtype=torch.float64),
        ref_rejected=torch.full((len(side.token),), -4.5, dtype=torch.float64),
        columns={name: torch.tensor(values, dtype=torch.float64) for name, values in columns.items()},
    )


def of_record(inputs: Mapping[str, Any]) -> PairLogps:
    sides, references = [], []
    for side in ("chosen", "rejected"):
        if f"policy_{side}_logps" in inputs:
            sides.append(of_sums(inputs[f"policy_{side}_logps"], inputs[f"{side}_lengths"]))
        else:
            sides.append(completion([[mean] for mean in inputs.get(f"avg_{side}", inputs.get(f"fed_{side}"))]))
        reference = inputs.get(f"ref_{side}_logps")
        references.append(None if reference is None else torch.tensor(reference, dtype=torch.float64))
    return PairLogps(chosen=sides[0], rejected=sides[1], ref_chosen=references[0], ref_rejected=references[1])


def with_squares(pairs: PairLogps, chosen: Tensor, rejected: Tensor) -> PairLogps:
    """Pairs with log sum_v p(v)^2, (B,) constant over the tokens; the padding holds what must not be read."""
    sides = []
    for side, square in ((pairs.chosen, chosen), (pairs.rejected, rejected)):
        sides.append(replace(side, log_sum_sq=torch.where(side.mask, square[:, None].to(side.token), math.nan)))
    return replace(pairs, chosen=sides[0], rejected=sides[1])


def frame(score_chosen: list[float], score_rejected: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        {"score_chosen": score_chosen, "score_rejected": score_rejected, "chosen": "a", "rejected": "b"}
    )


def same(got: Tensor, expected: Tensor | Sequence[float]) -> None:
    torch.testing.assert_close(got, torch.as_tensor(expected, dtype=got.dtype), rtol=1e-10, atol=1e-12)


def gradients(loss: Loss, pairs: PairLogps) -> tuple[Tensor, Tensor]:
    """Return d(sum of the loss) / d(token log-prob) of both sides."""
    sides = [replace(side, token=side.token.clone().requires_grad_()) for side in (pairs.chosen, pairs.rejected)]
    loss(replace(pairs, chosen=sides[0], rejected=sides[1])).sum().backward()
    grads = [side.token.grad if side.token.grad is not None else torch.zeros_like(side.token) for side in sides]
    return grads[0], grads[1]


# ---- other libraries' numbers


@pytest.mark.parametrize(
    ("name", "loss", "key"),
    [
        ("rrhf_pair_rank_term", RRHF(), "losses"),
        ("cpo_hinge_b1", SLiCHF(delta=1.0), "losses"),
        ("orpo_or_term_b0.1", ORPO(weight=0.1), "or_loss_float64"),
        ("repo_g0.4", RePO(gamma=0.4), "losses"),
        ("amapo_b2", AMaPO(beta=2.0), "losses"),
        ("amapo_b2_positive_mean", AMaPO(beta=2.0), "losses"),
    ],
)
def test_the_preference_term_of_each_pair_is_that_of_the_other_librarys_code(name: str, loss: Loss, key: str) -> None:
    record = RECORDS[name]
    same(loss.terms(of_record(record["inputs"])).preference, record["expected"][key])


def test_sft_of_each_pair_is_trls_and_its_token_mean_is_the_batch_loss() -> None:
    inputs = RECORDS["dpo_sft_token_mean"]["inputs"]
    pairs = of_record(inputs)
    same(SFT()(pairs), RECORDS["dpo_sft_token_mean"]["expected"]["losses"])
    token_mean = -sum(inputs["policy_chosen_logps"]) / sum(inputs["chosen_lengths"])
    assert SFT(nll_reduction="token")(pairs).mean().item() == pytest.approx(token_mean, rel=1e-12)


def test_orpo_keeps_its_digits_at_both_ends_of_the_odds() -> None:
    record = RECORDS["orpo_log1mexp_edge"]
    got = ORPO(weight=0.1).terms(of_record(record["inputs"])).preference.numpy()
    np.testing.assert_allclose(got, record["expected"]["or_loss_float64"], rtol=1e-10, atol=1e-20)


def test_wpo_without_the_clamp_is_trls() -> None:
    record, sides = RECORDS["wpo_sigmoid_b0.01"], []
    for side in ("chosen", "rejected"):
        rows = record["inputs"][f"policy_{side}_token_logps"][:4]
        squares = completion(record["inputs"][f"{side}_log_sum_sq_probs"][:4]).token
        sides.append(replace(completion(rows), log_sum_sq=squares))
    pairs = replace(of_record(record["inputs"]), chosen=sides[0], rejected=sides[1])
    same(WPO(beta=0.01, clamp=False)(pairs), record["expected"]["losses"])


def test_wpo_with_given_weights_is_the_authors() -> None:
    record = RECORDS["wpo_official_b0.01"]
    pairs = of_record(record["inputs"])
    # a = mean - square: a_w = log w and a_l = 0 give the weight w
    weights = torch.tensor(record["inputs"]["policy_weights"], dtype=torch.float64)
    pairs = with_squares(pairs, pairs.chosen.mean() - weights.log(), pairs.rejected.mean())
    for clamp in (True, False):  # no weight of the record exceeds 1
        same(WPO(beta=0.01, clamp=clamp)(pairs), record["expected"]["losses"])


def test_the_weight_of_wpo_from_logits_is_the_authors() -> None:
    record = RECORDS["wpo_weight_from_logits"]
    logp = torch.tensor(record["inputs"]["logits"], dtype=torch.float64)[:, :-1].log_softmax(-1)
    label = torch.tensor(record["inputs"]["labels"])[:, 1:]
    mask = label != -100
    token = torch.where(mask, logp.gather(-1, label.clamp(min=0)[..., None])[..., 0], 0.0)
    square = (2 * logp).logsumexp(-1)
    same(token.sum(-1), record["expected"]["logps"])
    both = [Logps(token=token[rows], mask=mask[rows], log_sum_sq=square[rows]) for rows in (slice(2), slice(2, 4))]
    pairs = PairLogps(
        chosen=both[0], rejected=both[1], ref_chosen=both[0].sum(), ref_rejected=both[1].sum()
    )  # at the start every DPO value is log 2
    same(WPO()(pairs) / math.log(2), record["expected"]["weight"])


def test_aot_is_trls_whole_batch_mean() -> None:
    record = RECORDS["dpo_aot_b0.1"]
    pairs = of_record(record["inputs"])
    assert AOT()(pairs).mean().item() == pytest.approx(record["expected"]["batch_mean_9"], rel=1e-10)
    inputs = {name: values[:8] for name, values in record["inputs"].items()}
    assert AOT()(of_record(inputs)).mean().item() == pytest.approx(record["expected"]["batch_mean_first_8"], rel=1e-10)


# ---- by hand


def test_the_two_parts_of_the_hinges_are_the_hand_arithmetic() -> None:
    # A_w -1, -2; A_l -1.5, -0.2; S_w -3, -6; S_l -7.5, -1
    pairs = of_means([-1.0, -2.0], [-1.5, -0.2])
    rrhf = RRHF(nll_weight=0.5).terms(pairs)
    same(rrhf.preference, [0.0, 1.8])  # -1.5 + 1 < 0; -0.2 + 2
    same(rrhf.auxiliary, [0.5, 1.0])
    slic = SLiCHF(delta=5.0, nll_weight=0.1).terms(pairs)
    same(slic.preference, [0.5, 10.0])  # 5 + 3 - 7.5; 5 + 6 - 1
    same(slic.auxiliary, [0.1, 0.2])
    same(RePO(gamma=0.75)(pairs), [0.25, 2.55])  # 0.75 - 0.5; 0.75 + 1.8
    sft = SFT().terms(pairs)
    same(sft.preference, [0.0, 0.0])
    same(sft.auxiliary, [1.0, 2.0])


def test_orpo_is_the_hand_arithmetic_of_the_odds() -> None:
    # p_w = 1/2 and 1/5: odds 1 and 1/4; p_l = 1/4 and 1/2: odds 1/3 and 1; ratios 3 and 1/4
    pairs = of_means([math.log(0.5), math.log(0.2)], [math.log(0.25), math.log(0.5)])
    preference, auxiliary = ORPO(weight=2.0).terms(pairs)
    same(preference, [2 * math.log(4 / 3), 2 * math.log(5)])  # -log(r / (1 + r)): 3/4 and 1/5
    same(auxiliary, [math.log(2), math.log(5)])


@pytest.mark.parametrize("loss", [RRHF(nll_weight=0.5), SLiCHF(nll_weight=0.5), ORPO()])
def test_the_token_mean_weighs_long_answers_more(loss: Any) -> None:
    rows = [[-1.0] * 2, [-3.0] * 6]
    pairs, weight = PairLogps(chosen=completion(rows), rejected=completion(rows)), getattr(loss, "nll_weight", 1.0)
    assert loss.terms(pairs).auxiliary.mean().item() == pytest.approx(weight * (1 + 3) / 2)
    token = replace(loss, nll_reduction="token")
    assert token.terms(pairs).auxiliary.mean().item() == pytest.approx(weight * (2 * 1 + 6 * 3) / 8)
    assert token.batch_coupled
    assert not loss.batch_coupled


def test_the_offset_of_odpo_is_the_score_gap_over_the_mean_gap() -> None:
    # gaps 4, 0, -2: mean |gap| 2, offsets 0.5 * (2, 0, -1)
    loss = ODPO(base=SimPO(beta=2.0, gamma=9.0), scale=0.5)
    offset = loss.prepare(frame([5.0, 3.0, 2.0], [1.0, 3.0, 4.0]))["offset"]
    assert offset.tolist() == [1.0, 0.0, -0.5]
    got = loss(of_means([-1.0, -1.0, -1.0], [-2.0, -1.2, -1.5], offset=list(offset)))
    # 2 * 1 - 1; 2 * 0.2 - 0; 2 * 0.5 + 0.5; SimPO's own gamma of 9 is replaced
    same(got, [softplus(-1.0), softplus(-0.4), softplus(-1.5)])


def test_odpo_over_dpo_without_an_offset_is_dpo() -> None:
    pairs = of_means([-1.0, -2.0], [-1.5, -0.2], offset=[0.0, 0.0])
    assert not ODPO(base=DPO(), scale=0.0).prepare(frame([5.0, 3.0], [1.0, 2.0]))["offset"].any()
    same(ODPO(base=DPO(), scale=0.0)(pairs), DPO()(pairs))


def test_odpo_over_simpo_with_equal_gaps_has_its_scale_for_gamma() -> None:
    loss = ODPO(base=SimPO(), scale=1.25)
    offset = loss.prepare(frame([4.0, 2.0], [1.0, -1.0]))["offset"]
    pairs = of_means([-1.0, -2.0], [-1.5, -0.2], offset=list(offset))
    same(loss(pairs), SimPO(gamma=1.25)(pairs))
    for got, expected in zip(gradients(loss, pairs), gradients(SimPO(gamma=1.25), pairs), strict=True):
        same(got, expected)


def test_odpo_keeps_the_auxiliary_term_and_the_reward_of_its_base() -> None:
    pairs = of_means([-1.0, -2.0], [-1.5, -0.2], offset=[0.0, 1.0])
    preference, auxiliary = ODPO(base=CPO(beta=0.1, nll_weight=0.5)).terms(pairs)
    same(auxiliary, [0.5, 1.0])
    same(preference, [softplus(-0.1 * 4.5), softplus(0.1 * 5 + 1)])  # S_w - S_l = -3 + 7.5; -6 + 1
    response = ResponseLogps(sum=torch.tensor([-6.0]), length=torch.tensor([3.0]), ref_sum=torch.tensor([-9.0]))
    assert ODPO(base=DPO()).reward(response).item() == pytest.approx(0.1 * 3)


def test_odpo_has_the_needs_of_its_base() -> None:
    assert ODPO(base=DPO()).needs_reference
    assert ODPO(base=CPO(nll_reduction="token")).batch_coupled
    assert ODPO(base=SFT()).comparison == "pairwise"
    assert ODPO(base=SimPO()).needs_columns == ("score_chosen", "score_rejected")
    assert set(ODPO(base=GaPO()).prepare(frame([5.0, 3.0], [1.0, 2.0]))) == {"offset", "margin", "clamped"}


def test_odpo_refuses_ties_only_and_a_base_with_an_offset_of_its_own() -> None:
    with pytest.raises(HarnessError, match="whose two scores are equal"):
        ODPO(base=SimPO()).prepare(frame([2.0, 3.0], [2.0, 3.0]))
    with pytest.raises(HarnessError, match="a column 'offset' of its own"):
        ODPO(base=ODPO(base=SimPO())).prepare(frame([5.0, 3.0], [1.0, 2.0]))


def test_wpo_clamps_the_product_and_not_each_weight() -> None:
    # a_w = log 4 and a_l = log 1/2: the product 2 is clamped to 1; log 1/8 for a_l: 1/2, though the first exceeds 1
    pairs = of_means([-1.0, -1.0], [-1.5, -1.5])
    squares = torch.tensor([-1 - math.log(4.0)] * 2), torch.tensor([-1.5 + math.log(2.0), -1.5 + math.log(8.0)])
    pairs = with_squares(pairs, squares[0].double(), squares[1].double())
    for clamp, weights in ((True, [1.0, 0.5]), (False, [2.0, 0.5])):
        ratio = WPO(beta=0.1, clamp=clamp)(pairs) / DPO(beta=0.1)(pairs)
        torch.testing.assert_close(ratio, torch.tensor(weights, dtype=torch.float64), rtol=1e-6, atol=0)


def test_the_gradient_of_wpo_is_the_weight_times_that_of_dpo() -> None:
    pairs = of_means([-1.0, -2.0], [-1.5, -0.2])
    pairs = with_squares(pairs, pairs.chosen.mean() - math.log(0.25), pairs.rejected.mean())
    plain = replace(pairs, chosen=replace(pairs.chosen, log_sum_sq=None))
    for got, expected in zip(gradients(WPO(beta=0.1), pairs), gradients(DPO(beta=0.1), plain), strict=True):
        same(got, 0.25 * expected)


def test_an_exponent_that_no_softmax_reaches_is_capped() -> None:
    pairs = of_means([-1.0], [-1.5])
    pairs = with_squares(pairs, torch.tensor([-900.0]), torch.tensor([-900.0]))
    same(WPO(clamp=False)(pairs), DPO(beta=0.01)(pairs) * math.exp(30.0))


def test_amapo_gives_margins_to_the_pairs_below_the_mean() -> None:
    # d = 1, 0, 2: mean 1, unbiased deviation 1; only the second lags, by 1: m = 2 e^(1 * 1)
    pairs = of_means([-1.0, -1.0, -1.0], [-2.0, -1.0, -3.0])
    same(AMaPO(beta=2.0)(pairs), [softplus(-2.0), softplus(2 * math.e), softplus(-4.0)])


def test_amapo_holds_the_margin_constant() -> None:
    # d as above; the slope of the second pair is -beta * sigmoid(m) per nat of A_w, a third of it per token
    chosen, _ = gradients(AMaPO(beta=2.0), of_means([-1.0, -1.0, -1.0], [-2.0, -1.0, -3.0]))
    slopes = [-2 / (1 + math.exp(2.0)), -2 / (1 + math.exp(-2 * math.e)), -2 / (1 + math.exp(4.0))]
    same(chosen.sum(-1), slopes)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_amapo_without_a_spread_is_simpo_without_a_gap(dtype: torch.dtype) -> None:
    for chosen, rejected in (([[-1.0]], [[-2.0]]), ([[-1.1], [-2.7], [-30.3]], [[-1.4], [-3.0], [-30.6]])):
        pairs = PairLogps(chosen=completion(chosen, dtype), rejected=completion(rejected, dtype))
        torch.testing.assert_close(AMaPO(beta=2.0)(pairs), SimPO(beta=2.0, gamma=0.0)(pairs), rtol=0, atol=0)


def test_amapo_caps_its_exponent_and_keeps_the_full_gradient() -> None:
    # 128 pairs ahead by 40 and one behind: (mu - d) / sd * mu is about 11.3 * 39
    pairs = of_means([-1.0] * 129, [-41.0] * 128 + [-1.0])
    same(AMaPO(beta=2.0)(pairs)[-1:], [2.0 * math.exp(20.0)])
    assert gradients(AMaPO(beta=2.0), pairs)[0][-1].sum().item() == pytest.approx(-2.0)


def test_a_pair_of_aot_keeps_its_value_wherever_it_stands_in_the_step() -> None:
    # policy differences 1, -3, 2 against reference differences 5, 0, -2, sorted: -3 meets -2, 1 meets 0, 2 meets 5
    pairs = PairLogps(
        chosen=completion([[-1.0], [-4.0], [-1.0]]),
        rejected=completion([[-2.0], [-1.0], [-3.0]]),
        ref_chosen=torch.tensor([-1.0, -2.0, -3.0], dtype=torch.float64),
        ref_rejected=torch.tensor([-6.0, -2.0, -1.0], dtype=torch.float64),
    )
    expected = torch.tensor([softplus(-0.5 * 1), softplus(0.5 * 1), softplus(0.5 * 3)], dtype=torch.float64)
    same(AOT(beta=0.5)(pairs), expected)
    for order in ([2, 0, 1], [1, 0, 2], [2, 1, 0]):
        sides = [
            replace(side, token=side.token[order], mask=side.mask[order]) for side in (pairs.chosen, pairs.rejected)
        ]
        assert pairs.ref_chosen is not None
        assert pairs.ref_rejected is not None
        step = PairLogps(
            chosen=sides[0],
            rejected=sides[1],
            ref_chosen=pairs.ref_chosen[order],
            ref_rejected=pairs.ref_rejected[order],
        )
        same(AOT(beta=0.5)(step), expected[order])


def test_aot_of_one_pair_is_dpo() -> None:
    pairs = of_means([-1.0], [-1.5])
    same(AOT()(pairs), DPO()(pairs))
    for got, expected in zip(gradients(AOT(), pairs), gradients(DPO(), pairs), strict=True):
        same(got, expected)


# ---- declared special cases


@pytest.mark.parametrize("name", ["rrhf", "repo", "orpo", "odpo", "odpo-dpo"])
def test_a_declared_special_case_is_the_other_loss_with_its_gradient(name: str) -> None:
    rng, others = np.random.default_rng(3), {"repo": RePO, "simpo": SimPO, "sft": SFT, "dpo": DPO}
    loss = LOSSES[name]
    for limit in loss.limits:
        special = replace(loss, **limit.options)
        scores = pd.DataFrame({"score_chosen": rng.normal(size=16), "score_rejected": 0.0}).assign(**limit.columns)
        columns = {key: list(values) for key, values in special.prepare(scores).items()}
        pairs = of_means(-rng.uniform(0.1, 3.0, 16), -rng.uniform(0.1, 3.0, 16), **columns)
        other = others[limit.equals](**limit.equals_options)
        torch.testing.assert_close(special(pairs), limit.scale * other(pairs), rtol=0, atol=limit.tolerance)
        for got, expected in zip(gradients(special, pairs), gradients(other, pairs), strict=True):
            torch.testing.assert_close(got, limit.scale * expected, rtol=0, atol=limit.tolerance)


# ---- numerics, rewards, options


@functools.cache
def extremes(dtype: torch.dtype) -> PairLogps:
    rows = [[-3.5] * 8192, [-60.0] * 2, [-50.0] * 200, [-1e-7] * 200, [-0.0], [-50.0] * 200]
    other = [[-60.0] * 2, [-3.5] * 8192, [-1e-7] * 200, [-50.0] * 200, [-1e4], [-50.0] * 200]
    return PairLogps(
        chosen=completion(rows, dtype),
        rejected=completion(other, dtype),
        ref_chosen=torch.tensor([-3.25 * 8192, -0.002, -100, -100, -1, -1e4], dtype=torch.float64),
        ref_rejected=torch.tensor([-0.002, -3.25 * 8192, -100, -100, -1, -1], dtype=torch.float64),
        columns={"offset": torch.tensor([0.5, -0.5, 3.0, -3.0, 0.0, 0.5], dtype=torch.float64)},
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LOSSES)
def test_values_and_gradients_are_finite_on_extreme_pairs(name: str, dtype: torch.dtype) -> None:
    loss, pairs = LOSSES[name], extremes(dtype)
    squares = [torch.full((6,), square) for square in ((-12.0, 0.0) if loss.needs_log_sum_sq else (0.0,))]
    for each in [with_squares(pairs, square, square) for square in squares]:
        value = loss(each)
        assert value.dtype == dtype
        assert bool(value.isfinite().all())
        for gradient in gradients(loss, each):
            assert bool(gradient.isfinite().all())
            assert math.isfinite(gradient.norm().item())


def test_the_extreme_pair_costs_what_the_formula_says() -> None:
    pairs = PairLogps(
        chosen=completion([[-3.5] * 8192]),
        rejected=completion([[-60.0] * 2]),
        ref_chosen=torch.tensor([-3.25 * 8192], dtype=torch.float64),
        ref_rejected=torch.tensor([-0.002], dtype=torch.float64),
        columns={"offset": torch.tensor([2.0], dtype=torch.float64)},
    )
    h, d = -0.25 * 8192 + 120 - 0.002, 56.5
    same(SFT()(pairs), [3.5])
    same(RRHF()(pairs), [3.5])
    same(SLiCHF()(pairs), [1 + 3.5 * 8192 - 120 + 0.1 * 3.5])
    same(ORPO()(pairs) - 3.5, [0.1 * math.exp(-d) * (1 - math.exp(-3.5))])
    same(RePO()(pairs), [0.0])
    same(ODPO(base=DPO())(pairs), [-0.1 * h + 2.0])
    same(AOT()(pairs), [-0.1 * h])
    same(AMaPO()(pairs), [math.exp(-2 * d)])


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_is_the_one_of_finite_differences_with_constants_held(name: str) -> None:
    rng, loss = np.random.default_rng(7), LOSSES[name]
    lengths = [(4, 2), (1, 3), (3, 3)]
    sides = [completion([list(-rng.uniform(0.05, 2.0, pair[side])) for pair in lengths]) for side in (0, 1)]
    rest = replace(of_means([0.0] * 3, [0.0] * 3, offset=[0.2, 0.0, -0.6]), chosen=sides[0], rejected=sides[1])
    square = torch.full((3,), -1.0)
    with recording() as constants:
        loss(with_squares(rest, square, square))

    def value(chosen: Tensor, rejected: Tensor) -> Tensor:
        tokens = zip(sides, (chosen, rejected), strict=True)
        one, other = (replace(side, token=torch.where(side.mask, token, 0.0)) for side, token in tokens)
        with replaying(constants):
            return loss(with_squares(replace(rest, chosen=one, rejected=other), square, square))

    assert torch.autograd.gradcheck(value, [side.token.clone().requires_grad_() for side in sides])


def test_a_reward_holds_no_margin_and_no_weight() -> None:
    response = ResponseLogps(sum=torch.tensor([-6.0]), length=torch.tensor([3.0]), ref_sum=torch.tensor([-9.0]))
    averaged = dict.fromkeys(("sft", "rrhf", "orpo", "repo"), -2.0)
    expected = {**averaged, "slic-hf": -6.0, "odpo": 2 * -2.0, "wpo": 0.01 * 3, "amapo": 2 * -2.0, "aot": 0.1 * 3}
    for name, reward in expected.items():
        assert LOSSES[name].reward(response).item() == pytest.approx(reward, rel=1e-6), name


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SFT(nll_reduction="batch"), "nll_reduction got 'batch', expected 'sequence' or 'token'"),
        (lambda: RRHF(nll_weight=-1.0), "nll_weight got -1.0, expected a finite number of at least 0"),
        (lambda: RRHF(nll_reduction="sum"), "nll_reduction got 'sum'"),
        (lambda: SLiCHF(delta=0.0), "delta got 0.0, expected a finite number above 0"),
        (lambda: SLiCHF(nll_weight=float("inf")), "nll_weight got inf"),
        (lambda: SLiCHF(nll_reduction="sum"), "nll_reduction got 'sum'"),
        (lambda: ORPO(weight=float("nan")), "weight got nan, expected a finite number of at least 0"),
        (lambda: ORPO(nll_reduction="sum"), "nll_reduction got 'sum'"),
        (lambda: RePO(gamma=-0.1), "gamma got -0.1, expected a finite number of at least 0"),
        (lambda: ODPO(base=SimPO(), scale=-1.0), "scale got -1.0, expected a finite number of at least 0"),
        (lambda: ODPO(base="simpo"), "base got 'simpo', expected a Loss"),
        (lambda: WPO(beta=0.0), "beta got 0.0, expected a finite number above 0"),
        (lambda: AMaPO(beta=float("inf")), "beta got inf, expected a finite number above 0"),
        (lambda: AOT(beta=-1.0), "beta got -1.0, expected a finite number above 0"),
    ],
)
def test_an_option_out_of_its_range_is_refused_with_what_was_expected(build: Any, message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        build()


@pytest.mark.parametrize("name", LOSSES)
def test_the_search_space_names_options_and_holds_values_that_the_loss_accepts(name: str) -> None:
    loss = LOSSES[name]
    for option, spread in loss.search_space.items():
        for value in (spread.low, spread.high):
            assert getattr(replace(loss, **{option: value}), option) == value
