"""The shipped losses against numbers from TRL's and the authors' own code, and against GaPO's hand arithmetic."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from harness_plugins.alphapo import AlphaPO
from harness_plugins.cpo import CPO
from harness_plugins.dpo import DPO
from harness_plugins.gapo import MAPPINGS, GaPO
from harness_plugins.ipo import IPO
from harness_plugins.simpo import SimPO

from harness.api import Logps, Loss, PairLogps, ResponseLogps

GOLDEN = Path(__file__).parents[1] / "golden"
RECORDS = {
    record["name"]: record
    for name in ("trl", "official")
    for record in json.loads((GOLDEN / f"{name}.json").read_text())
}
GAPO = json.loads((GOLDEN / "gapo.json").read_text())
MAPPING = {"one_minus": "1-EF", "one_minus_square": "1-EF^2", "one_minus_sqrt": "1-sqrt(EF)", "log": "log(1/EF)"}
NORMALISE = {"none": "none", "add": "additive", "scale": "scaling"}

CASES: dict[str, Loss] = {
    "dpo_sigmoid_b0.1": DPO(beta=0.1),
    "dpo_sigmoid_b0.01": DPO(beta=0.01),
    "dpo_ipo_b0.1": IPO(tau=0.1),
    "cpo_sigmoid_b0.1": CPO(beta=0.1),
    "cpo_sigmoid_ls0.1_b0.1": CPO(beta=0.1, label_smoothing=0.1),
    "simpo_b2.5_g1.375": SimPO(beta=2.5, gamma=1.375),
    "simpo_b2_g1.6": SimPO(beta=2.0, gamma=1.6),
    "simpo_b10_g3": SimPO(beta=10.0, gamma=3.0),
    "alphapo_b2.5_g0.25_a0.25": AlphaPO(beta=2.5, gamma=0.25, alpha=0.25),
    "alphapo_b25_g0.1_a-0.25": AlphaPO(beta=25.0, gamma=0.1, alpha=-0.25),
    "em_dpo_b0.1": DPO(beta=0.1),
    "em_cdpo_b0.1_ls0.1": DPO(beta=0.1, label_smoothing=0.1),
    "em_ipo_SUMMED_b0.1": IPO(tau=0.1, reduction="sum"),
    "simpo_official_b2_gb0.8": SimPO(beta=2.0, gamma=2.0 * 0.8),
    "simpo_official_b2.5_gb0.1": SimPO(beta=2.5, gamma=2.5 * 0.1),
    "simpo_official_b2_gb0.5": SimPO(beta=2.0, gamma=2.0 * 0.5),
    "simpo_official_b2.5_gb0.55": SimPO(beta=2.5, gamma=2.5 * 0.55),
    "simpo_official_b10_gb0.3": SimPO(beta=10.0, gamma=10.0 * 0.3),
}


def logps(sums: list[float], lengths: list[int]) -> Logps:
    mask = torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
    each = torch.tensor(sums, dtype=torch.float64) / torch.tensor(lengths)
    return Logps(token=torch.where(mask, each[:, None], 0.0), mask=mask)


def sums_of(inputs: Mapping[str, Any], side: str) -> list[float]:
    if f"policy_{side}_logps" in inputs:
        return list(inputs[f"policy_{side}_logps"])
    return [mean * length for mean, length in zip(inputs[f"avg_{side}"], inputs[f"{side}_lengths"], strict=True)]


def pairs_of(inputs: Mapping[str, Any]) -> PairLogps:
    references = [inputs.get(f"ref_{side}_logps") for side in ("chosen", "rejected")]
    chosen, rejected = (None if sums is None else torch.tensor(sums, dtype=torch.float64) for sums in references)
    return PairLogps(
        chosen=logps(sums_of(inputs, "chosen"), inputs["chosen_lengths"]),
        # cpo_full gives no lengths of the rejected responses; a summed loss does not read them
        rejected=logps(sums_of(inputs, "rejected"), inputs.get("rejected_lengths", inputs["chosen_lengths"])),
        ref_chosen=chosen,
        ref_rejected=rejected,
    )


def reward_of(loss: Loss, inputs: Mapping[str, Any], side: str) -> np.ndarray:
    completion, reference = logps(sums_of(inputs, side), inputs[f"{side}_lengths"]), inputs.get(f"ref_{side}_logps")
    ref_sum = None if reference is None else torch.tensor(reference, dtype=torch.float64)
    response = ResponseLogps(sum=completion.sum(), length=completion.length(), ref_sum=ref_sum)
    return loss.reward(response).numpy()


@pytest.mark.parametrize("name", CASES)
def test_the_loss_of_each_pair_is_that_of_the_other_librarys_code(name: str) -> None:
    record, loss = RECORDS[name], CASES[name]
    got = loss.terms(pairs_of(record["inputs"])).preference
    assert got.dtype == torch.float64
    np.testing.assert_allclose(got.numpy(), record["expected"]["losses"], rtol=1e-10, atol=1e-12)


# dpo_ipo is left to the test below: TRL logs the summed reward even where it trains the averaged one
@pytest.mark.parametrize("name", [name for name in CASES if name != "dpo_ipo_b0.1"])
def test_the_reward_of_each_response_is_that_of_the_other_librarys_code(name: str) -> None:
    record, loss = RECORDS[name], CASES[name]
    for side in ("chosen", "rejected"):
        expected = record["expected"][f"rewards_{side}"]
        np.testing.assert_allclose(reward_of(loss, record["inputs"], side), expected, rtol=1e-10, atol=1e-12)


def test_averaged_ipo_divides_trls_summed_reward_by_the_length() -> None:
    record = RECORDS["dpo_ipo_b0.1"]
    for side in ("chosen", "rejected"):
        summed = np.array(record["expected"][f"rewards_{side}"])
        expected = summed / np.array(record["inputs"][f"{side}_lengths"])
        np.testing.assert_allclose(reward_of(IPO(tau=0.1), record["inputs"], side), expected, rtol=1e-10, atol=1e-12)


def test_cpo_with_the_token_mean_nll_is_trls_whole_batch_loss() -> None:
    record = RECORDS["cpo_full_b0.1_cpo_alpha1"]
    preference, auxiliary = CPO(nll_reduction="token").terms(pairs_of(record["inputs"]))
    assert auxiliary.mean().item() == pytest.approx(record["inputs"]["nll_token_mean_chosen"], rel=1e-10)
    assert (preference + auxiliary).mean().item() == pytest.approx(record["expected"]["loss"], rel=1e-10)


def test_no_golden_record_of_a_shipped_loss_is_left_out() -> None:
    ours = ("dpo_sigmoid_b", "dpo_ipo", "cpo_sigmoid", "cpo_full", "simpo", "alphapo", "em_")
    named = {name for name in RECORDS if name.startswith(ours)}
    assert named == {*CASES, "cpo_full_b0.1_cpo_alpha1"}


def gapo_texts(rows: int) -> pd.DataFrame:
    pairs = GAPO["pairs"][:rows]
    return pd.DataFrame(
        {side: [" ".join(pair[key]) for pair in pairs] for side, key in (("chosen", "y_w"), ("rejected", "y_l"))}
    )


@pytest.mark.parametrize("similarity", ["jaccard", "rouge1", "rouge2", "rougeL"])
def test_gapo_similarities_are_the_hand_counts(similarity: str) -> None:
    loss = GaPO(similarity=similarity, mapping="one_minus", normalise="none")
    margin = loss.prepare(gapo_texts(6))["margin"]
    np.testing.assert_allclose(1 - margin, GAPO["EF"][similarity], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("similarity", ["jaccard", "rouge1", "rouge2", "rougeL"])
def test_gapo_mappings_are_the_golden_ones(similarity: str, mapping: str) -> None:
    loss = GaPO(similarity=similarity, mapping=mapping, normalise="none")
    margin = loss.prepare(gapo_texts(6))["margin"]
    np.testing.assert_allclose(margin, GAPO["mapped"][similarity][MAPPING[mapping]], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("normalise", NORMALISE)
@pytest.mark.parametrize("mapping", MAPPINGS)
@pytest.mark.parametrize("similarity", ["jaccard", "rouge1", "rouge2", "rougeL"])
def test_gapo_normalised_margins_are_the_golden_ones(similarity: str, mapping: str, normalise: str) -> None:
    loss = GaPO(similarity=similarity, mapping=mapping, normalise=normalise, gamma=GAPO["gamma"])
    margin = loss.prepare(gapo_texts(3))["margin"]
    expected = GAPO["normalised"][similarity][MAPPING[mapping]][NORMALISE[normalise]]
    np.testing.assert_allclose(margin, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("units", "key"), [("ratio", "ratio_units_beta_times_margin"), ("reward", "literal_eq9_margin_not_times_beta")]
)
@pytest.mark.parametrize("normalise", NORMALISE)
def test_gapo_losses_are_the_golden_ones(normalise: str, units: str, key: str) -> None:
    loss, golden = GaPO(normalise=normalise, margin_units=units), GAPO["losses"]
    margin = torch.from_numpy(loss.prepare(gapo_texts(3))["margin"])
    chosen, rejected = (logps(golden[f"avg_logp_{side}"], [1, 1, 1]) for side in ("chosen", "rejected"))
    got = loss(PairLogps(chosen=chosen, rejected=rejected, columns={"margin": margin}))
    np.testing.assert_allclose(got.numpy(), golden[NORMALISE[normalise]][key], rtol=1e-10, atol=1e-12)
