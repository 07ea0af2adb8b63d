"""Brier, ECE and reliability bins against hand counts, scipy and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats as scipy_stats
from scipy.special import expit, logit

from harness.statistics.calibration import brier_examples, ece_examples, reliability

NAN = float("nan")


def direct_ece(margin: np.ndarray) -> float:
    """Return ECE bin by bin as Guo et al. write it."""
    confidence, right = expit(np.abs(margin)), np.where(margin == 0, 0.5, margin > 0)
    total = 0.0
    for k in range(10):
        start = 0.5 + k * 0.05
        here = (confidence >= start - 1e-12) & ((confidence < start + 0.05 - 1e-12) | (k == 9))
        if here.any():
            total += here.mean() * abs(right[here].mean() - confidence[here].mean())
    return total


def test_brier_by_hand() -> None:
    got = brier_examples(np.array([0.0, logit(0.8), logit(0.1), NAN]))
    np.testing.assert_allclose(got, [0.25, 0.04, 0.81, NAN])


def test_ece_by_hand() -> None:
    # confidence 0.72, two of three right: |2/3 - 0.72|; confidence 0.96, none right: 0.96; weights 3/4 and 1/4
    margin = np.array([logit(0.72), logit(0.72), -logit(0.72), -logit(0.96), NAN])
    expected = 3 / 4 * (0.72 - 2 / 3) + 1 / 4 * 0.96
    assert np.nanmean(ece_examples(margin)) == pytest.approx(expected)
    assert np.isnan(ece_examples(margin)[-1])


def test_ece_is_the_mean_of_its_pseudo_values() -> None:
    rng = np.random.default_rng(0)
    for margin in (rng.normal(size=500) * 2 + 0.5, rng.normal(size=500) + 2):  # too sure; not sure enough
        assert ece_examples(margin).mean() == pytest.approx(direct_ece(margin), abs=1e-12)


def test_margins_that_are_log_odds_have_no_calibration_error_and_doubled_ones_have() -> None:
    rng = np.random.default_rng(1)
    truth = rng.normal(size=40_000) * 1.5
    margin = np.where(rng.random(40_000) < expit(truth), truth, -truth)
    assert ece_examples(margin).mean() < 0.01
    assert ece_examples(2 * margin).mean() > 0.08
    assert brier_examples(margin).mean() < min(brier_examples(2 * margin).mean(), brier_examples(margin / 2).mean())


def test_a_pair_read_from_the_other_side_is_as_well_calibrated() -> None:
    """Half of the chosen are the less likely ones: calling the outcome 1 always would show an error of 0.5."""
    rng = np.random.default_rng(2)
    margin = rng.choice([1e-9, -1e-9], 10_000)
    assert ece_examples(margin).mean() < 0.02


def test_reliability_bins_by_hand() -> None:
    margin = np.array([logit(0.51), -logit(0.53), logit(0.999), 50.0, 0.0, NAN])
    bins = reliability(np.arange(6), margin, 6)
    assert [(one.n, round(one.start, 9), round(one.end, 9)) for one in (bins[0], bins[-1])] == [
        (3, 0.5, 0.55),
        (2, 0.95, 1.0),
    ]
    assert bins[0].confidence == pytest.approx((0.51 + 0.53 + 0.5) / 3)
    assert bins[0].accuracy == pytest.approx(0.5)  # right, wrong, tie
    assert bins[-1].accuracy == 1
    assert bins[-1].low < 1
    assert sum(one.n for one in bins) == 5
    assert np.isnan([bins[3].accuracy, bins[3].low, bins[3].confidence]).all()
    assert reliability(np.arange(2), np.full(2, NAN), 2) == ()


def test_a_bins_interval_is_the_exact_one_where_every_pair_has_its_own_prompt() -> None:
    margin = np.where(np.arange(2000) < 1500, 0.01, -0.01)
    one = reliability(np.arange(2000), margin, 2000)[0]
    theirs = scipy_stats.binomtest(1500, 2000).proportion_ci(method="exact")
    assert (one.low, one.high) == pytest.approx((theirs.low, theirs.high), abs=1e-9)


def test_copies_of_a_prompts_pair_make_a_bins_interval_no_narrower() -> None:
    margin = np.where(np.arange(60) < 40, 0.01, -0.01)
    single, copied = (reliability(np.repeat(np.arange(60), times), np.repeat(margin, times), 60)[0] for times in (1, 5))
    assert copied.n == 300
    assert (copied.low, copied.high) == pytest.approx((single.low, single.high), abs=1e-3)
    alike = reliability(np.repeat(np.arange(4), 25), np.full(100, 0.01), 4)[0]  # all right: four prompts, not 100 pairs
    assert alike.low < 0.5
