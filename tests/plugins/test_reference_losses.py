"""The losses on summed log-ratios to a reference beside DPO: golden records, hand counts, traits and extremes."""

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from harness_plugins.apo_down import APODown
from harness_plugins.apo_zero import APOZero
from harness_plugins.bco import BCO
from harness_plugins.cal_dpo import CalDPO
from harness_plugins.dpo import DPO
from harness_plugins.dpop import DPOP
from harness_plugins.nca import NCA
from harness_plugins.r_dpo import RDPO
from harness_plugins.robust_dpo import RobustDPO
from harness_plugins.rpo import RPO
from harness_plugins.sppo_hard import SPPOHard
from torch import Tensor

from harness.api import HarnessError, Logps, Loss, PairLogps, ResponseLogps

RECORDS = {
    record["name"]: record
    for name in ("trl", "official")
    for record in json.loads((Path(__file__).parents[1] / "golden" / f"{name}.json").read_text())
}
GOLDEN: dict[str, Loss] = {
    "dpo_robust_b0.1_eps0.1": RobustDPO(beta=0.1, flip=0.1),
    "dpo_nca_pair_b0.1": NCA(beta=0.1),
    "dpo_bco_pair_b0.1": BCO(beta=0.1),
    "dpo_sppo_hard_b0.1": SPPOHard(beta=0.1),
    "dpo_apo_zero_b0.1": APOZero(beta=0.1),
    "dpo_apo_down_b0.1": APODown(beta=0.1),
    "dpo_plus_sft_rpo_alpha1": RPO(beta=0.1, nll_weight=1.0),
    "dpop_lambda50_b0.1_from_BPO_repo": DPOP(beta=0.1, penalty=50.0),
}
DEFAULTS = [RobustDPO(), RDPO(), DPOP(), RPO(), CalDPO(), NCA(), BCO(), SPPOHard(), APOZero(), APODown()]
ALL = [*DEFAULTS, RPO(nll_reduction="token")]
NAMES = [f"{loss.name}-token" if loss.batch_coupled else loss.name for loss in ALL]


def logps(sums: Any, lengths: Any, dtype: torch.dtype = torch.float64) -> Logps:
    lengths = torch.as_tensor(lengths)
    mask = torch.arange(int(lengths.max()))[None, :] < lengths[:, None]
    each = torch.as_tensor(sums, dtype=torch.float64) / lengths
    return Logps(token=torch.where(mask, each[:, None], 0.0).to(dtype), mask=mask)


def pairs_of(
    chosen: Any, rejected: Any, lengths: Any = None, ref: Any = None, dtype: torch.dtype = torch.float64
) -> PairLogps:
    """Return pairs with summed log-probs `chosen` and `rejected`; lengths 2 and references 0 unless told."""
    zeros = [0.0] * len(chosen)
    first, second = lengths or ([2] * len(zeros), [2] * len(zeros))
    ref_chosen, ref_rejected = (torch.tensor(sums, dtype=dtype) for sums in (ref or (zeros, zeros)))
    return PairLogps(
        chosen=logps(chosen, first, dtype),
        rejected=logps(rejected, second, dtype),
        ref_chosen=ref_chosen,
        ref_rejected=ref_rejected,
    )


def inputs_of(name: str) -> list[list[list[Any]]]:
    """Return [chosen, rejected] each of the policy's sums, the lengths and the reference's sums of a golden record."""
    keys, inputs = ("policy_{}_logps", "{}_lengths", "ref_{}_logps"), RECORDS[name]["inputs"]
    return [[inputs[key.format(side)] for side in ("chosen", "rejected")] for key in keys]


def golden_pairs(name: str) -> PairLogps:
    policy, lengths, ref = inputs_of(name)
    return pairs_of(policy[0], policy[1], lengths, ref)


def same(got: Tensor, expected: Any) -> None:
    np.testing.assert_allclose(got.detach().numpy(), np.asarray(expected), rtol=1e-10, atol=1e-12)


def value_and_gradients(loss: Loss, pairs: PairLogps) -> tuple[Tensor, Tensor, Tensor]:
    sides = [Logps(token=one.token.clone().requires_grad_(), mask=one.mask) for one in (pairs.chosen, pairs.rejected)]
    value = loss(replace(pairs, chosen=sides[0], rejected=sides[1]))
    by_chosen, by_rejected = torch.autograd.grad(value.sum(), [side.token for side in sides])
    return value, by_chosen, by_rejected


@pytest.mark.parametrize("name", GOLDEN)
def test_the_loss_of_each_pair_is_that_of_the_other_librarys_code(name: str) -> None:
    same(GOLDEN[name](golden_pairs(name)), RECORDS[name]["expected"]["losses"])


