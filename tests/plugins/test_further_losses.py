"""Losses against hand arithmetic, the code of older TRL versions, and each other.

Values "by TRL" come from the loss functions of the wheels trl 0.8.6 (`kto_pair`), 0.9.6 (`bco_pair`, `aot_pair`) and
0.12.2 (`apo_zero_unpaired`), run in float64 on the sums below.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from golden_records import RECORDS, pairs_of
from harness_plugins.alpha_dpo import AlphaDPO
from harness_plugins.aot_unpaired import AOTUnpaired
from harness_plugins.apo_zero_unpaired import APOZeroUnpaired
from harness_plugins.asft import ASFT
from harness_plugins.bco import BCO
from harness_plugins.cpo_hinge import CPOHinge
from harness_plugins.dpo import DPO
from harness_plugins.gamma_po import GammaPO
from harness_plugins.gappo import GapPO
from harness_plugins.kto_pair import KTOPair
from harness_plugins.mallows_dpo import MallowsDPO
from harness_plugins.mix import Mix
from harness_plugins.orpo import ORPO
from harness_plugins.rpo import RPO
from harness_plugins.rpo_gap import RPOGap
from harness_plugins.sampo import SamPO
from harness_plugins.sft import SFT
from harness_plugins.simper import SimPER
from harness_plugins.simpo import SimPO
from harness_plugins.tdpo import TDPO

from harness.api import HarnessError, Logps, Loss, PairLogps
from harness.api.checks.batches import logps
from harness.manager import plugin_manager, resolver

RESOLVE = resolver(plugin_manager())

CHOSEN, REJECTED = [-12.5, -30.25, -8.0, -21.0], [-15.0, -22.5, -9.5, -40.0]
REF_CHOSEN, REF_REJECTED = [-14.0, -28.0, -8.75, -20.0], [-13.0, -24.0, -9.0, -33.0]


def column(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def sums(chosen: list[float], rejected: list[float], **columns: list[float]) -> PairLogps:
    """Pairs of one-token responses with the references above: sums are all that the loss may read."""
    count = len(chosen)
    return PairLogps(
        chosen=logps([[value] for value in chosen]),
        rejected=logps([[value] for value in rejected]),
        ref_chosen=column(REF_CHOSEN[:count]),
        ref_rejected=column(REF_REJECTED[:count]),
        columns={name: column(values) for name, values in columns.items()},
    )


def step(loss: Loss, pairs: PairLogps, state: Mapping[str, torch.Tensor] | None = None, seed: int = 0) -> Any:
    return loss.step(pairs, loss.initial_state() if state is None else state, np.random.default_rng(seed))


def softplus(x: float) -> float:
    return math.log1p(math.exp(x))


# -- odds ----------------------------------------------------------------------------------------------------------
# mean log-probs -ln 2 and -ln 4: odds 1/1 and 1/3, so the log-odds are 0 and -ln 3
HALF_AND_QUARTER = PairLogps(
    chosen=logps([[-math.log(2), -math.log(2)]]), rejected=logps([[-math.log(2), -math.log(8), -math.log(4)]])
)


def test_asft_adds_the_log_of_both_odds_to_the_nll() -> None:
    # at beta 1: -log p_w = ln 2 and -log(1 - p_l) = -ln(3/4)
    loss = ASFT(weight=0.5)(HALF_AND_QUARTER)
    assert loss.item() == pytest.approx(math.log(2) + 0.5 * (math.log(2) - math.log(0.75)), rel=1e-12)


def test_asft_without_nll_scales_the_log_odds_by_beta() -> None:
    # -log sigmoid(3 * 0) - log sigmoid(3 * ln 3), where sigmoid(3 ln 3) = 27 / 28
    loss = ASFT(weight=1.0, beta=3.0, nll_weight=0.0)(HALF_AND_QUARTER)
    assert loss.item() == pytest.approx(math.log(2) - math.log(27 / 28), rel=1e-12)


def test_orpo_without_nll_scales_the_log_odds_ratio_by_beta() -> None:
    # sigmoid(2 * (0 + ln 3)) = 9 / 10
    loss = ORPO(weight=1.0, beta=2.0, nll_weight=0.0)(HALF_AND_QUARTER)
    assert loss.item() == pytest.approx(-math.log(0.9), rel=1e-12)


@pytest.mark.parametrize("reduction", ["sequence", "token"])
def test_orpo_weighs_its_nll(reduction: Any) -> None:
    whole, half = (ORPO(nll_weight=weight, nll_reduction=reduction).terms(HALF_AND_QUARTER) for weight in (1.0, 0.5))
    assert torch.equal(whole.preference, half.preference)
    assert half.auxiliary.item() == pytest.approx(0.5 * math.log(2), rel=1e-12)


@pytest.mark.parametrize("loss", [ASFT, ORPO])
def test_a_loss_of_odds_without_any_weight_is_refused(loss: Any) -> None:
    with pytest.raises(HarnessError, match="expected one of them above 0"):
        loss(weight=0.0, nll_weight=0.0)


# -- scores as targets ---------------------------------------------------------------------------------------------
# h = (-12.5 + 14) - (-15 + 13) = 3.5, so beta * h = 0.35; score gap 2 at eta 0.5: target 1
ONE_PAIR = sums(CHOSEN[:1], REJECTED[:1], score_chosen=[5.0], score_rejected=[3.0])


def kl(first: float, second: float) -> float:
    p, q = 1 / (1 + math.exp(-first)), 1 / (1 + math.exp(-second))
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


@pytest.mark.parametrize(
    ("form", "expected"),
    [("squared", (0.35 - 1.0) ** 2), ("kl-target", kl(1.0, 0.35)), ("kl-policy", kl(0.35, 1.0))],
)
def test_rpo_gap_is_the_distance_of_the_margin_to_the_scaled_score_gap(form: Any, expected: float) -> None:
    assert RPOGap(beta=0.1, eta=0.5, form=form)(ONE_PAIR).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("form", ["squared", "kl-target", "kl-policy"])
def test_rpo_gap_is_zero_where_the_margin_is_the_target(form: Any) -> None:
    pairs = sums(CHOSEN[:1], REJECTED[:1], score_chosen=[3.7], score_rejected=[3.0])  # 0.7 * 0.5 = 0.35
    assert RPOGap(beta=0.1, eta=0.5, form=form)(pairs).item() == pytest.approx(0, abs=1e-12)


# -- no reference --------------------------------------------------------------------------------------------------
def test_simper_is_the_difference_of_inverse_perplexities() -> None:
    assert SimPER()(HALF_AND_QUARTER).item() == pytest.approx(0.25 - 0.5, rel=1e-12)


def test_cpo_hinge_is_a_hinge_on_sums_and_the_mean_nll() -> None:
    # S_w = -2 ln 2, S_l = -6 ln 2: 1 - 0.1 * 4 ln 2; the NLL is ln 2 per token
    terms = CPOHinge(beta=0.1, nll_weight=0.5).terms(HALF_AND_QUARTER)
    assert terms.preference.item() == pytest.approx(1 - 0.4 * math.log(2), rel=1e-12)
    assert terms.auxiliary.item() == pytest.approx(0.5 * math.log(2), rel=1e-12)
    assert CPOHinge(beta=1.0).terms(HALF_AND_QUARTER).preference.item() == 0


@pytest.mark.parametrize(("name", "beta"), [("cpo_hinge_b0.1", 0.1), ("cpo_hinge_b1", 1.0)])
def test_the_hinge_of_cpo_hinge_has_trls_golden_values(name: str, beta: float) -> None:
    record = RECORDS[name]
    expected = record["expected"]["losses"]
    got = CPOHinge(beta=beta).terms(pairs_of(record, len(expected))).preference
    assert got.tolist() == pytest.approx(expected, rel=1e-10)


# -- values by TRL -------------------------------------------------------------------------------------------------
def test_kto_pair_is_the_mean_of_trls_two_examples() -> None:
    chosen = [0.4625701546562504, 0.5560138905446199, 0.48125878412146483, 0.52497918747894]
    rejected = [0.45016600268752205, 0.5374298453437496, 0.48750260351578967, 0.33181222783183384]
    expected = (column(chosen) + column(rejected)) / 2
    assert torch.allclose(KTOPair(beta=0.1)(sums(CHOSEN, REJECTED)), expected, rtol=1e-12)


def test_kto_pair_holds_its_baselines_constant() -> None:
    # both mean log-ratios are above 0 here: 1 and 2; s' = sigmoid * (1 - sigmoid)
    pairs = sums([-12.0, -28.0], [-12.0, -21.0])  # h_w = 2, 0; h_l = 1, 3
    pairs.chosen.token.requires_grad_(True)
    KTOPair(beta=0.1)(pairs).sum().backward()
    slopes = [-0.1 * s * (1 - s) / 2 for s in (1 / (1 + math.exp(-0.1 * (2 - h))) for h in (2.0, 0.0))]
    assert pairs.chosen.token.grad is not None
    assert pairs.chosen.token.grad.flatten().tolist() == pytest.approx(slopes, rel=1e-12)


def test_aot_unpaired_has_trls_values_by_rank() -> None:
    # TRL's come sorted by the chosen log-ratio, here 1.5, -2.25, 0.75, -1: ranks 3, 0, 2, 1
    by_rank = [0.48358908787082466, 0.6443966600735709, 0.6325990353171691, 0.6931471805599453]
    expected = column([by_rank[rank] for rank in (3, 0, 2, 1)])
    assert torch.allclose(AOTUnpaired(beta=0.1)(sums(CHOSEN, REJECTED)), expected, rtol=1e-12)


def test_apo_zero_unpaired_is_the_mean_of_trls_two_examples() -> None:
    chosen = [0.5550841855875005, 0.6672166686535439, 0.5775105409457578, 0.629975024974728]  # weight 1.2
    rejected = [0.36013280215001775, 0.4299438762749997, 0.3900020828126317, 0.2654497822654671]  # weight 0.8
    loss = APOZeroUnpaired(beta=0.1, desirable_weight=1.2, undesirable_weight=0.8)
    expected = (column(chosen) + column(rejected)) / 2
    assert torch.allclose(loss(sums(CHOSEN, REJECTED)), expected, rtol=1e-12)


def test_bco_with_a_running_shift_has_trls_values_in_two_steps() -> None:
    # TRL keeps the mean in float32: -0.1125 after the first step, by hand 0.1 * -9 / 8
    loss = BCO(beta=0.1, shift="running")
    first, state = step(loss, sums(CHOSEN, REJECTED))
    expected = [1.220839751815955, 1.5839642234106828, 1.3286706717275287, 1.1288518541340677]
    assert first.tolist() == pytest.approx(expected, rel=1e-7)
    assert state["mean"].item() == pytest.approx(-0.1125, rel=1e-12)
    later = sums([value * 0.9 for value in CHOSEN], [value * 1.1 for value in REJECTED])
    second, state = step(loss, later, state)
    expected = [1.0998527133692684, 1.3152891842244028, 1.2459230732155304, 0.9030810056464251]
    assert second.tolist() == pytest.approx(expected, rel=1e-7)
    assert state["count"].item() == 16


def test_bco_counts_every_response_alike_whatever_the_size_of_the_step() -> None:
    loss = BCO(beta=0.1, shift="running")
    _, state = step(loss, sums(CHOSEN[:3], REJECTED[:3]))
    whole = sums(CHOSEN, REJECTED)
    last = PairLogps(
        chosen=logps([[CHOSEN[3]]]), rejected=logps([[REJECTED[3]]]),
        ref_chosen=column(REF_CHOSEN[3:]), ref_rejected=column(REF_REJECTED[3:]),
    )  # fmt: skip
    _, state = step(loss, last, state)
    assert state["mean"].item() == pytest.approx(step(loss, whole)[1]["mean"].item(), rel=1e-12)


# -- alpha-dpo -----------------------------------------------------------------------------------------------------
# A_w = -1, -1, -2, A_l = -2, -1.5, -1: gaps 1, 0.5, -1; R_w / n = -1.5, -1, -1.5, R_l / n = -1.5, -2, -2: 0, 1, 0.5
# ratio gaps g = 1, -0.5, -1.5: mean -1/3, deviations 4/3, -1/6, -7/6, unbiased sd sqrt((64 + 1 + 49) / 36 / 2)
THREE = PairLogps(
    chosen=logps([[-0.5, -1.5], [-1.0], [-1.0, -2.0, -3.0]]),
    rejected=logps([[-2.0], [-1.0, -2.0], [-1.0, -1.0]]),
    ref_chosen=column([-3.0, -1.0, -4.5]),
    ref_rejected=column([-1.5, -4.0, -4.0]),
)
MEAN, SD = -1 / 3, math.sqrt(114 / 72)


def test_alpha_dpo_moves_simpos_target_by_the_standard_score_of_the_ratio_gap() -> None:
    expected = [
        softplus(-(2.0 * gap - (0.7 + 0.3 * (ratio - MEAN) / SD)))
        for gap, ratio in ((1.0, 1.0), (0.5, -0.5), (-1.0, -1.5))
    ]
    assert AlphaDPO(beta=2.0, gamma=0.7, alpha=0.3)(THREE).tolist() == pytest.approx(expected, rel=1e-12)


def test_alpha_dpo_with_running_statistics_starts_at_zero_as_the_authors_do() -> None:
    loss = AlphaDPO(beta=2.0, gamma=0.7, alpha=0.3, statistics="running")
    values, state = step(loss, THREE)
    assert (state["mean"].item(), state["sd"].item()) == pytest.approx((0.1 * MEAN, 0.1 * SD), rel=1e-12)
    assert values[0].item() == pytest.approx(softplus(-(2.0 - (0.7 + 0.3 * (1.0 - 0.1 * MEAN) / (0.1 * SD)))), rel=1e-9)
    _, state = step(loss, THREE, state)
    assert state["mean"].item() == pytest.approx(0.9 * 0.1 * MEAN + 0.1 * MEAN, rel=1e-12)


def test_the_target_of_alpha_dpo_has_no_gradient() -> None:
    THREE.chosen.token.requires_grad_(True)
    try:
        loss = AlphaDPO(beta=2.0, gamma=0.7, alpha=0.3)
        (gradient,) = torch.autograd.grad(loss(THREE)[0], THREE.chosen.token)
        slope = -2.0 / 2 * (1 - math.exp(-loss(THREE)[0].item()))  # beta / n_w * (sigmoid - 1), of its own pair alone
        assert gradient[0, :2].tolist() == pytest.approx([slope, slope], rel=1e-12)
        assert not gradient[1:].any()
    finally:
        THREE.chosen.token.requires_grad_(False)


def test_alpha_dpo_is_simpo_where_policy_and_reference_differ_in_the_last_digit() -> None:
    rng = np.random.default_rng(5)
    tokens = [[float(value) for value in -rng.uniform(0.1, 3, 40)] for _ in range(8)]
    chosen, rejected = logps(tokens[:4], torch.float32), logps(tokens[4:], torch.float32)
    higher, lower = torch.zeros(4), torch.full((4,), -1e9)
    pairs = PairLogps(
        chosen=chosen,
        rejected=rejected,
        ref_chosen=chosen.sum().nextafter(torch.stack([higher, lower]).T.flatten()[:4]),
        ref_rejected=rejected.sum().nextafter(higher),
    )
    simpo = SimPO(beta=2.0, gamma=0.7)(pairs)
    assert torch.equal(AlphaDPO(beta=2.0, gamma=0.7, alpha=0.3)(pairs), simpo)


def test_only_the_loss_of_alpha_dpo_reads_the_reference() -> None:
    loss = AlphaDPO()
    assert (loss.needs_reference, loss.reward_needs_reference) == (True, False)
    assert not GapPO(base=loss).reward_needs_reference
    assert not GammaPO(base=loss).needs_reference  # gamma-po reads its base's reward alone


# -- sampo ---------------------------------------------------------------------------------------------------------
def with_reference(chosen: Logps, rejected: Logps, ref_chosen: Logps, ref_rejected: Logps) -> PairLogps:
    return PairLogps(
        chosen=chosen, rejected=rejected, ref_chosen=ref_chosen.sum(), ref_rejected=ref_rejected.sum(),
        ref_tokens=(ref_chosen, ref_rejected),
    )  # fmt: skip


# log-ratios of the chosen tokens 1, 2, 4, 8; of the rejected ones 0.5, 0.25
FOUR_AND_TWO = with_reference(
    logps([[-1.0, -1.0, -1.0, -1.0]]), logps([[-1.0, -1.0]]),
    logps([[-2.0, -3.0, -5.0, -9.0]]), logps([[-1.5, -1.25]]),
)  # fmt: skip


def test_sampo_keeps_as_many_tokens_of_the_longer_response_each_once_and_alike() -> None:
    drawn = []
    for seed in range(600):
        value, _ = step(SamPO(beta=0.1), FOUR_AND_TWO, seed=seed)
        drawn.append(round(math.log(1 / math.expm1(value.item())) / 0.1 + 0.75, 6))  # h'_w, from the loss
    pairs_of_tokens = {3.0, 5.0, 9.0, 6.0, 10.0, 12.0}
    counts = {total: drawn.count(total) for total in sorted(set(drawn))}
    assert set(counts) == pairs_of_tokens
    assert all(60 <= count <= 140 for count in counts.values()), counts  # 100 each; sd 9


def test_sampo_of_equal_lengths_is_dpo() -> None:
    tokens = logps([[-1.0, -2.0], [-0.5, -1.5]]), logps([[-2.0, -1.0], [-3.0, -0.1]])
    pairs = with_reference(*tokens, logps([[-1.5, -1.0], [-0.7, -1.0]]), logps([[-1.0, -1.0], [-2.0, -0.3]]))
    assert torch.equal(SamPO(beta=0.2)(pairs), DPO(beta=0.2)(pairs))


def test_sampo_draws_anew_in_every_step() -> None:
    rng = np.random.default_rng(0)
    values = {SamPO().step(FOUR_AND_TWO, {}, rng)[0].item() for _ in range(30)}
    assert len(values) > 3


# -- whole distributions -------------------------------------------------------------------------------------------
def divergent(chosen: list[float], rejected: list[float]) -> PairLogps:
    """One pair of two tokens each with h = 3.5 and these token KLs."""
    mask = torch.ones(1, 2, dtype=torch.bool)
    return PairLogps(
        chosen=Logps(token=column([-6.0, -6.5])[None], mask=mask, token_kl=column(chosen)[None]),
        rejected=Logps(token=column([-7.0, -8.0])[None], mask=mask, token_kl=column(rejected)[None]),
        ref_chosen=column(REF_CHOSEN[:1]),
        ref_rejected=column(REF_REJECTED[:1]),
    )


def test_tdpo_takes_the_difference_of_the_summed_kls_off_the_margin() -> None:
    pairs = divergent([0.5, 0.25], [1.0, 2.0])  # K_w = 0.75, K_l = 3
    assert TDPO(beta=0.2, version=1)(pairs).item() == pytest.approx(softplus(-0.2 * (3.5 - 2.25)), rel=1e-12)
    expected = softplus(-0.2 * (3.5 - 0.5 * 2.25))
    assert TDPO(beta=0.2, alpha=0.5, version=2)(pairs).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("version", "over_chosen"), [(1, True), (2, False)])
def test_only_version_1_of_tdpo_has_a_gradient_in_the_kl_of_the_chosen_response(
    version: int, over_chosen: bool
) -> None:
    pairs = divergent([0.5, 0.25], [1.0, 2.0])
    sides = [pairs.chosen.token_kl, pairs.rejected.token_kl]
    assert sides[0] is not None
    assert sides[1] is not None
    loss = TDPO(beta=0.2, alpha=1.0, version=version)
    value = loss(
        dataclasses.replace(
            pairs,
            chosen=dataclasses.replace(pairs.chosen, token_kl=sides[0].requires_grad_(True)),
            rejected=dataclasses.replace(pairs.rejected, token_kl=sides[1].requires_grad_(True)),
        )
    )
    chosen, rejected = torch.autograd.grad(value.sum(), sides, allow_unused=True, materialize_grads=True)
    slope = 0.2 * (1 - math.exp(-value.item()))  # beta * sigmoid(-margin)
    assert rejected[0].tolist() == pytest.approx([slope, slope], rel=1e-12)
    assert chosen[0].tolist() == pytest.approx([-slope, -slope] if over_chosen else [0.0, 0.0], rel=1e-12)


def test_mallows_dpo_scales_the_margin_by_the_negative_log_of_the_mean_entropy() -> None:
    pairs = dataclasses.replace(sums(CHOSEN[:1], REJECTED[:1]), ref_entropy=(column([0.2]), column([0.3])))
    expected = softplus(-2.0 * math.log(4) * 0.1 * 3.5)  # h = 3.5; -log(0.25) = log 4
    assert MallowsDPO(beta=0.1, scale=2.0)(pairs).item() == pytest.approx(expected, rel=1e-12)


# -- mix -----------------------------------------------------------------------------------------------------------
def test_a_mix_of_dpo_and_sft_is_rpo() -> None:
    mixed, rpo = Mix(base=DPO(beta=0.2), other=SFT(), other_weight=0.3), RPO(beta=0.2, nll_weight=0.3)
    pairs = sums(CHOSEN, REJECTED)
    assert torch.allclose(mixed(pairs), rpo(pairs), rtol=1e-12)


def test_a_mix_weighs_both_losses_and_takes_the_reward_of_the_first() -> None:
    pairs = sums(CHOSEN, REJECTED)
    first, second = SimPO(beta=2.0), DPO(beta=0.2)
    mixed = Mix(base=first, other=second, weight=0.5, other_weight=3.0)
    assert torch.allclose(mixed(pairs), 0.5 * first(pairs) + 3.0 * second(pairs), rtol=1e-12)
    assert (mixed.needs_reference, mixed.reward_needs_reference, mixed.length_normalised) == (True, False, True)


def test_losses_in_a_mix_keep_columns_of_one_name_apart() -> None:
    plain = GapPO(base=SimPO(), power=1.0)
    squared = GapPO(base=SimPO(), power=2.0)
    table = pd.DataFrame({"score_chosen": [5.0, 3.0], "score_rejected": [1.0, 2.0]})
    nested = Mix(base=plain, other=Mix(base=squared, other=SFT(), other_weight=0.5), other_weight=2.0)
    columns = {name: torch.from_numpy(np.asarray(values)) for name, values in nested.prepare(table).items()}
    # gaps 4, 1: weights 4 / 2.5, 1 / 2.5; squared 16 / 8.5, 1 / 8.5
    assert columns["base.weight"].tolist() == pytest.approx([1.6, 0.4])
    assert columns["other.base.weight"].tolist() == pytest.approx([16 / 8.5, 1 / 8.5])
    scores = {name: column(table[name].tolist()) for name in table}
    pairs = PairLogps(chosen=logps([[-1.0], [-1.0]]), rejected=logps([[-2.0], [-1.2]]), columns={**columns, **scores})
    simpo, sft = SimPO()(pairs), SFT()(pairs)
    expected = columns["base.weight"] * simpo + 2.0 * (columns["other.base.weight"] * simpo + 0.5 * sft)
    assert torch.allclose(nested(pairs), expected, rtol=1e-12)


def test_a_mix_is_typed_like_any_loss_and_nests() -> None:
    options = {"base": "simpo", "base.beta": "5", "other": "mix", "other.base": "kto", "other.other_weight": "0.2"}
    loss = RESOLVE("mix", options)
    assert (loss.batch_coupled, loss.needs_kl, loss.needs_reference) == (True, True, True)
    assert RESOLVE("mix", loss.options()) == loss


@pytest.mark.parametrize("place", ["base", "other"])
def test_a_mix_refuses_a_loss_with_a_state(place: str) -> None:
    with pytest.raises(HarnessError, match="keeps a state between steps"):
        RESOLVE("mix", {place: "bco", f"{place}.shift": "running"})
