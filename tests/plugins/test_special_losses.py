"""Losses that read more than two sums or remember: KTO, LD-DPO, beta-DPO, gamma-PO; and the special cases declared."""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from harness_plugins.alphapo import AlphaPO
from harness_plugins.beta_dpo import BetaDPO
from harness_plugins.cpo import CPO
from harness_plugins.dpo import DPO
from harness_plugins.gamma_po import GammaPO, margins
from harness_plugins.gapo import GaPO
from harness_plugins.gappo import GapPO
from harness_plugins.ipo import IPO
from harness_plugins.kto import KTO
from harness_plugins.ld_dpo import LDDPO
from harness_plugins.simpo import SimPO
from torch import Tensor

from harness.api import HarnessError, Logps, Loss, PairLogps, ResponseLogps
from harness.api.gradients import recording, replaying

GOLDEN = Path(__file__).parents[1] / "golden"
RECORDS = {
    record["name"]: record
    for name in ("trl", "official")
    for record in json.loads((GOLDEN / f"{name}.json").read_text())
}
NEW: dict[str, Loss] = {
    "kto": KTO(desirable_weight=1.2),
    "ld-dpo": LDDPO(),
    "beta-dpo": BetaDPO(),
    "gamma-po": GammaPO(base=SimPO()),
    "gamma-po-dpo": GammaPO(base=DPO(), gamma0=3.0),
}
SHIPPED: dict[str, type[Loss]] = {"simpo": SimPO, "dpo": DPO}


def tensor(values: Any) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def completion(rows: list[list[float]], dtype: torch.dtype = torch.float64) -> Logps:
    mask = torch.arange(max(map(len, rows)))[None, :] < torch.tensor([len(row) for row in rows])[:, None]
    token = torch.zeros(mask.shape, dtype=dtype)
    token[mask] = torch.tensor([value for row in rows for value in row], dtype=dtype)
    return Logps(token=token, mask=mask)


def of_sums(sums: Any) -> Logps:
    return completion([[float(value)] for value in sums])


def of_ratios(chosen: list[float], rejected: list[float], kl: list[float] | None = None) -> PairLogps:
    """Return pairs of one token a response whose summed log-ratios are the given ones."""
    ref = tensor([-100.0] * len(chosen))
    return PairLogps(
        chosen=of_sums(ref + tensor(chosen)),
        rejected=of_sums(ref + tensor(rejected)),
        ref_chosen=ref,
        ref_rejected=ref,
        kl=of_sums(ref + tensor(kl or [0.0] * len(chosen))),
        ref_kl=ref,
    )


def random_pairs(count: int = 6, seed: int = 3) -> PairLogps:
    rng = np.random.default_rng(seed)
    sides = [completion([list(-rng.uniform(0.1, 2.0, rng.integers(1, 9))) for _ in range(count)]) for _ in range(3)]
    noise = [0.3 * tensor(rng.normal(size=side.mask.shape)) for side in sides]
    refs = [Logps(token=side.token + side.mask * each, mask=side.mask) for side, each in zip(sides, noise, strict=True)]
    return PairLogps(
        chosen=sides[0],
        rejected=sides[1],
        kl=sides[2],
        ref_chosen=refs[0].sum(),
        ref_rejected=refs[1].sum(),
        ref_kl=refs[2].sum(),
        ref_tokens=(refs[0], refs[1]),
    )


def same(got: Tensor, expected: Any, rtol: float = 1e-10) -> None:
    torch.testing.assert_close(got, torch.as_tensor(expected, dtype=got.dtype), rtol=rtol, atol=1e-12)


def softplus(value: float) -> float:
    return math.log1p(math.exp(value))


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


