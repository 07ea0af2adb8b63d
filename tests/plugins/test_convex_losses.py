"""GPO, BPO, RSO, EXO, DiscoPOP, f-DPO, DPO-norm and MADPO: golden records, hand counts, limits, extremes."""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from harness_plugins.bpo import BPO
from harness_plugins.cpo import CPO
from harness_plugins.discopop import DiscoPOP
from harness_plugins.dpo import DPO
from harness_plugins.dpo_norm import DPONorm
from harness_plugins.exo import EXO
from harness_plugins.f_dpo import FDPO
from harness_plugins.gpo import GPO
from harness_plugins.ipo import IPO
from harness_plugins.madpo import MADPO
from harness_plugins.rso import RSO
from torch import Tensor

from harness.api import HarnessError, Logps, Loss, PairLogps, ResponseLogps

KINDS = ("logistic", "hinge", "square", "exponential", "truncated_quadratic", "savage")
NAMED: dict[str, type[Loss]] = {"dpo": DPO, "ipo": IPO, "rso": RSO, "cpo": CPO}
GOLDEN = Path(__file__).parents[1] / "golden"
RECORDS = {
    record["name"]: record
    for name in ("trl", "official")
    for record in json.loads((GOLDEN / f"{name}.json").read_text())
}

CASES: dict[str, list[Loss]] = {
    "dpo_sigmoid_b0.1": [GPO(beta=0.1), RSO(gamma=0.1, kind="sigmoid_norm")],
    "dpo_hinge_b0.1": [GPO(beta=0.1, kind="hinge"), RSO(gamma=0.1)],
    "cpo_hinge_b0.1": [RSO(gamma=0.1, kind="hinge")],
    "cpo_hinge_b1": [RSO(gamma=1.0, kind="hinge")],
    "dpo_exo_pair_b0.1_eps1e-3": [EXO(beta=0.1, smoothing=1e-3)],
    "dpo_discopop_b0.05_tau0.05": [DiscoPOP(beta=0.05, temperature=0.05)],
    "dpo_sigmoid_norm_b5": [DPONorm(beta=5.0)],
    "dpo_fdiv_forward_kl_b0.1": [FDPO(beta=0.1), FDPO(beta=0.1, divergence="alpha", coefficient=0.0)],
    "dpo_fdiv_js_b0.1": [FDPO(beta=0.1, divergence="js")],
    "bpo_balance_logistic_b0.1": [BPO(beta=0.1, kind="logistic", adaptor=1.0)],
    "bpo_balance_hinge_b0.1": [BPO(beta=0.1, kind="hinge", adaptor=1.0)],
    "bpo_balance_square_minus_b0.1": [BPO(beta=0.1, kind="square", adaptor=1.0)],
    "bpo_balance_exponential_b0.1": [BPO(beta=0.1, kind="exponential", adaptor=1.0)],
    "bpo_balance_truncated_quadratic_b0.1": [BPO(beta=0.1, kind="truncated_quadratic", adaptor=1.0)],
    "bpo_balance_savage_b0.1": [BPO(beta=0.1, kind="savage", adaptor=1.0)],
    "bpo_balance_logistic_alpha_b0.1": [BPO(beta=0.1, kind="logistic", adaptor=0.3)],
}
OTHER_REWARD = ("dpo_sigmoid_norm", "dpo_fdiv")  # TRL logs beta * (S - R) there, which is not what it trains

EVERY: dict[str, Loss] = {
    **{f"gpo-{kind}": GPO(kind=kind) for kind in KINDS},
    **{f"bpo-{kind}": BPO(kind=kind) for kind in KINDS},
    **{f"rso-{kind}": RSO(kind=kind) for kind in ("hinge_norm", "hinge", "sigmoid_norm")},
    "exo": EXO(),
    "discopop": DiscoPOP(),
    "discopop-wide": DiscoPOP(temperature=3.0),
    **{f"f-dpo-{name}": FDPO(divergence=name) for name in ("forward_kl", "js", "alpha")},
    "f-dpo-reverse": FDPO(divergence="alpha", coefficient=1.0),
    "dpo-norm": DPONorm(),
    "madpo": MADPO(),
}


def logps(sums: list[float], lengths: list[int], dtype: torch.dtype = torch.float64) -> Logps:
    mask = torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
    each = torch.tensor(sums, dtype=dtype) / torch.tensor(lengths)
    return Logps(token=torch.where(mask, each[:, None], 0.0).requires_grad_(), mask=mask)