@pytest.mark.parametrize("name", GOLDEN)
def test_the_reward_of_each_response_is_that_of_the_other_librarys_code(name: str) -> None:
    pairs = golden_pairs(name)
    for side, ref in (("chosen", pairs.ref_chosen), ("rejected", pairs.ref_rejected)):
        completion: Logps = getattr(pairs, side)
        response = ResponseLogps(sum=completion.sum(), length=completion.length(), ref_sum=ref)
        same(GOLDEN[name].reward(response), RECORDS[name]["expected"][f"rewards_{side}"])


def test_cal_dpo_gives_the_authors_values_of_calls_with_one_pair() -> None:
    record = RECORDS["caldpo_b0.01"]
    same(CalDPO(beta=0.01)(golden_pairs("caldpo_b0.01")), record["expected"]["losses_one_pair_calls"])


def test_rpo_with_the_token_mean_is_trls_loss_for_one_pair_and_over_a_batch() -> None:
    name, loss = "dpo_plus_sft_rpo_alpha1", RPO(nll_reduction="token")
    for row, expected in enumerate(RECORDS[name]["expected"]["losses"]):
        policy, lengths, ref = ([[side[row]] for side in sides] for sides in inputs_of(name))
        same(loss(pairs_of(policy[0], policy[1], lengths, ref)), [expected])
    tokens = [value for row in RECORDS[name]["inputs"]["policy_chosen_token_logps"][:4] for value in row]
    same(loss.terms(golden_pairs(name)).auxiliary.mean(), -sum(tokens) / 88)  # 30 + 30 + 20 + 8 tokens


# h_w = 1, h_l = -2, so h = 3; lengths 4 and 10; the policy's own sums are -3 and -7
HAND = {
    # beta h = .3, e = .2, 1 - 2 e = .6
    "robust-dpo": (
        RobustDPO(beta=0.1, flip=0.2),
        (0.8 * math.log1p(math.exp(-0.3)) - 0.2 * math.log1p(math.exp(0.3))) / 0.6,
    ),
    "r-dpo": (RDPO(beta=0.1, alpha=0.02), math.log1p(math.exp(-(0.3 + 0.02 * (4 - 10))))),  # logit .18
    "dpop": (DPOP(beta=0.1), math.log1p(math.exp(-0.3))),  # the chosen response lost nothing: DPO
    "rpo": (RPO(beta=0.1, nll_weight=0.5), math.log1p(math.exp(-0.3)) + 0.5 * 3 / 4),
    # t = 1 / (2 * .25) = 2: (1 - 2)^2 + (-2 + 2)^2 = 1
    "cal-dpo": (CalDPO(beta=0.25, cal_weight=0.5), math.log1p(math.exp(-3)) + 0.5),
    "nca": (
        NCA(beta=0.1),
        math.log1p(math.exp(-0.1)) + 0.5 * math.log1p(math.exp(0.1)) + 0.5 * math.log1p(math.exp(-0.2)),
    ),
    "bco": (BCO(beta=0.1), math.log1p(math.exp(-0.1)) + math.log1p(math.exp(-0.2))),
    "sppo-hard": (SPPOHard(beta=0.1), 16.0 + 9.0),  # t = 5: (1 - 5)^2 + (-2 + 5)^2
    "apo-zero": (APOZero(beta=0.1), 1 / (1 + math.exp(0.1)) + 1 / (1 + math.exp(0.2))),
    "apo-down": (APODown(beta=0.1), 1 / (1 + math.exp(-0.1)) + 1 / (1 + math.exp(0.3))),
}


@pytest.mark.parametrize("name", HAND)
def test_the_loss_is_the_hand_count(name: str) -> None:
    loss, expected = HAND[name]
    assert loss.name == name
    pairs = pairs_of([-3.0], [-7.0], lengths=([4], [10]), ref=([-4.0], [-5.0]))
    same(loss(pairs), [expected])


def test_the_reward_is_the_scaled_log_ratio_and_cal_dpos_is_unscaled() -> None:
    response = ResponseLogps(sum=torch.tensor([-6.0]), length=torch.tensor([3.0]), ref_sum=torch.tensor([-9.0]))
    for loss in DEFAULTS:
        scale = {"cal-dpo": 1.0, "dpop": 0.3}.get(loss.name, 0.1)
        assert loss.reward(response).item() == pytest.approx(3 * scale, rel=1e-6), loss.name