# -- KTO -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["kto_b0.1", "kto_b0.1_kl_clamped"])
def test_kto_of_a_pair_is_the_mean_of_its_two_examples_in_trls_code(name: str) -> None:
    record = RECORDS[name]
    inputs, expected = record["inputs"], record["expected"]
    assert inputs["labels"] == [True, False] * 4
    policy, ref = np.array(inputs["policy_logps"]), np.array(inputs["ref_logps"])
    # TRL has a mismatched completion per example, we one per pair: only the mean over the step counts
    kl, ref_kl = (np.array(inputs[key]).reshape(4, 2).mean(1) for key in ("KL_policy_logps", "KL_ref_logps"))
    pairs = PairLogps(
        chosen=of_sums(policy[::2]),
        rejected=of_sums(policy[1::2]),
        ref_chosen=tensor(ref[::2]),
        ref_rejected=tensor(ref[1::2]),
        kl=of_sums(kl),
        ref_kl=tensor(ref_kl),
    )
    got = KTO()(pairs)
    np.testing.assert_allclose(got, np.array(expected["losses"]).reshape(4, 2).mean(1), rtol=1e-10, atol=1e-12)
    assert got.mean().item() == pytest.approx(expected["batch_mean"], rel=1e-10)
    response = ResponseLogps(sum=tensor(policy), length=torch.ones(8), ref_sum=tensor(ref))
    np.testing.assert_allclose(KTO().reward(response), expected["rewards"], rtol=1e-10, atol=1e-12)


def test_kto_weighs_the_two_sides_around_the_mean_of_the_step() -> None:
    pairs = of_ratios([2.0, -1.0], [1.0, 3.0], kl=[6.0, -2.0])  # z = (6 - 2) / 2 = 2
    got = KTO(beta=0.5, desirable_weight=3.0, undesirable_weight=2.0)(pairs)
    first = (3 * sigmoid(0.5 * (2 - 2)) + 2 * sigmoid(0.5 * (1 - 2))) / 2
    second = (3 * sigmoid(0.5 * (2 + 1)) + 2 * sigmoid(0.5 * (3 - 2))) / 2
    same(got, [first, second])


def test_the_baseline_of_kto_carries_no_gradient() -> None:
    pairs = of_ratios([2.0], [1.0], kl=[6.0])
    assert pairs.kl is not None
    pairs.kl.token.requires_grad_()
    assert not KTO()(pairs).requires_grad


# -- LD-DPO ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["ld_dpo_alpha0.5_b0.1", "ld_dpo_alpha0_b0.1"])
def test_ld_dpo_is_trls(name: str) -> None:
    record = RECORDS[name]
    sides = {
        f"{model}_{side}": completion(record["inputs"][f"{model}_{side}_token_logps"][:4])
        for model in ("policy", "ref")
        for side in ("chosen", "rejected")
    }
    pairs = PairLogps(
        chosen=sides["policy_chosen"],
        rejected=sides["policy_rejected"],
        ref_chosen=sides["ref_chosen"].sum(),
        ref_rejected=sides["ref_rejected"].sum(),
        ref_tokens=(sides["ref_chosen"], sides["ref_rejected"]),
    )
    got = LDDPO(beta=0.1, alpha=record["params"]["ld_alpha"])(pairs)
    np.testing.assert_allclose(got, record["expected"]["losses"], rtol=1e-10, atol=1e-12)


def test_ld_dpo_weighs_the_tail_of_the_longer_response_alone() -> None:
    pairs = PairLogps(
        chosen=completion([[-1.0, -2.0, -3.0]]),
        rejected=completion([[-0.5]]),
        ref_tokens=(completion([[-1.5, -1.0, -5.0]]), completion([[-0.75]])),
    )
    # chosen .5 + a * (-1 + 2), rejected .25
    same(LDDPO(beta=2.0, alpha=0.25)(pairs), [softplus(-2 * (0.5 + 0.25 * 1 - 0.25))])
    same(LDDPO(beta=2.0, alpha=0.0)(pairs), [softplus(-2 * 0.25)])