def pairs_of(inputs: Mapping[str, Any], dtype: torch.dtype = torch.float64, **columns: np.ndarray) -> PairLogps:
    references = (inputs.get(f"ref_{side}_logps") for side in ("chosen", "rejected"))
    chosen, rejected = (None if sums is None else torch.tensor(sums, dtype=dtype) for sums in references)
    return PairLogps(
        chosen=logps(inputs["policy_chosen_logps"], inputs["chosen_lengths"], dtype),
        rejected=logps(inputs["policy_rejected_logps"], inputs["rejected_lengths"], dtype),
        ref_chosen=chosen,
        ref_rejected=rejected,
        columns={name: torch.tensor(values, dtype=dtype) for name, values in columns.items()},
    )


def of_ratios(
    chosen: list[float], rejected: list[float], dtype: torch.dtype = torch.float64, *, weight: float = 1.0
) -> PairLogps:
    """Pairs whose summed log-ratios are those given: references of -20 and -30, 4 and 5 tokens."""
    inputs = {
        "policy_chosen_logps": [ratio - 20 for ratio in chosen],
        "policy_rejected_logps": [ratio - 30 for ratio in rejected],
        "ref_chosen_logps": [-20.0] * len(chosen),
        "ref_rejected_logps": [-30.0] * len(chosen),
        "chosen_lengths": [4] * len(chosen),
        "rejected_lengths": [5] * len(chosen),
    }
    return pairs_of(inputs, dtype, weight=np.full(len(chosen), weight))


def reward_of(loss: Loss, ratios: list[float], length: float = 4.0) -> list[float]:
    ratio = torch.tensor(ratios, dtype=torch.float64)
    lengths = torch.full_like(ratio, length)
    reward: list[float] = loss.reward(
        ResponseLogps(sum=ratio - 20, length=lengths, ref_sum=torch.full_like(ratio, -20.0))
    ).tolist()
    return reward


def gradients(loss: Loss, pairs: PairLogps) -> tuple[Tensor, Tensor, Tensor]:
    """Return the losses and their gradients by token, chosen and rejected."""
    value = loss(pairs)
    chosen, rejected = torch.autograd.grad(value.sum(), (pairs.chosen.token, pairs.rejected.token))
    return value, chosen, rejected


def close(got: Any, expected: Any, tolerance: float = 1e-10) -> None:
    np.testing.assert_allclose(np.asarray(got), np.asarray(expected), rtol=tolerance, atol=1e-12)


def frame(differences: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"score_chosen": [3.0 + each for each in differences], "score_rejected": 3.0})


@pytest.mark.parametrize(("name", "loss"), [(name, loss) for name, each in CASES.items() for loss in each])
def test_losses_and_rewards_are_those_of_the_other_librarys_code(name: str, loss: Loss) -> None:
    inputs, expected = RECORDS[name]["inputs"], RECORDS[name]["expected"]
    got = loss(pairs_of(inputs))
    assert got.dtype == torch.float64
    close(got.detach(), expected["losses"])
    for side in ("chosen", "rejected"):
        references = inputs.get(f"ref_{side}_logps")
        response = ResponseLogps(
            sum=torch.tensor(inputs[f"policy_{side}_logps"], dtype=torch.float64),
            length=torch.tensor(inputs[f"{side}_lengths"], dtype=torch.float64),
            ref_sum=None if references is None else torch.tensor(references, dtype=torch.float64),
        )
        if not name.startswith(OTHER_REWARD):
            close(loss.reward(response), expected[f"rewards_{side}"])


def test_f_dpo_with_alpha_is_trls_in_float32() -> None:
    record = RECORDS["dpo_fdiv_alpha0.5_b0.1_float32"]
    got = FDPO(beta=0.1, divergence="alpha", coefficient=0.5)(pairs_of(record["inputs"], torch.float32))
    assert got.dtype == torch.float32
    close(got.detach(), record["expected"]["losses"], 1e-5)


@pytest.mark.parametrize("name", [name for name in RECORDS if name.startswith("madpo")])
def test_madpo_weights_and_losses_are_the_authors(name: str) -> None:
    record = RECORDS[name]
    params = record["params"]
    loss = MADPO(
        beta=params["beta"], c_max=params["c_max"], slope=params["lambda_"], tau=params["tau"], margin_scale="raw"
    )
    assert params["c_min"] == 1 / params["c_max"]
    weight = loss.prepare(frame(record["inputs"]["reward_margin"]))["weight"]
    close(weight, record["expected"]["weights"])
    close(loss(pairs_of(record["inputs"], weight=weight)).detach(), record["expected"]["losses"])


