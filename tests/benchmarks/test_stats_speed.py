"""The time that the intervals and tests of a large board take."""

from __future__ import annotations

import time

import numpy as np
import pytest

from harness.leaderboard.decide.estimates import Resampling, Unit, Values, comparison, estimates, samples
from harness.statistics.calibration import brier_examples, ece_examples, wins
from harness.statistics.rank_correlations import spearman_examples

SYSTEMS, PAIRS, PROMPTS, RESAMPLES = 40, 2000, 2000, 10_000


@pytest.mark.bench
def test_forty_systems_over_two_thousand_pairs_take_less_than_five_seconds() -> None:
    """Accuracy, margin, Brier, ECE and pooled Spearman with intervals, and all pairs compared: processor time.

    Every pair has its own prompt, which is the most prompts there can be; nothing is computed before the clock starts.
    """
    rng = np.random.default_rng(0)
    quality = rng.normal(size=2 * PAIRS)
    score = np.round(quality + 0.5 * rng.normal(size=2 * PAIRS), 1)
    rewards = [0.5 * quality + rng.normal(size=2 * PAIRS) + 0.01 * k * quality for k in range(SYSTEMS)]
    labels = [f"loss{k:02d}" for k in range(SYSTEMS)]
    units = [Unit(label, "qwen", 0) for label in labels]
    of_pair, of_response = np.arange(PAIRS) % PROMPTS, np.arange(2 * PAIRS) % PROMPTS
    began, began_wall = time.process_time(), time.perf_counter()
    margins = [reward[:PAIRS] - reward[PAIRS:] for reward in rewards]
    values = {
        "pairwise_accuracy": [wins(margin) for margin in margins],
        "margin": margins,
        "brier": [brier_examples(margin) for margin in margins],
        "ece": [ece_examples(margin) for margin in margins],
        "spearman": [spearman_examples(reward, score) for reward in rewards],
    }
    resampling = Resampling(resamples=RESAMPLES, seed=0)
    metrics = {
        name: Values(
            prompt=of_response if name == "spearman" else of_pair,
            n_prompts=PROMPTS,
            units=dict(zip(units, per_system, strict=True)),
        )
        for name, per_system in values.items()
    }
    drawn = samples(metrics, labels, ("qwen",), (0,), resampling)
    measured = {name: estimates(sample) for name, sample in drawn.items()}
    compared = comparison(drawn["pairwise_accuracy"], resampling)
    spent, wall = time.process_time() - began, time.perf_counter() - began_wall
    print(
        f"\n{RESAMPLES:,} resamples x {SYSTEMS} systems x {PAIRS:,} pairs: {spent:.2f} s of processor time, "
        f"{wall:.2f} s on the clock",
        end="",
    )
    assert all(np.isfinite(estimate.high) for by_label in measured.values() for estimate in by_label.values())
    assert compared.p.shape == (SYSTEMS, SYSTEMS)
    assert spent < 5  # all threads together: the time on two free cores is no more