# -- beta-DPO --------------------------------------------------------------------------------------------------------
def test_beta_dpo_is_the_authors_code_where_all_pairs_are_picked() -> None:
    record = RECORDS["betadpo_b0.1_a0.6_all_selected"]
    inputs, expected = record["inputs"], record["expected"]
    policy = [inputs[f"policy_{side}_logps"] for side in ("chosen", "rejected")]
    refs = [tensor(inputs[f"ref_{side}_logps"]) for side in ("chosen", "rejected")]
    pairs = PairLogps(chosen=of_sums(policy[0]), rejected=of_sums(policy[1]), ref_chosen=refs[0], ref_rejected=refs[1])
    gaps = tensor(policy[0]) - refs[0] - tensor(policy[1]) + refs[1]
    # the record's averages are those the loss used: after the update .9 * before + .1 * batch
    wanted = {"mean": tensor(inputs["gap_mean"]), "std": tensor(inputs["gap_std"])}
    state = {
        "mean": (wanted["mean"] - 0.1 * gaps.mean()) / 0.9,
        "std": (wanted["std"] - 0.1 * gaps.std()) / 0.9,
    }
    got, after = BetaDPO(beta=0.1, a=0.6, mode_weight=0.0).step(pairs, state, np.random.default_rng(5))
    np.testing.assert_allclose(got, expected["losses"], rtol=1e-10, atol=1e-12)
    for key, value in wanted.items():
        same(after[key], value)
    response = ResponseLogps(sum=tensor(policy[0]), length=torch.ones(8), ref_sum=refs[0])
    np.testing.assert_allclose(BetaDPO().reward(response), expected["rewards_chosen"], rtol=1e-10, atol=1e-12)


def test_beta_dpo_updates_its_averages_before_the_loss() -> None:
    pairs = of_ratios([1.0, 3.0], [0.0, 0.0])
    loss = BetaDPO(beta=0.1, a=0.5, mode_weight=0.0, momentum=0.75)
    first, state = loss.step(pairs, loss.initial_state(), np.random.default_rng(0))
    # gaps 1, 3: mean 2, std sqrt(2); averages .25 of that; beta .1 * (1 + .5 * (2 - .5)) = .175
    same(state["mean"], 0.5)
    same(state["std"], 0.25 * math.sqrt(2))
    same(first, [softplus(-0.175 * 1), softplus(-0.175 * 3)])
    second, state = loss.step(pairs, state, np.random.default_rng(0))
    same(state["mean"], 0.75 * 0.5 + 0.25 * 2)  # .875; beta .1 * (1 + .5 * (2 - .875)) = .15625
    same(second, [softplus(-0.15625 * 1), softplus(-0.15625 * 3)])


def test_beta_dpo_keeps_beta_above_a_thousandth() -> None:
    got, _ = BetaDPO(a=1.0, mode_weight=0.0).step(
        of_ratios([-90.0], [0.0]), BetaDPO().initial_state(), np.random.default_rng(0)
    )
    same(got, [softplus(0.001 * 90)])


def test_dropped_pairs_cost_nothing_and_the_mean_is_that_of_the_picked() -> None:
    rng = np.random.default_rng(1)
    pairs = of_ratios(list(rng.normal(size=10)), [0.0] * 10)
    state = {"mean": tensor(0.0), "std": tensor(1.0)}
    loss = BetaDPO(a=0.0, mode_weight=0.35, momentum=0.0)
    got, _ = loss.step(pairs, state, np.random.default_rng(2))
    picked = got > 0
    assert picked.sum().item() == 6  # int(10 * .65)
    same(got.mean(), DPO()(pairs)[picked].mean())
    again, _ = loss.step(pairs, state, np.random.default_rng(2))
    assert torch.equal(got, again)


def test_pairs_are_picked_with_the_gaussian_weight_of_their_gap() -> None:
    loss, rng = BetaDPO(mode_weight=0.6), np.random.default_rng(0)  # int(3 * .4) = 1 of 3
    count, draws = np.zeros(3), 4000
    for _ in range(draws):
        count[loss._picked(np.array([0.0, 1.0, 2.0]), 1.0, rng).numpy()] += 1
    weight = np.exp([0.0, -0.5, -2.0])
    share = weight / weight.sum()
    assert np.all(np.abs(count / draws - share) < 4 * np.sqrt(share * (1 - share) / draws))