def test_no_golden_record_of_these_losses_is_left_out() -> None:
    ours = ("dpo_hinge", "cpo_hinge", "dpo_exo", "dpo_discopop", "dpo_sigmoid_norm", "dpo_fdiv", "bpo_balance")
    named = {name for name in RECORDS if name.startswith(ours)}
    assert named == {*CASES, "dpo_fdiv_alpha0.5_b0.1_float32"} - {"dpo_sigmoid_b0.1"}


@pytest.mark.parametrize(
    ("kind", "expected"),
    [  # beta = 0.5 and h = 3 - 5 = -2: x = -1
        ("logistic", math.log(1 + math.e)),
        ("hinge", 1 + 1),
        ("square", (-1 - 1) ** 2),
        ("exponential", math.e),
        ("truncated_quadratic", (1 + 1) ** 2),
        ("savage", 1 / (1 + 1 / math.e) ** 2),
    ],
)
def test_gpo_by_hand(kind: Any, expected: float) -> None:
    close(GPO(beta=0.5, kind=kind)(of_ratios([3.0], [5.0])).item(), expected)


def test_gpo_hinges_are_zero_beyond_the_target_and_the_square_is_not() -> None:
    pairs = of_ratios([30.0], [-20.0])  # x = 0.1 * 50 = 5
    close([GPO(kind=kind)(pairs).item() for kind in ("hinge", "truncated_quadratic")], [0, 0])
    close(GPO(kind="square")(pairs).item(), (5 - 1) ** 2)


def test_bpo_takes_the_worse_of_the_two_by_hand() -> None:
    # beta 0.1, adaptor 0.3: rho = 0.1 * min(2, -0.3 * 5) = -0.15 and 0.1 * min(-4, -0.3 * 5) = -0.4
    pairs = of_ratios([2.0, -4.0], [5.0, 5.0])
    value, chosen, rejected = gradients(BPO(beta=0.1, kind="hinge", adaptor=0.3), pairs)
    close(value.detach(), [1.15, 1.4])
    close(chosen[:, 0], [0, -0.1])
    close(rejected[:, 0], [0.1 * 0.3, 0])


def test_rso_by_hand() -> None:
    pairs = of_ratios([3.0], [5.0])  # S: 3 - 20 = -17 and 5 - 30 = -25; h = -2
    close(RSO(gamma=0.05)(pairs).item(), 1 + 0.05 * 2)
    close(RSO(gamma=0.05, kind="hinge")(pairs).item(), 1 - 0.05 * (-17 + 25))
    close(RSO(gamma=0.05, kind="sigmoid_norm")(pairs).item(), math.log(1 + math.exp(0.1)))
    assert [RSO(kind=kind).needs_reference for kind in ("hinge_norm", "hinge", "sigmoid_norm")] == [True, False, True]
    close(
        RSO(gamma=0.05, kind="hinge").reward(
            ResponseLogps(sum=torch.tensor(-17.0), length=torch.tensor(4.0), ref_sum=None)
        ),
        -0.85,
        1e-6,
    )


def test_exo_by_hand() -> None:
    # beta 0.5, h = 2 ln 3: q = sigmoid(ln 3) = 3/4; e = 1/4 makes label and policy agree, e = 1/5 does not
    pairs = of_ratios([2 * math.log(3)], [0.0])
    close(EXO(beta=0.5, smoothing=0.25)(pairs).item(), 0.0)
    expected = 0.75 * math.log(0.75 / 0.8) + 0.25 * math.log(0.25 / 0.2)
    close(EXO(beta=0.5, smoothing=0.2)(pairs).item(), expected)


def test_exo_tends_to_its_two_ends() -> None:
    value = EXO(smoothing=0.001)(of_ratios([9000.0, -9000.0], [-9000.0, 9000.0]))
    close(value.detach(), [-math.log(0.999), -math.log(0.001)])


def test_discopop_by_hand() -> None:
    # beta 0.1, h = 10 ln 3: x = ln 3; temperature 1: m = 3/4, exp(-x) = 1/3, -log sigmoid(x) = ln(4/3)
    loss = DiscoPOP(beta=0.1, temperature=1.0)
    close(loss(of_ratios([10 * math.log(3)], [0.0])).item(), 0.25 * math.log(4 / 3) + 0.75 / 3)


