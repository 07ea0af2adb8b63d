"""The shipped losses: limits, weights, numerics and the options they refuse."""

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from harness_plugins.alphapo import AlphaPO
from harness_plugins.cpo import CPO
from harness_plugins.dpo import DPO
from harness_plugins.gapo import GaPO
from harness_plugins.gappo import GapPO
from harness_plugins.ipo import IPO
from harness_plugins.simpo import SimPO
from torch import Tensor

from harness.api import HarnessError, Logps, Loss, PairLogps, ResponseLogps

LOSSES: dict[str, Loss] = {
    "simpo": SimPO(),
    "cpo": CPO(label_smoothing=0.1),
    "cpo-token": CPO(nll_reduction="token"),
    "ipo": IPO(),
    "ipo-sum": IPO(reduction="sum"),
    "alphapo": AlphaPO(),
    "alphapo-below-0": AlphaPO(alpha=-0.25),
    "alphapo-steep": AlphaPO(alpha=2.0),
    "gapo": GaPO(),
    "gappo": GapPO(base=SimPO()),
    "gappo-cpo-batch": GapPO(base=CPO(), normalise="batch_mean", clip_max=3.0),
    "dpo": DPO(label_smoothing=0.1),
}


def completion(rows: list[list[float]], dtype: torch.dtype = torch.float64) -> Logps:
    mask = torch.arange(max(map(len, rows)))[None, :] < torch.tensor([len(row) for row in rows])[:, None]
    token = torch.zeros(mask.shape, dtype=dtype)
    token[mask] = torch.tensor([value for row in rows for value in row], dtype=dtype)
    return Logps(token=token, mask=mask)


def of_means(chosen: list[float], rejected: list[float], **columns: list[float]) -> PairLogps:
    return PairLogps(
        chosen=completion([[mean] * 3 for mean in chosen]),
        rejected=completion([[mean] * 5 for mean in rejected]),
        ref_chosen=torch.tensor([-3.5] * len(chosen), dtype=torch.float64),
        ref_rejected=torch.tensor([-4.5] * len(chosen), dtype=torch.float64),
        columns={name: torch.tensor(values, dtype=torch.float64) for name, values in columns.items()},
    )


def frame(score_chosen: list[float], score_rejected: list[float]) -> pd.DataFrame:
    texts = {"chosen": "a b c", "rejected": "a b d"}
    return pd.DataFrame({"score_chosen": score_chosen, "score_rejected": score_rejected}).assign(**texts)


def same(got: Tensor, expected: Tensor | list[float]) -> None:
    torch.testing.assert_close(got, torch.as_tensor(expected, dtype=got.dtype), rtol=1e-10, atol=1e-12)


def test_alphapo_tends_to_simpo_for_small_alpha_on_both_sides_of_the_switch() -> None:
    pairs, simpo = of_means([-0.8, -2.1], [-1.0, -0.4]), SimPO(beta=2.5, gamma=0.25)
    same(AlphaPO(alpha=0.0)(pairs), simpo(pairs))
    same(AlphaPO(alpha=9e-7)(pairs), simpo(pairs))
    torch.testing.assert_close(AlphaPO(alpha=2e-6)(pairs), simpo(pairs), rtol=1e-5, atol=0)
    torch.testing.assert_close(AlphaPO(alpha=-2e-6)(pairs), simpo(pairs), rtol=1e-5, atol=0)


def test_alphapo_ranks_responses_as_simpo_does_below_its_cap() -> None:
    mean = torch.linspace(-130.0, -0.01, 500)
    response = ResponseLogps(sum=mean * 7, length=torch.full((500,), 7.0), ref_sum=None)
    for alpha in (0.1, 0.25):
        assert bool((AlphaPO(alpha=alpha).reward(response).diff() > 0).all())


