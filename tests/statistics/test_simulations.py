"""Coverage over many simulated boards: `tox -e stats`. Each test prints what it found."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.statistics.calibration import ece_examples
from harness.statistics.intervals import (
    cluster_sums,
    interval,
    means,
    means_left_out,
    one_seed_interval,
    resample_counts,
    resampled_means,
    standard_errors,
    t_interval,
)
from harness.statistics.rank_correlations import kendall_examples, spearman_examples

pytestmark = pytest.mark.stats
RNG = np.random.default_rng

# What one example is, from its latent value, and the mean it has. Of the latent variance, 1, half is the prompt's.
KINDS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    "accuracy 0.66": (lambda latent: (latent > -0.4).astype(float), float(scipy_stats.norm.cdf(0.4))),
    "accuracy 0.90": (lambda latent: (latent > -1.3).astype(float), float(scipy_stats.norm.cdf(1.3))),
    "margin": (lambda latent: 3 * latent + 1, 1.0),
    "brier": (lambda latent: scipy_stats.norm.cdf(-latent) ** 2, 1 / 3),  # a uniform value squared
}


@pytest.mark.parametrize("prompts", [50, 100, 200])
@pytest.mark.parametrize("kind", list(KINDS))
def test_one_seed_intervals_cover_from_fifty_prompts_on(kind: str, prompts: int) -> None:
    """1 to 4 pairs per prompt. The board's intervals (BCa), percentiles, and those of pairs that forget the prompts."""
    make, truth = KINDS[kind]
    rng, boards, block, resamples = RNG([1, prompts]), 6000, 500, 2000
    covered = dict.fromkeys(("board", "percentile", "unclustered"), 0)
    for start in range(0, boards, block):
        prompt = np.repeat(np.arange(prompts), rng.integers(1, 5, prompts))
        latent = np.sqrt(0.5) * (rng.normal(size=(block, prompts))[:, prompt] + rng.normal(size=(block, len(prompt))))
        values = make(latent)
        for clusters, names in ((prompt, ("board", "percentile")), (np.arange(len(prompt)), ("unclustered",))):
            number = clusters.max() + 1
            each = [cluster_sums(clusters, value, number) for value in values]
            sums, sizes = np.array([one[0] for one in each]), np.array([one[1] for one in each])
            drawn, estimate = (
                resampled_means(resample_counts(number, resamples, start), sums, sizes),
                means(sums, sizes),
            )
            for name in names:
                low, high = (
                    one_seed_interval(drawn, estimate, means_left_out(sums, sizes))
                    if name == "board"
                    else interval(drawn, estimate, n_prompts=int(number))
                )
                covered[name] += int(((low <= truth) & (truth <= high)).sum())
    share = {name: number / boards for name, number in covered.items()}
    print(f"\n{kind}, {prompts} prompts: " + ", ".join(f"{name} {one:.1%}" for name, one in share.items()), end="")
    assert 0.93 <= share["board"] <= 0.97
    assert 0.92 <= share["percentile"] <= 0.97
    assert share["unclustered"] < 0.91


@pytest.mark.parametrize("name", ["spearman", "kendall", "ece"])
@pytest.mark.parametrize("prompts", [50, 200])
def test_one_seed_intervals_of_pseudo_values_cover(name: str, prompts: int) -> None:
    """Four responses per prompt; a high correlation (0.84 and 0.65), or log-odds that are twice too sure."""
    rng, boards = RNG([2, prompts]), 1500
    prompt, counts = np.repeat(np.arange(prompts), 4), resample_counts(prompts, 2000)

    def draw(per: int) -> tuple[np.ndarray, np.ndarray]:
        common = rng.normal(size=per // 4).repeat(4)
        return common + rng.normal(size=per), 0.4 * common + rng.normal(size=per)

    def pseudo(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        if name == "spearman":
            return spearman_examples(x, x + y)
        if name == "kendall":
            return kendall_examples(x, x + y)
        right = rng.random(len(x)) < 1 / (1 + np.exp(-x))
        return ece_examples(2 * np.where(right, x, -x))

    truth = float(pseudo(*draw(800_000)).mean())
    covered = 0
    for _ in range(boards):
        sums, sizes = (each[None] for each in cluster_sums(prompt, pseudo(*draw(4 * prompts)), prompts))
        low, high = one_seed_interval(
            resampled_means(counts, sums, sizes), means(sums, sizes), means_left_out(sums, sizes)
        )
        covered += bool(low[0] <= truth <= high[0])
    share = covered / boards
    print(f"\n{name} (truth {truth:.3f}), {prompts} prompts: {share:.1%}", end="")
    assert (0.88 if name == "ece" else 0.92) <= share <= 0.98  # ECE is an absolute value: biased upwards


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_several_seed_intervals_cover(seeds: int) -> None:
    """Standard deviations over prompts, over seeds, and of a seed on a prompt; 60 prompts."""
    prompts, boards = 60, 4000
    counts, least = resample_counts(prompts, 1000), 1.0
    for k, sd in enumerate([(0.3, 0.0, 0.1), (0.3, 0.02, 0.1), (0.3, 0.04, 0.1), (0.3, 0.15, 0.1), (0.05, 0.02, 0.3)]):
        rng = RNG([3, seeds, k])
        values = (
            sd[0] * rng.normal(size=(1, boards, prompts))
            + sd[1] * rng.normal(size=(seeds, boards, 1))
            + sd[2] * rng.normal(size=(seeds, boards, prompts))
        )
        drawn = resampled_means(counts, values.mean(0), np.ones((boards, prompts)))
        per_seed = values.mean(2)
        low, high = t_interval(per_seed.mean(0), *standard_errors(per_seed, drawn.var(0), prompts))
        bare = interval(drawn, per_seed.mean(0), n_prompts=prompts)
        share, without = (float(((a <= 0) & (b >= 0)).mean()) for a, b in ((low, high), bare))
        print(f"\n{seeds} seeds, deviations {sd}: {share:.1%}; prompts alone {without:.1%}", end="")
        least = min(least, share)
    assert least >= 0.92