def test_discopop_is_the_product_wherever_that_is_finite_and_the_logistic_loss_where_it_is_nan() -> None:
    x = torch.linspace(-700, 60, 500, dtype=torch.float64)
    pairs = of_ratios((x / 0.05).tolist(), [0.0] * len(x))
    for temperature in (0.02, 0.05, 0.7, 1.0):
        blend = torch.sigmoid(x / temperature)
        plain = (1 - blend) * torch.nn.functional.softplus(-x, threshold=1e9) + blend * torch.exp(-x)
        got = DiscoPOP(temperature=temperature)(pairs).detach()
        assert bool(plain.isfinite().all())
        torch.testing.assert_close(got, plain, rtol=1e-9, atol=1e-12)
    worse = DiscoPOP()(of_ratios([-16000.0], [2000.0]))  # x = -900: 0 * inf in TRL
    close(worse.item(), 900.0)


def test_discopop_dips_and_rises_around_its_start_as_documented() -> None:
    x = torch.linspace(-0.5, 0.5, 2001, dtype=torch.float64)
    slope = DiscoPOP(beta=1.0)(of_ratios(x.tolist(), [0.0] * len(x))).detach().diff()
    turns = x[1:-1][slope[1:] * slope[:-1] < 0]
    close(turns, [-0.12, 0.07], 0.05)
    assert not DiscoPOP().monotone


@pytest.mark.parametrize(
    ("options", "expected"),
    [  # h_w = ln 2, h_l = ln 3, beta = 1
        ({"divergence": "forward_kl"}, (1 - 1 / 2) - (1 - 1 / 3)),
        ({"divergence": "js"}, math.log(2 / 3) - math.log(3 / 4)),
        ({"divergence": "alpha", "coefficient": 0.0}, (1 - 1 / 2) - (1 - 1 / 3)),
        ({"divergence": "alpha", "coefficient": 0.5}, 2 * (1 - 2**-0.5) - 2 * (1 - 3**-0.5)),
        ({"divergence": "alpha", "coefficient": 1.0}, math.log(2 / 3)),
    ],
)
def test_f_dpo_by_hand(options: dict[str, Any], expected: float) -> None:
    got = FDPO(beta=1.0, **options)(of_ratios([math.log(2)], [math.log(3)])).item()
    close(got, math.log(1 + math.exp(-expected)))


@pytest.mark.parametrize("options", [{"divergence": "forward_kl"}, {"divergence": "js"}, {"divergence": "alpha"}])
def test_the_reward_of_f_dpo_is_what_it_trains_and_rises_with_the_log_ratio(options: dict[str, Any]) -> None:
    loss = FDPO(beta=0.3, **options)
    chosen, rejected = reward_of(loss, [0.7, -1.2])
    close(loss(of_ratios([0.7], [-1.2])).item(), math.log(1 + math.exp(rejected - chosen)))
    ratios = [-9000.0, -400.0, -100.0, -3.0, 0.0, 2.0, 30.0]
    rewards = reward_of(loss, ratios)
    assert rewards == sorted(set(rewards))
    assert all(map(math.isfinite, rewards))
    assert reward_of(loss, [0.0]) == [0.0]


def test_length_normalised_dpo_by_hand() -> None:
    loss = DPONorm(beta=5.0)
    close(loss(of_ratios([2.0], [-1.0])).item(), math.log(1 + math.exp(-5 * (2 / 4 + 1 / 5))))
    close(reward_of(loss, [2.0]), [5 * 2 / 4])
    assert loss.length_normalised


def test_madpo_by_hand() -> None:
    # tau 2, c = 1/2 + (3/2) / (1 + 2 exp(|H| - 2)); at |H| = 2 - ln 2: c = 1/2 + (3/2) / 2 = 5/4; at 0: w = 1
    margin = 2 - math.log(2)
    weight = MADPO(tau=2.0, margin_scale="raw").prepare(frame([margin, -margin, 0.0, 2.0, -2.0, -800.0, 800.0]))[
        "weight"
    ]
    up = (1 + math.exp(-margin)) / (1 + math.exp(-1.25 * margin))
    down = (1 + math.exp(margin)) / (1 + math.exp(1.25 * margin))
    close(weight, [up, down, 1, 1, 1, 1, 1])
    assert up > 1 > down
    close(MADPO(beta=0.5)(of_ratios([3.0], [5.0], weight=up)).item(), up * math.log(1 + math.e))