def test_the_two_nll_flavours_of_cpo_agree_on_equal_lengths_and_differ_on_unequal_ones() -> None:
    equal = of_means([-0.8, -2.1], [-1.0, -0.4])
    same(CPO(nll_reduction="token").terms(equal).auxiliary.mean(), CPO().terms(equal).auxiliary.mean())
    rows = [[-1.0] * 2, [-3.0] * 6]
    unequal = PairLogps(chosen=completion(rows), rejected=completion(rows))
    assert CPO().terms(unequal).auxiliary.mean().item() == pytest.approx((1 + 3) / 2)
    token = CPO(nll_reduction="token", nll_weight=0.5).terms(unequal).auxiliary.mean().item()
    assert token == pytest.approx(0.5 * (2 * 1 + 6 * 3) / 8)


def test_cpo_is_batch_coupled_with_the_token_mean_only() -> None:
    assert CPO(nll_reduction="token").batch_coupled
    assert not CPO().batch_coupled


def test_gappo_gives_the_check_vector_of_the_abstracts_weight() -> None:
    pairs = {"chosen": [-1.0, -1.0], "rejected": [-2.0, -1.2]}
    scores = frame([5.0, 3.0], [1.0, 2.0])
    base = SimPO(beta=2.0, gamma=1.0)
    first, second = math.log1p(math.exp(-1)), math.log1p(math.exp(0.6))  # .313262, 1.037488
    for normalise, weights in (("none", [4, 1]), ("dataset_mean", [1.6, 0.4]), ("batch_mean", [1.6, 0.4])):
        loss = GapPO(base=base, normalise=normalise)
        got = loss(of_means(**pairs, weight=list(loss.prepare(scores)["weight"])))
        same(got, [weights[0] * first, weights[1] * second])
    assert got.mean().item() == pytest.approx(0.458107, abs=1e-6)


@pytest.mark.parametrize("normalise", ["dataset_mean", "batch_mean"])
@pytest.mark.parametrize("base", [SimPO(), DPO(), CPO(), IPO(), CPO(nll_reduction="token")])
def test_gappo_with_equal_gaps_is_its_base(base: Loss, normalise: Any) -> None:
    loss = GapPO(base=base, normalise=normalise)
    weight = loss.prepare(frame([4.0, 2.0, 9.0], [1.0, 5.0, 6.0]))["weight"]  # the second pair contradicts its label
    pairs = of_means([-1.0, -2.0, -0.5], [-1.5, -0.2, -0.7], weight=list(weight))
    same(loss(pairs), base(pairs))


def test_gappo_weighs_the_preference_term_alone() -> None:
    base, columns = CPO(), {"weight": [0.0, 2.0]}
    pairs = of_means([-1.0, -2.0], [-1.5, -0.2], **columns)
    got, plain = GapPO(base=base).terms(pairs), base.terms(pairs)
    same(got.preference, plain.preference * torch.tensor([0.0, 2.0]))
    same(got.auxiliary, plain.auxiliary)


def test_a_tie_weighs_nothing_and_stays_in_the_mean() -> None:
    weight = GapPO(base=SimPO()).prepare(frame([5.0, 3.0, 2.0], [1.0, 3.0, 4.0]))["weight"]
    assert weight.tolist() == [2.0, 0.0, 1.0]


def test_power_and_clip_act_in_that_order_around_the_mean() -> None:
    loss = GapPO(base=SimPO(), power=2.0, clip_max=1.5)
    assert loss.prepare(frame([4.0, 2.0], [1.0, 1.0]))["weight"].tolist() == [1.5, 0.2]  # 9 and 1 over 5, clipped
    batch = GapPO(base=SimPO(), normalise="batch_mean", power=2.0, clip_max=1.5)
    pairs = of_means([-1.0, -1.0], [-1.0, -1.0], weight=list(batch.prepare(frame([4.0, 2.0], [1.0, 1.0]))["weight"]))
    same(batch(pairs) / SimPO()(pairs), [1.5, 0.2])


def test_a_step_of_ties_is_zero_under_the_batch_mean() -> None:
    pairs = of_means([-1.0, -2.0], [-1.5, -0.2], weight=[0.0, 0.0])
    assert GapPO(base=SimPO(), normalise="batch_mean")(pairs).tolist() == [0.0, 0.0]