@pytest.mark.parametrize("gaps", [[2.0], [5.0, 5.0, 5.0], [0.0, 0.0], [1e4, -1e4, 3.0, 2e4, 1.0]])
def test_beta_dpo_stands_one_pair_equal_gaps_and_weights_that_underflow(gaps: list[float]) -> None:
    loss, pairs = BetaDPO(), of_ratios(gaps, [0.0] * len(gaps))
    state = loss.initial_state()
    for _ in range(3):
        got, state = loss.step(pairs, state, np.random.default_rng(0))
        assert bool(got.isfinite().all())
        assert bool((got > 0).any()) or max(gaps) >= 1e4
        assert all(bool(value.isfinite()) for value in state.values())


# -- gamma-PO --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["gammapo_solver_tau10_g04", "gammapo_solver_tau3_g03"])
def test_the_margins_and_losses_of_gamma_po_are_the_authors(name: str) -> None:
    record = RECORDS[name]
    gaps, gamma0, tau = record["inputs"]["reward_gaps"], record["params"]["gamma0"], record["params"]["tau"]
    expected = record["expected"]
    np.testing.assert_allclose(margins(tensor(gaps), gamma0, tau), expected["gamma"], rtol=1e-10, atol=1e-12)
    zeros = [0.0] * len(gaps)
    simpo, dpo = (
        GammaPO(base=SimPO(beta=1.0), gamma0=gamma0, tau=tau),
        GammaPO(base=DPO(beta=1.0), gamma0=gamma0, tau=tau),
    )
    np.testing.assert_allclose(simpo(of_ratios(gaps, zeros)), expected["simpo_losses"], rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(dpo(of_ratios(gaps, zeros)), expected["dpo_losses"], rtol=1e-10, atol=1e-12)


def test_margins_rise_with_the_gap_and_keep_their_mean() -> None:
    got = margins(tensor([-3.0, 0.0, 0.5, 4.0]), 2.0, 5.0)
    assert bool((got.diff() > 0).all())
    same(got.mean(), 2.0)


def test_margins_solve_the_problem_they_are_meant_to_solve() -> None:
    gaps, gamma0, tau = tensor([-1.0, 0.2, 2.0]), 0.5, 10.0
    share = (margins(gaps, gamma0, tau) / (gamma0 * 3)).requires_grad_()
    objective = torch.nn.functional.softplus(gamma0 * 3 * share - gaps).mean() + tau * (share * (3 * share).log()).sum()
    (slope,) = torch.autograd.grad(objective, share)
    assert (slope.max() - slope.min()).item() < 1e-4  # at an optimum on the simplex all slopes are equal


@pytest.mark.parametrize("gaps", [[-2e4, 2e4], [0.0], [2e4] * 3, [-1e4, 0.0, 5.0]])
@pytest.mark.parametrize(("gamma0", "tau"), [(0.375, 10.0), (100.0, 0.01), (0.0, 1.0), (5.0, 1e6)])
def test_margins_are_finite_and_not_negative_far_out(gaps: list[float], gamma0: float, tau: float) -> None:
    got = margins(tensor(gaps), gamma0, tau)
    assert bool(got.isfinite().all())
    assert got.min().item() >= 0
    same(got.mean(), gamma0)


def test_the_margin_of_gamma_po_carries_no_gradient() -> None:
    gaps = [-1.0, 0.5, 3.0]
    pairs = of_ratios(gaps, [0.0] * 3)
    pairs.chosen.token.requires_grad_()
    GammaPO(base=SimPO(beta=1.0), gamma0=3.0)(pairs).sum().backward()
    assert pairs.chosen.token.grad is not None
    held = margins(tensor(gaps), 3.0, 10.0)
    same(
        pairs.chosen.token.grad[:, 0], [-sigmoid(margin - gap) for margin, gap in zip(held.tolist(), gaps, strict=True)]
    )


def test_the_queue_fills_is_sampled_with_the_seed_and_forgets_the_oldest() -> None:
    loss = GammaPO(base=SimPO(beta=1.0), gamma0=3.0)
    state = loss.initial_state()
    assert state["queue"].shape == (0,)
    first = of_ratios([1.0, 2.0], [0.0, 0.0])
    plain, state = loss.step(first, state, np.random.default_rng(0))
    same(plain, loss(first))
    same(state["queue"], [1.0, 2.0])
    other = of_ratios([0.5], [0.0])
    solved = margins(tensor([0.5, 1.0, 2.0]), 3.0, 10.0)[:1]  # 2 past gaps are fewer than 255: all are taken
    got, state = loss.step(other, state, np.random.default_rng(0))
    same(got, [softplus(solved.item() - 0.5)])
    same(state["queue"], [1.0, 2.0, 0.5])
    long = {"queue": torch.linspace(-5, 5, 2048, dtype=torch.float64)}
    one, after = loss.step(other, long, np.random.default_rng(7))
    two, _ = loss.step(other, long, np.random.default_rng(7))
    three, _ = loss.step(other, long, np.random.default_rng(8))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)
    same(after["queue"], torch.cat([long["queue"][1:], tensor([0.5])]))


