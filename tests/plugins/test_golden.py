"""The losses against values computed by other libraries' code; `golden_records.py` says which record is which loss."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from golden_records import ELSEWHERE, GOLDEN, NOT_OUR_REWARD, PREFERENCE, RECORDS, VALUES, pairs_of
from harness_plugins.cpo import CPO
from harness_plugins.gapo import MAPPINGS, GaPO
from harness_plugins.ipo import IPO

from harness.api import Logps, Loss, PairLogps, ResponseLogps
from harness.manager import plugin_manager, resolver

GAPO = json.loads((Path(__file__).parents[1] / "golden" / "gapo.json").read_text())
MAPPING = {"one_minus": "1-EF", "one_minus_square": "1-EF^2", "one_minus_sqrt": "1-sqrt(EF)", "log": "log(1/EF)"}
NORMALISE = {"none": "none", "add": "additive", "scale": "scaling"}
RESOLVE = resolver(plugin_manager())
REWARDED = [
    name
    for name in (*VALUES, *PREFERENCE)
    if "rewards_chosen" in RECORDS[name]["expected"] and name not in NOT_OUR_REWARD
]


def logps(sums: list[float], lengths: list[int]) -> Logps:
    mask = torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
    each = torch.tensor(sums, dtype=torch.float64) / torch.tensor(lengths)
    return Logps(token=torch.where(mask, each[:, None], 0.0), mask=mask)


def rewards(loss: Loss, record: Mapping[str, Any]) -> dict[str, np.ndarray]:
    pairs = pairs_of(record, len(record["expected"]["rewards_chosen"]))
    sides = {"chosen": (pairs.chosen, pairs.ref_chosen), "rejected": (pairs.rejected, pairs.ref_rejected)}
    return {
        side: loss.reward(ResponseLogps(sum=own.sum(), length=own.length(), ref_sum=reference)).numpy()
        for side, (own, reference) in sides.items()
    }


def test_every_golden_record_is_held_against_a_loss_or_says_where_it_is_tested() -> None:
    assert set(RECORDS) == {*VALUES, *PREFERENCE, *ELSEWHERE}
    assert len(GOLDEN) == len(VALUES) + len(PREFERENCE)
    assert set(NOT_OUR_REWARD) <= {*VALUES, *PREFERENCE}


# the losses themselves: the check golden_values_hold in test_conformance.py
@pytest.mark.parametrize("name", REWARDED)
def test_the_reward_of_each_response_is_that_of_the_other_librarys_code(name: str) -> None:
    record, (loss, options) = RECORDS[name], VALUES.get(name) or PREFERENCE[name]
    for side, got in rewards(RESOLVE(loss, options), record).items():
        np.testing.assert_allclose(got, record["expected"][f"rewards_{side}"], rtol=1e-10, atol=1e-12)


def test_averaged_ipo_divides_trls_summed_reward_by_the_length() -> None:
    record = RECORDS["dpo_ipo_b0.1"]
    for side, got in rewards(IPO(tau=0.1), record).items():
        expected = np.array(record["expected"][f"rewards_{side}"]) / np.array(record["inputs"][f"{side}_lengths"])
        np.testing.assert_allclose(got, expected, rtol=1e-10, atol=1e-12)


def test_cpo_with_the_token_mean_nll_is_trls_whole_batch_loss() -> None:
    record = RECORDS["cpo_full_b0.1_cpo_alpha1"]
    inputs = record["inputs"]
    # the record gives no lengths of the rejected responses; a summed loss does not read them
    chosen, rejected = (
        logps(inputs[f"policy_{side}_logps"], inputs["chosen_lengths"]) for side in ("chosen", "rejected")
    )
    preference, auxiliary = CPO(nll_reduction="token").terms(PairLogps(chosen=chosen, rejected=rejected))
    assert auxiliary.mean().item() == pytest.approx(inputs["nll_token_mean_chosen"], rel=1e-10)
    assert (preference + auxiliary).mean().item() == pytest.approx(record["expected"]["loss"], rel=1e-10)


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