def test_gappo_refuses_training_pairs_that_are_all_ties() -> None:
    with pytest.raises(HarnessError, match="whose two scores are equal"):
        GapPO(base=SimPO()).prepare(frame([2.0, 3.0], [2.0, 3.0]))


def test_gappo_has_the_traits_of_its_base() -> None:
    assert GapPO(base=DPO()).needs_reference
    assert not GapPO(base=SimPO()).needs_reference
    assert GapPO(base=CPO(nll_reduction="token")).batch_coupled
    assert GapPO(base=SimPO(), normalise="batch_mean").batch_coupled
    assert not GapPO(base=SimPO()).batch_coupled
    assert GapPO(base=SimPO()).needs_columns == ("score_chosen", "score_rejected")
    assert set(GapPO(base=DPO()).tuning_space()) == {"power", "base.beta"}


def test_gappo_over_gapo_keeps_the_margin_of_gapo() -> None:
    loss, scores = GapPO(base=GaPO()), frame([5.0, 3.0], [1.0, 2.0])
    columns = {name: list(values) for name, values in loss.prepare(scores).items()}
    assert set(columns) == {"weight", "margin", "clamped"}
    pairs = of_means([-1.0, -1.0], [-2.0, -1.2], **columns)
    same(loss(pairs), GaPO()(pairs) * torch.tensor([1.6, 0.4], dtype=torch.float64))


def test_gappo_refuses_a_base_that_prepares_a_weight_too() -> None:
    with pytest.raises(HarnessError, match="a column 'weight' of its own"):
        GapPO(base=GapPO(base=SimPO())).prepare(frame([5.0, 3.0], [1.0, 2.0]))


def test_a_reward_holds_no_weight_and_no_margin() -> None:
    response = ResponseLogps(sum=torch.tensor([-6.0]), length=torch.tensor([3.0]), ref_sum=torch.tensor([-9.0]))
    expected = {
        "simpo": 2 * -2.0,
        "gapo": 10 * -2.0,
        "gappo": 2 * -2.0,
        "cpo": 0.1 * -6.0,
        "gappo-cpo-batch": 0.1 * -6.0,
        "dpo": 0.1 * 3,
        "ipo": 0.1 * 3 / 3,
        "ipo-sum": 0.1 * 3,
        "alphapo": 2.5 * (1 - math.exp(0.5)) / 0.25,
    }
    for name, reward in expected.items():
        assert LOSSES[name].reward(response).item() == pytest.approx(reward, rel=1e-6), name


@pytest.mark.parametrize("name", LOSSES)
def test_the_gradient_is_the_one_of_finite_differences(name: str) -> None:
    rng = np.random.default_rng(7)
    lengths = [(4, 2), (1, 3), (3, 3)]
    sides = [completion([list(-rng.uniform(0.05, 2.0, pair[side])) for pair in lengths]) for side in (0, 1)]
    rest = of_means([0.0] * 3, [0.0] * 3, margin=[0.2, 0.1, 0.6], weight=[2.0, 0.0, 0.5])

    def value(chosen: Tensor, rejected: Tensor) -> Tensor:
        one, other = (
            Logps(token=torch.where(side.mask, token, 0.0), mask=side.mask)
            for side, token in zip(sides, (chosen, rejected), strict=True)
        )
        known = {"ref_chosen": rest.ref_chosen, "ref_rejected": rest.ref_rejected, "columns": rest.columns}
        return LOSSES[name](PairLogps(chosen=one, rejected=other, **known))

    assert torch.autograd.gradcheck(value, [side.token.clone().requires_grad_() for side in sides])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", LOSSES)