def test_a_step_of_more_pairs_than_are_solved_for_samples_nothing() -> None:
    loss, pairs = GammaPO(base=SimPO()), of_ratios([1.0, -1.0] * 150, [0.0] * 300)
    got, _ = loss.step(pairs, {"queue": tensor([50.0] * 9)}, np.random.default_rng(0))
    same(got, loss(pairs))


def test_gamma_po_takes_the_reward_of_its_base_and_nothing_else_of_it() -> None:
    loss = GammaPO(base=GapPO(base=CPO(nll_reduction="token")))
    assert loss.prepare(pd.DataFrame()) == {}
    assert loss.needs_columns == ()
    assert not loss.needs_reference
    assert GammaPO(base=DPO()).needs_reference
    assert not GammaPO(base=KTO()).needs_kl
    assert GammaPO(base=KTO()).comparison == "pairwise"
    assert GammaPO(base=SimPO()).length_normalised
    pairs = random_pairs()
    q = 0.1 * (pairs.chosen.sum() - pairs.rejected.sum())
    same(loss(pairs), torch.nn.functional.softplus(margins(q, 0.375, 10.0) - q))


@pytest.mark.parametrize(("gamma0", "tau"), [(0.375, 10.0), (4.0, 10.0), (3.0, 3.0), (5.0, 20.0), (1.4, 0.5)])
def test_a_larger_gap_costs_less_under_gamma_po_where_it_says_so(gamma0: float, tau: float) -> None:
    assert GammaPO(base=SimPO(), gamma0=gamma0, tau=tau).monotone
    rng = np.random.default_rng(0)
    for _ in range(20):
        gaps = tensor(rng.normal(scale=rng.choice([0.3, 3, 30]), size=int(rng.integers(1, 12))))
        more = gaps.clone()
        more[0] += rng.choice([0.01, 0.5, 5.0])
        before, after = (torch.nn.functional.softplus(margins(q, gamma0, tau) - q) for q in (gaps, more))
        assert after[0] <= before[0] + 1e-12
        assert after.mean() <= before.mean() + 1e-12


# -- for all of them -------------------------------------------------------------------------------------------------
def sides_of(pairs: PairLogps) -> list[Tensor]:
    return [side.token.detach().clone().requires_grad_() for side in (pairs.chosen, pairs.rejected)]


def with_tokens(pairs: PairLogps, chosen: Tensor, rejected: Tensor) -> PairLogps:
    fields = ("ref_chosen", "ref_rejected", "ref_tokens", "kl", "ref_kl", "columns")
    return PairLogps(
        chosen=Logps(token=chosen * pairs.chosen.mask, mask=pairs.chosen.mask),
        rejected=Logps(token=rejected * pairs.rejected.mask, mask=pairs.rejected.mask),
        **{name: getattr(pairs, name) for name in fields},
    )