def test_dpops_penalty_is_inside_the_sigmoid_and_flat_where_training_starts() -> None:
    lost = pairs_of([-1.0], [-3.0])  # h = 2, the chosen response lost 1 nat: .3 * (2 - 5 * 1) = -.9
    same(DPOP(penalty=5.0)(lost), [math.log1p(math.exp(0.9))])
    start = pairs_of([-1.0], [-3.0], ref=([-1.0], [-3.0]))
    _, gradient, _ = value_and_gradients(DPOP(), start)
    same(gradient, [[-0.15, -0.15]])  # -beta / 2, without the fiftyfold penalty


def test_a_longer_chosen_response_gets_a_smaller_gradient_from_r_dpo() -> None:
    for chosen, rejected, smaller in ((9, 2, True), (2, 9, False)):
        pairs = pairs_of([-1.0], [-1.5], lengths=([chosen], [rejected]))
        ours, plain = (value_and_gradients(loss, pairs)[1].abs().max().item() for loss in (RDPO(), DPO()))
        assert (ours < plain) is smaller


def test_robust_dpo_is_unbiased_under_flips_and_falls_below_zero() -> None:
    right, wrong = pairs_of([4.0, 80.0], [1.0, 2.0]), pairs_of([1.0, 2.0], [4.0, 80.0])
    loss = RobustDPO(beta=0.2, flip=0.3)
    same(0.7 * loss(right) + 0.3 * loss(wrong), DPO(beta=0.2)(right))  # the mean over flips at that rate
    assert loss(right)[1].item() < 0


def test_bco_is_an_upper_bound_of_dpo() -> None:
    grid = list(itertools.product((-60.0, -5.0, 0.0, 2.0, 40.0), repeat=2))
    pairs = pairs_of([chosen for chosen, _ in grid], [rejected for _, rejected in grid])
    assert bool((BCO()(pairs) >= DPO()(pairs)).all())


@pytest.mark.parametrize("loss", ALL, ids=NAMES)
def test_the_declared_special_cases_are_dpo_in_value_and_gradient(loss: Loss) -> None:
    names = {"robust-dpo": "flip", "r-dpo": "alpha", "dpop": "penalty", "rpo": "nll_weight", "cal-dpo": "cal_weight"}
    assert [list(limit.options) for limit in loss.limits] == ([[names[loss.name]]] if loss.name in names else [])
    pairs = pairs_of([-3.0, 2.0], [-7.0, 2.5], lengths=([4, 3], [9, 1]), ref=([-4.0, 1.0], [-5.0, 1.5]))
    for limit in loss.limits:
        assert limit.equals == "dpo"
        special, dpo = replace(loss, **limit.options), DPO(**limit.equals_options)
        for got, expected in zip(value_and_gradients(special, pairs), value_and_gradients(dpo, pairs), strict=True):
            same(got, expected.detach())


def surface(loss: Loss) -> tuple[Tensor, Tensor, Tensor]:
    """Return dL/dh_w, dL/dh_l and L on a grid of (h_w, h_l), (n, n) each, for responses of one token."""
    ticks = torch.linspace(-900.0, 900.0, 91, dtype=torch.float64)
    chosen, rejected = (side.reshape(-1) for side in torch.meshgrid(ticks, ticks, indexing="ij"))
    ones = [1] * len(chosen)
    pairs = pairs_of(chosen.tolist(), rejected.tolist(), lengths=(ones, ones))
    value, by_chosen, by_rejected = value_and_gradients(loss, pairs)
    shape = (len(ticks), len(ticks))
    return by_chosen.reshape(shape), by_rejected.reshape(shape), value.detach().reshape(shape)


@pytest.mark.parametrize("loss", [*ALL, CalDPO(cal_weight=0.0)], ids=[*NAMES, "cal-dpo-0"])
def test_the_traits_say_what_the_gradient_does(loss: Loss) -> None:
    chosen, rejected, value = surface(loss)
    assert loss.monotone == bool((chosen <= 0).all() and (rejected >= 0).all())
    misranked = torch.ones_like(value).triu(1).bool()  # h_l above h_w
    strength = torch.maximum(chosen.abs(), rejected.abs())[misranked].min().item()
    assert (strength < 1e-9) == (loss.saturates and loss.name != "r-dpo")
    mixed = value[1:, 1:] - value[1:, :-1] - value[:-1, 1:] + value[:-1, :-1]  # 0 where the responses never meet
    assert (mixed.abs().max().item() < 1e-6) == (loss.comparison != "pairwise")
    assert not loss.length_normalised
    assert loss.needs_reference


