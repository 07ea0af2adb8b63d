"""Metrics against hand counts and scipy."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from harness.statistics.metrics import METRICS, examples, gap_edges, pair_values
from harness.statistics.summary import summarise

NAN = float("nan")


def pairs(**columns: object) -> pd.DataFrame:
    """Four pairs in the main split, each of its own prompt, unless `columns` says otherwise."""
    table = pd.DataFrame(
        {
            "pair_id": list("abcd"),
            "prompt_id": list("wxyz"),
            "split": "test",
            "score_chosen": 4.0,
            "score_rejected": 1.0,
            "gap": [1.0, 2.0, 3.0, 4.0],
            "chosen_sum_logp": [-10.0, -12.0, -30.0, -10.0],
            "chosen_tokens": [10, 12, 10, 5],
            "rejected_sum_logp": [-11.0, -10.0, -20.0, -10.0],
            "rejected_tokens": [10, 5, 5, 10],
            "ref_chosen_sum_logp": -12.0,
            "ref_rejected_sum_logp": [-12.0, -12.0, -2.0, -10.0],
            "reward_chosen": [1.0, 1.0, 0.0, 5.0],
            "reward_rejected": [0.0, 1.0, 1.0, NAN],
            "chosen_characters": [100, 200, 100, 50],
            "rejected_characters": 100,
            "true_chosen": [1.0, 2.0, 0.0, 1.0],
            "true_rejected": [0.0, 1.0, 1.0, 0.0],
            "chosen_response_id": list("ABCD"),
            "rejected_response_id": list("EFGH"),
        }
    )
    return table.assign(**columns)


def responses(n: int = 40, prompts: int = 5, seed: int = 0, **columns: object) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    score = np.round(rng.normal(size=n), 1)
    table = pd.DataFrame(
        {
            "prompt_id": [f"p{i % prompts}" for i in range(n)],
            "response_id": [f"r{i}" for i in range(n)],
            "split": "test",
            "sum_logp": rng.normal(size=n),
            "tokens": rng.integers(1, 9, n),
            "ref_sum_logp": rng.normal(size=n),
            "reward": np.round(score + rng.normal(size=n), 1),
            "score": score,
            "true_quality": NAN,
            "characters": 10,
            "listwise": True,
        }
    )
    return table.assign(**columns)


def test_a_win_counts_one_a_tie_half_a_loss_nothing_and_an_unscored_pair_is_missing() -> None:
    np.testing.assert_array_equal(pair_values(pairs(), False)["pairwise_accuracy"], [1, 0.5, 0, NAN])


def test_the_yardsticks_read_the_log_probs_alike_for_every_loss() -> None:
    values = pair_values(pairs(), False)
    np.testing.assert_array_equal(values["pairwise_accuracy@sum"], [1, 0, 0, 0.5])
    np.testing.assert_array_equal(
        values["pairwise_accuracy@mean"], [1, 1, 1, 0]
    )  # -1.1, -2, -4, -1 against -1, -1, -3, -2
    np.testing.assert_array_equal(values["pairwise_accuracy@ratio"], [1, 0, 0.5, 1])  # 2-1, 0-2, -18+18, 2-0
    np.testing.assert_array_equal(
        values["pairwise_accuracy@ratio_mean"], [1, 0, 1, 1]
    )  # 2/10, 0/12, -18/10, 2/5 against 1/10, 2/5, -18/5, 0/10


def test_what_a_loss_learned_is_read_by_its_own_kind_of_log_ratio() -> None:
    for averaged, kind in ((False, "ratio"), (True, "ratio_mean")):
        values = pair_values(pairs(), averaged)
        np.testing.assert_array_equal(values["pairwise_accuracy@learned"], values[f"pairwise_accuracy@{kind}"])
        metrics, _ = summarise(pairs(), responses(), averaged)
        assert metrics["spearman@learned"] == metrics[f"spearman@{kind}"]
    metrics, reasons = summarise(pairs(), responses(), None)
    assert np.isnan(metrics["pairwise_accuracy@learned"])
    assert reasons["pairwise_accuracy@learned"] == (
        "the record does not say whether the loss sums or averages log-probs"
    )


@pytest.mark.parametrize("averaged", [False, True])
def test_an_untrained_model_has_learned_nothing_whatever_the_loss(averaged: bool) -> None:
    untrained = pairs(
        ref_chosen_sum_logp=pairs()["chosen_sum_logp"], ref_rejected_sum_logp=pairs()["rejected_sum_logp"]
    )
    metrics, _ = summarise(untrained, responses(), averaged)
    assert metrics["pairwise_accuracy@learned"] == 0.5
    assert metrics["pairwise_accuracy@mean"] != 0.5  # where a reference-free reward starts


def test_margins_and_drift_keep_their_units() -> None:
    values = pair_values(pairs(), False)
    np.testing.assert_array_equal(values["margin"], [1, 0, -1, NAN])
    np.testing.assert_array_equal(values["chosen_logp_drift"], [2, 0, -18, 2])


def test_likelihood_displacement_counts_chosen_responses_that_became_less_likely() -> None:
    values = pair_values(pairs(), False)
    np.testing.assert_array_equal(values["rejected_logp_drift"], [1, 2, -18, 0])  # -11+12, -10+12, -20+2, -10+10
    np.testing.assert_array_equal(values["likelihood_displacement"], [0, 0, 1, 0])  # of drifts 2, 0, -18, 2
    unknown, reasons = summarise(pairs(ref_chosen_sum_logp=NAN, ref_rejected_sum_logp=NAN), responses(), False)
    assert np.isnan(unknown["likelihood_displacement"])
    assert reasons["rejected_logp_drift"] == "the reference's log-probs are not known"


def test_calibration_reads_the_own_margin_as_log_odds() -> None:
    metrics, _ = summarise(
        pairs(reward_chosen=[np.log(4), 0, 0, NAN], reward_rejected=[0, 0, np.log(4), 0]), responses(), False
    )
    assert metrics["brier"] == pytest.approx((0.2**2 + 0.5**2 + 0.8**2) / 3)
    # at confidence 0.8 one of two is right, the tie is half right at 0.5
    assert metrics["ece"] == pytest.approx(2 / 3 * 0.3)


def test_rewards_are_held_against_true_quality_where_it_is_known() -> None:
    truth = np.random.default_rng(5).normal(size=40)
    table = responses(true_quality=np.where(np.arange(40) < 30, truth, NAN))
    metrics, _ = summarise(pairs(), table, False)
    expected = scipy_stats.spearmanr(table["reward"][:30], truth[:30])[0]
    assert metrics["spearman_true"] == pytest.approx(expected, abs=1e-12)
    assert summarise(pairs(), responses(), False)[1]["spearman_true"] == "the data has no true_quality"


def test_ndcg_and_best_of_n_are_means_over_the_prompts_of_listwise_data() -> None:
    table = responses(n=6, prompts=2, reward=[3.0, 1, 2, 2, 1, 3], score=[5.0, 1, 3, 2, 4, 3])
    # prompt 0 has responses 0, 2, 4: by reward 0, 2, 4, by score 0, 4, 2; prompt 1 has 1, 3, 5: by both 5, 3, 1
    first = (2 / 1 + 0 + 1 / 2) / (2 / 1 + 1 / np.log2(3))
    metrics, _ = summarise(pairs(), table, False)
    assert metrics["ndcg"] == pytest.approx((first + 1) / 2)
    assert metrics["best_of_n"] == 1
    _, reasons = summarise(pairs(), table.assign(listwise=False), False)
    assert reasons["ndcg"] == reasons["best_of_n"] == "the split has no listwise data"
    assert (
        summarise(pairs(), table.assign(score=1.0), False)[1]["ndcg"] == "no prompt has responses that differ in score"
    )


def test_truth_may_prefer_the_rejected_response_and_its_ties_do_not_count() -> None:
    values = pair_values(pairs(reward_rejected=[0.0, 1.0, 1.0, 9.0], true_chosen=[1.0, 2.0, 0.0, 0.0]), False)
    np.testing.assert_array_equal(values["pairwise_accuracy_true"], [1, 0.5, 1, NAN])


def test_gap_quartiles_are_cut_by_the_main_splits_gaps() -> None:
    rows = pairs(reward_chosen=1.0, reward_rejected=[0.0, 2.0, 1.0, 0.0])
    np.testing.assert_allclose(gap_edges(rows), [1.75, 2.5, 3.25])
    values = pair_values(rows, False)
    assert [np.nanmean(values[f"pairwise_accuracy_gap_q{q}"]) for q in (1, 2, 3, 4)] == [1, 0, 0.5, 1]
    assert [int(np.isfinite(values[f"pairwise_accuracy_gap_q{q}"]).sum()) for q in (1, 2, 3, 4)] == [1, 1, 1, 1]
    unknown = summarise(pairs(gap=NAN), responses(), False)
    assert unknown[1]["pairwise_accuracy_gap_q2"] == "the data has no gap"


def test_length_balanced_pairs_count_apart() -> None:
    rows = pairs(split=["test", "test_lenbalanced", "test_lenbalanced", "test"], reward_rejected=0.0)
    metrics, _ = summarise(rows, responses(), False)
    assert metrics["pairwise_accuracy"] == 1
    assert metrics["pairwise_accuracy_lenbalanced"] == 0.75
    assert metrics["pairwise_accuracy_lenbalanced@mean"] == 1
    _, reasons = summarise(pairs(), responses(), False)
    assert reasons["pairwise_accuracy_lenbalanced"] == "the split has no length-balanced pairs"


def test_pooled_correlations_are_scipys() -> None:
    table = responses(n=200)
    metrics, reasons = summarise(pairs(), table, False)
    common = {"": table["reward"], "@sum": table["sum_logp"], "@mean": table["sum_logp"] / table["tokens"]}
    common["@ratio"] = table["sum_logp"] - table["ref_sum_logp"]
    for suffix, reward in common.items():
        assert metrics[f"spearman{suffix}"] == pytest.approx(
            scipy_stats.spearmanr(reward, table["score"])[0], abs=1e-12
        )
        assert metrics[f"kendall{suffix}"] == pytest.approx(
            scipy_stats.kendalltau(reward, table["score"])[0], abs=1e-12
        )
    assert [name for name in reasons if "spearman" in name or "kendall" in name] == ["spearman_true"]


def test_correlations_within_prompts_are_the_mean_of_scipys_and_leave_out_what_has_none() -> None:
    table = responses(n=43, prompts=5)
    few = responses(n=2, prompts=1, seed=1).assign(prompt_id="few")
    constant = responses(n=4, prompts=1, seed=2).assign(prompt_id="constant", reward=1.0)
    pair_only = responses(n=5, prompts=1, seed=3).assign(prompt_id="pair", listwise=False)
    unscored = responses(n=5, prompts=1, seed=4).assign(prompt_id="p0", score=NAN)
    every = pd.concat([table, few, constant, pair_only, unscored], ignore_index=True)
    found = examples(pairs(), every, False)
    for name, correlate in (("spearman", scipy_stats.spearmanr), ("kendall", scipy_stats.kendalltau)):
        by_hand = [correlate(group["reward"], group["score"])[0] for _, group in table.groupby("prompt_id")]
        one = found[f"{name}_within_prompt"]
        assert np.isfinite(one.value).sum() == 5
        assert np.nanmean(one.value) == pytest.approx(np.mean(by_hand), abs=1e-12)
        assert np.isnan(one.value[list(one.prompt).index("constant")])


def test_the_length_slope_is_least_squares_of_the_standardised_margin() -> None:
    rng = np.random.default_rng(0)
    long = pd.concat([pairs()] * 25, ignore_index=True)
    long["chosen_characters"] = rng.integers(20, 400, 100)
    long["reward_chosen"] = 3 * np.log(long["chosen_characters"] / 100) + rng.normal(size=100)
    long["reward_rejected"] = 0.0
    x, y = np.log(long["chosen_characters"] / 100), long["reward_chosen"]
    metrics, _ = summarise(long, responses(), False)
    assert metrics["length_slope"] == pytest.approx(scipy_stats.linregress(x, y / y.std(ddof=0)).slope, abs=1e-12)
    scaled, _ = summarise(long.assign(reward_chosen=100 * long["reward_chosen"]), responses(), False)
    assert scaled["length_slope"] == pytest.approx(metrics["length_slope"])


def test_missing_is_nan_with_a_reason_never_zero() -> None:
    metrics, reasons = summarise(pairs(reward_chosen=NAN), responses(reward=NAN), False)
    missing = {name for name, value in metrics.items() if np.isnan(value)}
    assert missing == set(reasons)
    assert {"pairwise_accuracy", "margin", "spearman", "kendall_within_prompt"} <= missing
    assert reasons["pairwise_accuracy"] == "no reward is known"
    assert metrics["pairwise_accuracy@sum"] == 0.375


def test_a_constant_reward_has_accuracy_one_half_and_no_correlation() -> None:
    metrics, reasons = summarise(pairs(reward_chosen=0.0, reward_rejected=0.0), responses(reward=0.0), False)
    assert metrics["pairwise_accuracy"] == 0.5
    assert reasons["spearman"] == "a constant has no correlation and no slope"


@pytest.mark.parametrize("empty", [True, False])
def test_every_metric_is_registered_and_given_also_without_data(empty: bool) -> None:
    rows, table = (pairs().head(0), responses().head(0)) if empty else (pairs(), responses())
    metrics, reasons = summarise(rows, table, False)
    assert list(metrics) == list(METRICS)
    assert not empty or set(reasons) == set(METRICS)
    assert all(metric.unit and metric.summary for metric in METRICS.values())


def test_a_monotone_change_of_the_reward_changes_no_order_metric() -> None:
    rng = np.random.default_rng(1)
    rows = pd.concat([pairs()] * 10, ignore_index=True)
    rows["reward_chosen"], rows["reward_rejected"] = rng.normal(size=40), rng.normal(size=40)
    before, _ = summarise(rows, responses(), False)
    table = responses()
    after, _ = summarise(
        rows.assign(reward_chosen=np.exp(rows["reward_chosen"]), reward_rejected=np.exp(rows["reward_rejected"])),
        table.assign(reward=np.exp(table["reward"])),
        False,
    )
    for name in ("pairwise_accuracy", "spearman", "kendall", "spearman_within_prompt", "pairwise_accuracy_gap_q1"):
        assert after[name] == pytest.approx(before[name], abs=1e-12)