LIMITED: list[Loss] = [
    *(LDDPO(), BetaDPO(), BetaDPO(beta=1e-4), GammaPO(base=SimPO(beta=2.5)), GammaPO(base=DPO(label_smoothing=0.1))),
    *(AlphaPO(alpha=-0.3), GaPO(), GaPO(margin_units="reward", normalise="none", similarity="jaccard")),
]


@pytest.mark.parametrize("loss", LIMITED, ids=lambda loss: loss.name)
def test_a_declared_special_case_is_the_other_loss_with_its_gradient(loss: Loss) -> None:
    frame = pd.DataFrame({"pair_id": range(6)})
    for limit in loss.limits:
        case = type(loss)(**{**vars(loss), **limit.options})
        other = SHIPPED[limit.equals].from_options(limit.equals_options)
        columns = case.prepare(frame.assign(**limit.columns)) if limit.columns else {}
        given = random_pairs()
        results = []
        for one in (case, other):
            chosen, rejected = sides_of(given)
            pairs = with_tokens(given, chosen, rejected)
            pairs = PairLogps(
                **{name: getattr(pairs, name) for name in ("chosen", "rejected", "ref_chosen", "ref_rejected")},
                ref_tokens=pairs.ref_tokens,
                columns={name: tensor(values) for name, values in columns.items()},
            )
            values = one(pairs)
            results.append((values, *torch.autograd.grad(values.sum(), [chosen, rejected])))
        for got, expected in zip(*results, strict=True):
            error = (got - limit.scale * expected).abs().max() / expected.abs().max()
            assert error.item() <= limit.tolerance
    assert loss.limits


@pytest.mark.parametrize("name", NEW)
def test_the_gradient_is_the_one_of_finite_differences_with_the_constants_held(name: str) -> None:
    pairs = random_pairs(3)
    with recording() as constants:
        NEW[name](pairs)

    def value(*tokens: Tensor) -> Tensor:
        with replaying(constants):
            return NEW[name](with_tokens(pairs, *tokens))

    assert torch.autograd.gradcheck(value, sides_of(pairs))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NEW)
def test_values_and_gradients_are_finite_on_extreme_pairs(name: str, dtype: torch.dtype) -> None:
    long, short, ref_long, ref_short = [-3.5] * 8192, [-60.0] * 2, [-3.25] * 8192, [-0.001] * 2
    rows, others = [long, short, [-50.0] * 200, [-1e-7], [-1e4]], [short, long, [-1e-7], [-50.0] * 200, [-1e-7]]
    refs = (
        completion([ref_long, ref_short, [-1e-7] * 200, [-1e4], [-1.0]], dtype),
        completion([ref_short, ref_long, [-1e4], [-1e-7] * 200, [-1e4]], dtype),
    )
    chosen, rejected, kl = completion(rows, dtype), completion(others, dtype), completion(others, dtype)
    chosen.token.requires_grad_()
    rejected.token.requires_grad_()
    pairs = PairLogps(
        chosen=chosen,
        rejected=rejected,
        ref_chosen=refs[0].sum(),
        ref_rejected=refs[1].sum(),
        ref_tokens=refs,
        kl=kl,
        ref_kl=refs[0].sum(),
    )
    value = NEW[name](pairs)
    value.mean().backward()
    assert value.dtype == dtype
    assert bool(value.isfinite().all())
    for side in (chosen, rejected):
        assert side.token.grad is not None
        assert math.isfinite(side.token.grad.norm().item())