def test_a_much_longer_chosen_response_hides_a_misranked_pair_from_r_dpo() -> None:
    pairs = pairs_of([-3.0], [-2.0], lengths=([8192], [1]))
    strength = [value_and_gradients(RDPO(alpha=alpha), pairs)[2].abs().max().item() for alpha in (0.01, 0.0)]
    assert strength[0] < 1e-30
    assert strength[1] > 0.05
    assert RDPO().saturates
    assert not RDPO(alpha=0.0).saturates


def test_nca_turns_at_a_chosen_reward_of_log_two() -> None:
    below, at, above = (
        value_and_gradients(NCA(), pairs_of([ratio], [0.0], lengths=([1], [1])))[1].item()
        for ratio in (6.8, 10 * math.log(2), 7.0)
    )
    assert below < 0 < above
    assert at == pytest.approx(0.0, abs=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("loss", ALL, ids=NAMES)
def test_values_and_gradients_are_finite_on_extreme_pairs(loss: Loss, dtype: torch.dtype) -> None:
    corners = list(itertools.product((-1e4, -1e-3), repeat=4))  # (policy, reference) x (chosen, rejected): h to +-2e4
    sums = [[corner[side] for corner in corners] for side in range(4)]
    lengths = ([200] * len(corners), [250] * len(corners))
    cases = [
        pairs_of([-3.5 * 8192], [-120.0], ([8192], [2]), ([-3.25 * 8192], [-0.002]), dtype),
        pairs_of([-120.0], [-3.5 * 8192], ([2], [8192]), ([-0.002], [-3.25 * 8192]), dtype),
        pairs_of(sums[0], sums[2], lengths, (sums[1], sums[3]), dtype),
    ]
    for pairs in cases:
        for got in value_and_gradients(loss, pairs):
            assert got.dtype == dtype
            assert bool(got.isfinite().all())


def test_the_extreme_pair_costs_what_the_formula_says() -> None:
    chosen, rejected, h = -0.25 * 8192, -119.998, -1928.002  # h_w = -2048, h_l, h = h_w - h_l
    pairs = pairs_of([-3.5 * 8192], [-120.0], ([8192], [2]), ([-3.25 * 8192], [-0.002]))
    expected = {
        "robust-dpo": -0.1 * h * 0.9 / 0.8,  # the flipped term is 0 to the last digit
        "r-dpo": -(0.1 * h + 0.01 * 8190),
        "dpop": -0.3 * (h + 50 * chosen),
        "rpo": -0.1 * h + 3.5,
        "cal-dpo": -h + 0.5 * ((chosen - 500) ** 2 + (rejected + 500) ** 2),
        "nca": -0.1 * chosen + 0.5 * math.log1p(math.exp(0.1 * rejected)),
        "bco": -0.1 * chosen + math.log1p(math.exp(0.1 * rejected)),
        "sppo-hard": (chosen - 5) ** 2 + (rejected + 5) ** 2,
        "apo-zero": 1 + 1 / (1 + math.exp(-0.1 * rejected)),
        "apo-down": 1.0,
    }
    for loss in DEFAULTS:
        same(loss(pairs), [expected[loss.name]])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: RobustDPO(flip=0.5), "flip got 0.5, expected a number of at least 0 and below 0.5"),
        (lambda: RobustDPO(flip=-0.1), "flip got -0.1"),
        (lambda: RDPO(alpha=-0.1), "alpha got -0.1, expected a finite number of at least 0"),
        (lambda: RDPO(alpha=math.inf), "alpha got inf"),
        (lambda: DPOP(penalty=-1.0), "penalty got -1.0, expected a finite number of at least 0"),
        (lambda: DPOP(penalty=math.nan), "penalty got nan"),
        (lambda: RPO(nll_weight=-1.0), "nll_weight got -1.0, expected a finite number of at least 0"),
        (lambda: RPO(nll_reduction="mean"), "nll_reduction got 'mean', expected 'sequence' or 'token'"),
        (lambda: CalDPO(cal_weight=-0.5), "cal_weight got -0.5, expected a finite number of at least 0"),
    ],
)
def test_an_option_out_of_its_range_is_refused_with_what_was_expected(build: Any, message: str) -> None:
    with pytest.raises(HarnessError, match=message):
        build()


@pytest.mark.parametrize("loss", DEFAULTS, ids=NAMES[:-1])
def test_a_beta_that_is_not_a_finite_number_above_0_is_refused(loss: Loss) -> None:
    options: list[dict[str, Any]] = [{"beta": beta} for beta in (0.0, -0.1, math.nan, math.inf)]
    for option in options:
        with pytest.raises(HarnessError, match=f"beta got {option['beta']}, expected a finite number above 0"):
            replace(loss, **option)