def test_madpo_dampens_beyond_tau_and_never_weighs_2() -> None:
    weight = MADPO(tau=2.0, margin_scale="raw").prepare(frame(np.linspace(2.01, 20, 50).tolist()))["weight"]
    assert (weight < 1).all()
    weight = MADPO(c_max=50.0, tau=6.0, margin_scale="raw").prepare(frame(np.linspace(-9, 9, 400).tolist()))["weight"]
    assert 1.5 < weight.max() < 2


def test_the_standard_scale_of_madpo_divides_by_the_spread_of_the_differences() -> None:
    differences = [1.0, 3.0, -1.0, 5.0]  # mean 2, squared deviations 1, 1, 9, 9: variance 5
    scaled = [each / math.sqrt(5) for each in differences]
    got = MADPO().prepare(frame(differences))["weight"]
    close(got, MADPO(margin_scale="raw").prepare(frame(scaled))["weight"])
    close(got, MADPO().prepare(frame([7 * each for each in differences]))["weight"])


@pytest.mark.parametrize("difference", [0.0, 0.1, -2.0])
def test_equal_score_differences_have_no_spread_and_weigh_1(difference: float) -> None:
    scores = np.array([1.3, 2.2, 4.7])  # the differences are equal but for rounding
    pairs = pd.DataFrame({"score_chosen": scores + difference, "score_rejected": scores})
    close(MADPO().prepare(pairs)["weight"], [1, 1, 1])


def test_madpo_writes_out_its_default_of_c_min() -> None:
    given = frame([-3.0, 0.5, 8.0])
    assert (MADPO(c_max=4.0, c_min=0.25).prepare(given)["weight"] == MADPO(c_max=4.0).prepare(given)["weight"]).all()
    assert (MADPO(c_max=4.0, c_min=0.5).prepare(given)["weight"] != MADPO(c_max=4.0).prepare(given)["weight"]).all()


@pytest.mark.parametrize("loss", [GPO(beta=0.3), RSO(gamma=0.3), FDPO(beta=0.3), MADPO(beta=0.3)])
def test_the_special_cases_are_what_they_say(loss: Loss) -> None:
    ratios = [3.0, -14.0, 0.5], [5.0, 2.5, -60.0]
    assert loss.limits
    for limit in loss.limits:
        special = replace(loss, **limit.options)
        scores = limit.columns or {"score_chosen": [4.0, 2.0, 1.0], "score_rejected": [1.0, 3.0, 1.0]}
        weight = special.prepare(pd.DataFrame({**scores}, index=range(3))).get("weight", np.ones(3))
        given = of_ratios(*ratios)
        given = replace(given, columns={"weight": torch.from_numpy(weight)})
        other = NAMED[limit.equals](**limit.equals_options)
        for got, expected in zip(gradients(special, given), gradients(other, given), strict=True):
            torch.testing.assert_close(got, limit.scale * expected, rtol=1e-9, atol=1e-12)


def extreme(dtype: torch.dtype, *, swapped: bool) -> PairLogps:
    """8192 tokens at -3.5 (reference -3.25) against 2 at -60 (reference -0.001); the first chosen unless swapped."""
    long = torch.full((1, 8192), -3.5, dtype=dtype, requires_grad=True)
    short = torch.full((1, 2), -60.0, dtype=dtype, requires_grad=True)
    sides = [
        (Logps(token=token, mask=torch.ones_like(token, dtype=torch.bool)), torch.tensor([reference], dtype=dtype))
        for token, reference in ((long, 8192 * -3.25), (short, 2 * -0.001))
    ]
    (chosen, ref_chosen), (rejected, ref_rejected) = reversed(sides) if swapped else sides
    weight = {"weight": torch.tensor([1.7], dtype=torch.float64)}
    return PairLogps(chosen=chosen, rejected=rejected, ref_chosen=ref_chosen, ref_rejected=ref_rejected, columns=weight)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", EVERY)