def test_the_extreme_pair_costs_what_the_formulas_say() -> None:
    pairs = PairLogps(
        chosen=completion([[-3.5] * 8192]),
        rejected=completion([[-60.0] * 2]),
        ref_chosen=tensor([-3.25 * 8192]),
        ref_rejected=tensor([-0.002]),
        ref_tokens=(completion([[-3.25] * 8192]), completion([[-0.001] * 2])),
        kl=of_sums([-5.0]),
        ref_kl=tensor([-4.0]),
    )
    h_w, h_l = -0.25 * 8192, -119.998
    same(KTO()(pairs), [(1 + sigmoid(0.1 * h_l)) / 2])  # sigmoid(204.8) is 1
    same(LDDPO(alpha=0.5)(pairs), [-0.1 * (-0.25 * 2 - 0.25 * 0.5 * 8190 - h_l)])
    # one pair: M is a tenth of h, beta .1 * (1 + .6 * .9 * h) falls to its floor
    same(BetaDPO()(pairs), [softplus(-0.001 * (h_w - h_l))])
    same(GammaPO(base=DPO())(pairs), [-0.1 * (h_w - h_l)])  # one pair: its margin is the mean, gamma0


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: KTO(beta=0.0), "beta got 0.0, expected a finite number above 0"),
        (lambda: KTO(desirable_weight=-1.0), "desirable_weight got -1.0, expected a finite number above 0"),
        (lambda: KTO(undesirable_weight=math.inf), "undesirable_weight got inf"),
        (lambda: LDDPO(beta=-1.0), "beta got -1.0"),
        (lambda: LDDPO(alpha=1.5), "alpha got 1.5, expected a number from 0 to 1"),
        (lambda: BetaDPO(beta=math.nan), "beta got nan"),
        (lambda: BetaDPO(a=-0.1), "a got -0.1, expected a finite number of at least 0"),
        (lambda: BetaDPO(mode_weight=1.0), "mode_weight got 1.0, expected a number of at least 0 and below 1"),
        (lambda: BetaDPO(momentum=-0.5), "momentum got -0.5"),
        (lambda: GammaPO(base=SimPO(), gamma0=-1.0), "gamma0 got -1.0, expected a finite number of at least 0"),
        (lambda: GammaPO(base=SimPO(), tau=0.0), "tau got 0.0, expected a finite number above 0"),
        (lambda: GammaPO(base=BetaDPO()), "base got 'beta-dpo', which keeps a state between steps; choose another"),
    ],
)
def test_an_option_out_of_its_range_is_refused_with_what_was_expected(build: Any, message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        build()


def test_the_seven_losses_say_what_kind_they_are() -> None:
    normalised: Mapping[str, tuple[Loss, bool]] = {
        "simpo": (SimPO(), True),
        "alphapo": (AlphaPO(), True),
        "gapo": (GaPO(), True),
        "gappo": (GapPO(base=SimPO()), True),
        "gappo-dpo": (GapPO(base=DPO()), False),
        "dpo": (DPO(), False),
        "cpo": (CPO(), False),
        "ipo": (IPO(), True),
        "ipo-sum": (IPO(reduction="sum"), False),
    }
    for name, (loss, expected) in normalised.items():
        assert loss.length_normalised == expected, name
        assert loss.comparison == "pairwise", name
        assert loss.monotone == (not name.startswith("ipo")), name
        assert not loss.saturates, name
    assert KTO().comparison == "unpaired"


@pytest.mark.parametrize("build", [CPO, DPO])
def test_label_smoothing_makes_a_loss_turn_where_the_gap_is_too_sure(build: type[Loss]) -> None:
    loss = build.from_options({"beta": 1.0, "label_smoothing": 0.1})
    near, far = (loss.terms(of_ratios([gap], [0.0])).preference.item() for gap in (2.0, 20.0))
    assert far > near
    assert not loss.monotone


@pytest.mark.parametrize("alpha", [0.25, 0.5, 0.8, -0.25, -2.0])
def test_alphapo_saturates_where_a_misranked_pair_has_no_gradient(alpha: float) -> None:
    chosen, rejected = (completion([[mean]], torch.float32) for mean in (-50.0, -49.0))
    chosen.token.requires_grad_()
    rejected.token.requires_grad_()
    AlphaPO(alpha=alpha)(PairLogps(chosen=chosen, rejected=rejected)).sum().backward()
    assert chosen.token.grad is not None
    vanished = chosen.token.grad.abs().max().item() < 1e-30
    assert AlphaPO(alpha=alpha).saturates == vanished