def test_values_and_gradients_are_finite_on_extreme_pairs(name: str, dtype: torch.dtype) -> None:
    long, short = [-3.5] * 8192, [-60.0] * 2
    rows = [long, short, [-50.0] * 200, [-1e-7] * 200, [-0.0], [-50.0] * 200]
    other = [short, long, [-1e-7] * 200, [-50.0] * 200, [-1e4], [-50.0] * 200]
    chosen, rejected = completion(rows, dtype), completion(other, dtype)
    ones = torch.ones(6, dtype=torch.float64)
    pairs = PairLogps(
        chosen=Logps(token=chosen.token.requires_grad_(), mask=chosen.mask),
        rejected=Logps(token=rejected.token.requires_grad_(), mask=rejected.mask),
        ref_chosen=torch.tensor([-3.25 * 8192, -0.002, -100, -100, -1, -1e4], dtype=torch.float64),
        ref_rejected=torch.tensor([-0.002, -3.25 * 8192, -100, -100, -1, -1], dtype=torch.float64),
        columns={"margin": 6.9 * ones, "weight": 9 * ones},
    )
    value = LOSSES[name](pairs)
    value.mean().backward()
    assert value.dtype == dtype
    assert bool(value.isfinite().all())
    for side in (pairs.chosen, pairs.rejected):
        assert side.token.grad is not None
        assert bool(side.token.grad.isfinite().all())
        assert math.isfinite(side.token.grad.norm().item())


def test_the_extreme_pair_costs_what_the_formula_says() -> None:
    pairs = PairLogps(
        chosen=completion([[-3.5] * 8192]),
        rejected=completion([[-60.0] * 2]),
        ref_chosen=torch.tensor([-3.25 * 8192], dtype=torch.float64),
        ref_rejected=torch.tensor([-0.002], dtype=torch.float64),
    )
    h = -0.25 * 8192 + 120 - 0.002  # -1928.002
    same(DPO()(pairs), [-0.1 * h])
    same(IPO()(pairs), [(-0.25 + 59.999 - 5) ** 2])  # 2997.45
    same(CPO(nll_weight=0.0)(pairs), [0.1 * (3.5 * 8192 - 120)])
    same(SimPO()(pairs), [math.log1p(math.exp(-(2 * 56.5 - 0.5)))])
    same(AlphaPO(alpha=2.0)(pairs), [0.0])  # a gap of e^120


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SimPO(beta=0.0), "beta got 0.0, expected a finite number above 0"),
        (lambda: SimPO(beta=float("nan")), "beta got nan"),
        (lambda: SimPO(beta=float("inf")), "beta got inf"),
        (lambda: SimPO(gamma=-0.1), "gamma got -0.1, expected a finite number of at least 0"),
        (lambda: DPO(label_smoothing=0.5), "label_smoothing got 0.5, expected a number of at least 0 and below 0.5"),
        (lambda: CPO(label_smoothing=-0.1), "label_smoothing got -0.1"),
        (lambda: CPO(nll_weight=-1.0), "nll_weight got -1.0"),
        (lambda: CPO(nll_reduction="batch"), "nll_reduction got 'batch', expected 'sequence' or 'token'"),
        (lambda: IPO(tau=-1.0), "tau got -1.0"),
        (lambda: IPO(reduction="none"), "reduction got 'none', expected 'mean' or 'sum'"),
        (lambda: AlphaPO(alpha=float("inf")), "alpha got inf"),
        (lambda: GaPO(floor=0.0), "floor got 0.0, expected a number above 0 and below 1"),
        (lambda: GaPO(similarity="bleu"), "similarity got 'bleu', expected one of jaccard, rouge1"),
        (lambda: GapPO(base=SimPO(), clip_max=0.0), "clip_max got 0.0, expected none or a finite number above 0"),
        (lambda: GapPO(base=SimPO(), power=0.0), "power got 0.0"),
        (lambda: GapPO(base=SimPO(), normalise="mean"), "normalise got 'mean'"),
        (lambda: GapPO(base="simpo"), "base got 'simpo', expected a Loss"),
    ],
)
def test_an_option_out_of_its_range_is_refused_with_what_was_expected(build: Any, message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        build()


@pytest.mark.parametrize("name", LOSSES)
def test_the_search_space_names_options_and_holds_values_that_the_loss_accepts(name: str) -> None:
    loss = LOSSES[name]
    assert loss.search_space
    for option, spread in loss.search_space.items():
        assert spread.low < spread.high
        for value in (spread.low, spread.high):
            assert getattr(type(loss)(**{**vars(loss), option: value}), option) == value