def test_value_and_gradient_are_finite_far_out(name: str, dtype: torch.dtype) -> None:
    far = [-9990.0, 9990.0, -9990.0, 9990.0, 0.0]
    cases = [extreme(dtype, swapped=swapped) for swapped in (False, True)]
    cases.append(of_ratios(far, [9990.0, -9990.0, -9990.0, 9990.0, 0.0], dtype, weight=1.7))
    for pairs in cases:
        value, chosen, rejected = gradients(EVERY[name], pairs)
        assert value.dtype == dtype
        for each in (value, chosen, rejected):
            assert bool(each.isfinite().all()), (value, chosen.flatten()[:2], rejected.flatten()[:2])
            assert bool(each.square().isfinite().all()) or each is value


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", EVERY)
def test_traits_tell_whether_the_gradient_vanishes_and_the_loss_turns(name: str, dtype: torch.dtype) -> None:
    loss = EVERY[name]
    misranked = of_ratios([-2000.0, -900.0, 800.0], [2000.0, 900.0, 900.0], dtype, weight=1.7)
    _, chosen, rejected = gradients(loss, misranked)
    pull = chosen.abs().sum(-1) + rejected.abs().sum(-1)
    if name != "rso-hinge":  # it reads S alone, and there the third pair is ranked right
        assert bool((pull > 1e-9).all()) != loss.saturates or name == "f-dpo-reverse"
    grid = torch.linspace(-300, 300, 4001, dtype=torch.float64).tolist()
    likelier = loss(of_ratios(grid, [-100.0] * len(grid), weight=1.7)).detach().diff()
    rejected_likelier = loss(of_ratios([100.0] * len(grid), grid, weight=1.7)).detach().diff()
    falls = bool((likelier <= 1e-12).all()) and bool((rejected_likelier >= -1e-12).all())
    assert falls == loss.monotone or name == "discopop-wide"  # the turns are gone at a temperature of 3


@pytest.mark.parametrize("loss", [GPO(kind="exponential"), BPO(kind="exponential"), DiscoPOP(temperature=3.0), FDPO()])
def test_beyond_the_cap_it_goes_on_as_the_tangent(loss: Loss) -> None:
    # the cap lies at an exponent of 0.4 * 709.8 = 283.9 in float64; f-DPO takes h itself, the others a part of it
    def slope(ratio: float) -> float:
        return gradients(loss, of_ratios([-ratio], [0.0]))[1].sum().item() / 4

    outermost = 283.9 * 40
    assert slope(outermost) == slope(outermost + 1000) < 0
    assert slope(1.0) != slope(2.0)


def test_the_exponential_is_exact_below_its_cap() -> None:
    pairs = of_ratios([-2800.0], [0.0])  # x = -280, beyond float32's range
    close(GPO(kind="exponential")(pairs).item(), math.exp(280))
    single = of_ratios([-300.0], [0.0], torch.float32)  # x = -30
    close(GPO(kind="exponential")(single).item(), math.exp(30), 1e-5)


@pytest.mark.parametrize("kind", [GPO, BPO, RSO, EXO, DiscoPOP, FDPO, DPONorm, MADPO])
@pytest.mark.parametrize("value", [0.0, -1.0, math.inf, math.nan])
def test_the_scale_must_be_a_finite_number_above_0(kind: type[Loss], value: float) -> None:
    option = "gamma" if kind is RSO else "beta"
    with pytest.raises(HarnessError, match=f"{option} got {value}, expected"):
        kind(**{option: value})


@pytest.mark.parametrize(
    ("loss", "option", "value"),
    [
        (GPO, "kind", "cubic"),
        (BPO, "kind", "cubic"),
        (BPO, "adaptor", 0.0),
        (BPO, "adaptor", 1.1),
        (BPO, "adaptor", math.nan),
        (RSO, "kind", "hinge-norm"),
        (EXO, "smoothing", 0.0),
        (EXO, "smoothing", 0.5),
        (DiscoPOP, "temperature", 0.0),
        (DiscoPOP, "temperature", math.inf),
        (FDPO, "divergence", "reverse_kl"),
        (FDPO, "coefficient", -0.1),
        (FDPO, "coefficient", 1.1),
        (MADPO, "c_max", 1.0),
        (MADPO, "c_min", 1.0),
        (MADPO, "c_min", 0.0),
        (MADPO, "slope", -1.0),
        (MADPO, "tau", -1.0),
        (MADPO, "tau", math.inf),
        (MADPO, "margin_scale", "minmax"),
    ],
)
def test_options_out_of_range_are_refused(loss: type[Loss], option: str, value: Any) -> None:
    with pytest.raises(HarnessError, match=f"{option} got '?{value}'?, expected"):
        loss(**{option: value})


@pytest.mark.parametrize("name", EVERY)
def test_options_survive_the_way_through_text(name: str) -> None:
    loss = EVERY[name]
    assert type(loss).from_options({option: str(value) for option, value in loss.options().items()}) == loss
