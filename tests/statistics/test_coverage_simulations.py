"""Coverage of 95 % intervals over many simulated boards: `tox -e stats`. Each test prints what it found.

A cell of a simulation fails where it lies below (or above) its bound by more than two standard errors of its draws.
Right and wrong pairs of a prompt are beta-binomial with the stated ICC, ties and two systems Dirichlet-multinomial.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product

import numpy as np
import pytest
from polya_urn import urn
from scipy import stats as scipy_stats

from harness.statistics.calibration import ece_examples
from harness.statistics.estimate_interval import Kind, estimate_interval
from harness.statistics.intervals import cluster_sums, interval, means, resample_counts, resampled_means
from harness.statistics.proportions import difference_interval, proportion_interval, tango_high
from harness.statistics.rank_correlations import kendall_examples, spearman_examples

pytestmark = pytest.mark.stats
RNG = np.random.default_rng
Z = 1.959964
DRAWS, AT_ONCE = {40: 10_000, 100: 10_000, 200: 10_000, 1000: 4_000}, 1_000_000
"""Draws of a cell by its number of prompts; prompts drawn at once, over all draws."""
CELLS = [
    (prompts, pairs, icc)
    for prompts, pairs, icc in product(DRAWS, ("1", "2", "5", "20", "1-20"), (0.0, 0.8))
    if pairs != "1" or not icc
]
"""Prompts, pairs per prompt, ICC."""
LEAST, MOST, WIDEST = 0.93, 0.975, 1.3


def boards(
    rng: np.random.Generator, chances: Sequence[float], values: Sequence[float], cell: tuple[int, str, float]
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield sums and sizes (draws, P), and the effective number of pairs (draws,): n / (1 + (pairs - 1) ICC)."""
    prompts, pairs, icc = cell
    for start in range(0, DRAWS[prompts], AT_ONCE // prompts):
        shape = (min(AT_ONCE // prompts, DRAWS[prompts] - start), prompts)
        sizes = rng.integers(1, 21, shape) if pairs == "1-20" else np.full(shape, int(pairs))
        sums = np.tensordot(np.array(values), urn(rng, chances, sizes, icc), 1)
        n = sizes.sum(1)
        yield sums, sizes.astype(float), n / (1 + ((sizes**2).sum(1) / n - 1) * icc)


class Found:
    """What a simulation found: coverage by cell, and what lies beyond a bound."""

    def __init__(self) -> None:
        self.shares: list[float] = []
        self.widths: list[float] = []
        self.beyond: list[str] = []

    def add(self, name: str, inside: np.ndarray, most: float = 1.0) -> None:
        share = float(inside.mean())
        self.shares.append(share)
        for bound, over in ((LEAST, LEAST - share), (most, share - most)):
            if over > 2 * np.sqrt(bound * (1 - bound) / len(inside)):
                self.beyond.append(f"{name}: covers {share:.1%}, bound {bound:.1%}")

    def width(self, name: str, own: np.ndarray, ideal: np.ndarray) -> None:
        """Take the mean width beside the ideal interval's, of enough draws to have a mean."""
        if len(own) >= 100:
            self.widths.append(float(own.mean() / ideal.mean()))
            if self.widths[-1] > WIDEST:
                self.beyond.append(f"{name}: {self.widths[-1]:.2f} times as wide")

    def __str__(self) -> str:
        wide = f", width {min(self.widths):.2f} to {max(self.widths):.2f}" if self.widths else ""
        upto = f" to {max(self.shares):.1%} in {len(self.shares)} cells" if len(self.shares) > 1 else ""
        return f"covers {min(self.shares):.1%}{upto}{wide}"


@pytest.mark.parametrize(("accuracy", "ties"), [(0.6, 0), (0.6, 0.3), (0.9, 0), (0.98, 0), (0.99, 0), (0.995, 0)])
def test_intervals_of_shares_cover_also_near_the_edge(accuracy: float, ties: float) -> None:
    """10,000 draws a cell, 4,000 with 1,000 prompts. Width: over draws with three wrong prompts or more."""
    rng, found = RNG([1, int(1000 * accuracy), int(10 * ties)]), Found()
    chances, values = (accuracy - ties / 2, ties, 1 - accuracy - ties / 2), (1.0, 0.5, 0.0)
    for cell in CELLS:
        inside, own, ideal = [], [], []
        for sums, sizes, effective in boards(rng, chances, values, cell):
            low, high = proportion_interval(sums, sizes)
            inside.append((low <= accuracy) & (accuracy <= high))
            enough, share = (sizes > sums).sum(1) >= 3, sums.sum(1) / sizes.sum(1)
            square = Z**2 / effective
            wilson = 2 * np.sqrt(square * share * (1 - share) + square**2 / 4) / (1 + square)
            own.append((high - low)[enough])
            ideal.append(wilson[enough])
        found.add(str(cell), np.concatenate(inside), MOST if accuracy < 0.98 and cell[0] >= 100 else 1.0)
        if accuracy >= 0.98:
            found.width(str(cell), np.concatenate(own), np.concatenate(ideal))
    print(f"\naccuracy {accuracy}, ties {ties}: {found}", end="")
    assert not found.beyond


@pytest.mark.parametrize("alike", [0.0, 0.4])
@pytest.mark.parametrize("accuracies", [(0.6, 0.6), (0.9, 0.88), (0.98, 0.97), (0.99, 0.99), (0.995, 0.98)])
def test_intervals_of_paired_differences_cover_also_near_the_edge(
    accuracies: tuple[float, float], alike: float
) -> None:
    """Draws as above; `alike`: correlation of the two systems' outcomes of a pair. Width: three discordant prompts."""
    (one, other), found = accuracies, Found()
    rng, truth = RNG([2, int(1000 * one), int(1000 * other), int(10 * alike)]), one - other
    both = one * other + alike * np.sqrt(one * (1 - one) * other * (1 - other))
    chances = (both, one - both, other - both, 1 - one - other + both)
    for cell in CELLS:
        inside, own, ideal = [], [], []
        for sums, sizes, effective in boards(rng, chances, (0.0, 1.0, -1.0, 0.0), cell):
            low, high = difference_interval(sums, sizes)
            inside.append((low <= truth) & (truth <= high))
            enough, mean = (sums != 0).sum(1) >= 3, sums.sum(1) / sizes.sum(1)
            discordant = np.maximum(one + other - 2 * both, np.abs(mean))
            up, down = (discordant + mean) / 2, (discordant - mean) / 2
            tango = tango_high(up, down, effective, Z) + tango_high(down, up, effective, Z)
            own.append((high - low)[enough])
            ideal.append(tango[enough])
        found.add(str(cell), np.concatenate(inside), MOST if one < 0.98 and cell[0] >= 100 else 1.0)
        if one >= 0.98:
            found.width(str(cell), np.concatenate(own), np.concatenate(ideal))
    print(f"\naccuracies {one} and {other}, {alike} alike: {found}", end="")
    assert not found.beyond


# Standard deviations over prompts, over seeds, and of a seed on a prompt; then of latent values, whose pairs add 1/2.
OF_MEANS = [(0.3, 0.0, 0.1), (0.3, 0.02, 0.1), (0.3, 0.04, 0.1), (0.3, 0.15, 0.1), (0.05, 0.02, 0.3), (0.1, 0.5, 0.1)]
OF_SHARES = [(1.0, 0.0, 0.3), (1.0, 0.1, 0.3), (1.0, 0.3, 0.3), (0.1, 0.1, 1.0), (0.3, 0.2, 0.3), (0.1, 0.3, 0.3)]


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_of_means_over_several_seeds_cover(seeds: int) -> None:
    """60 prompts, 8,000 draws a mix; the last mixes are almost all seeds."""
    prompts, number, found = 60, 8000, Found()
    counts = resample_counts(prompts, 1000)
    for k, sd in enumerate(OF_MEANS):
        rng = RNG([3, seeds, k])
        values = (
            sd[0] * rng.normal(size=(1, number, prompts))
            + sd[1] * rng.normal(size=(seeds, number, 1))
            + sd[2] * rng.normal(size=(seeds, number, prompts))
        )
        sums, sizes = values.mean(0), np.ones((number, prompts))
        drawn = resampled_means(counts, sums, sizes)
        low, high = estimate_interval("mean", values.mean(2), sums, sizes, drawn)
        bare = interval(drawn, sums.mean(1), n_prompts=prompts)
        without = float(((bare[0] <= 0) & (bare[1] >= 0)).mean())
        found.add(str(sd), (low <= 0) & (high >= 0))
        print(f"\n{seeds} seeds, deviations {sd}: {found.shares[-1]:.1%}; prompts alone {without:.1%}", end="")
    assert not found.beyond


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("accuracy", [0.66, 0.9, 0.98, 0.995])
def test_intervals_of_shares_over_several_seeds_cover(accuracy: float, seeds: int) -> None:
    """Two pairs per prompt, 4,000 draws a mix; a share's seeds vary by at most about half its errors."""
    found = Found()
    for (k, sd), prompts in product(enumerate(OF_SHARES), (40, 200)):
        rng, draws = RNG([4, seeds, k, prompts]), 4000
        level = scipy_stats.norm.ppf(accuracy) * np.sqrt(0.5 + sum(one**2 for one in sd))
        latent = (
            level + sd[0] * rng.normal(size=(draws, prompts, 1)) + np.sqrt(0.5) * rng.normal(size=(draws, prompts, 2))
        )
        right = np.empty((seeds, draws, prompts))
        for seed in range(seeds):
            own = sd[1] * rng.normal(size=(draws, 1, 1)) + sd[2] * rng.normal(size=(draws, prompts, 2))
            right[seed] = (latent + own > 0).sum(2)
        sizes = np.full((draws, prompts), 2.0)
        low, high = estimate_interval("proportion", right.sum(2) / (2 * prompts), right.mean(0), sizes, sizes)
        found.add(f"{sd}, {prompts} prompts", (low <= accuracy) & (accuracy <= high))
    print(f"\n{seeds} seeds, accuracy {accuracy}: {found}", end="")
    assert not found.beyond


KINDS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], float]] = {
    "margin": (lambda latent: 3 * latent + 1, 1.0),
    "brier": (lambda latent: scipy_stats.norm.cdf(-latent) ** 2, 1 / 3),  # a uniform value squared
}
"""What one example is, from its latent value, and the mean it has. Of the latent variance, 1, half is the prompt's."""


@pytest.mark.parametrize("prompts", [50, 100, 200])
@pytest.mark.parametrize("kind", list(KINDS))
def test_one_seed_intervals_of_means_cover_from_fifty_prompts_on(kind: str, prompts: int) -> None:
    """1 to 4 pairs per prompt, 6,000 draws. The board's intervals (BCa), and those of pairs that forget the prompts."""
    make, truth = KINDS[kind]
    rng, number, block, found, bare = RNG([1, prompts]), 6000, 500, Found(), Found()
    covered: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for start in range(0, number, block):
        prompt = np.repeat(np.arange(prompts), rng.integers(1, 5, prompts))
        latent = np.sqrt(0.5) * (rng.normal(size=(block, prompts))[:, prompt] + rng.normal(size=(block, len(prompt))))
        values = make(latent)
        for clustered in covered:
            clusters = prompt if clustered else np.arange(len(prompt))
            sums, sizes = cluster_sums(clusters, values, int(clusters.max()) + 1)
            drawn = resampled_means(resample_counts(sums.shape[1], 2000, start), sums, sizes)
            low, high = estimate_interval("mean", means(sums, sizes)[None], sums, sizes, drawn)
            covered[clustered].append((low <= truth) & (truth <= high))
    found.add(kind, np.concatenate(covered[True]), MOST)
    bare.add(kind, np.concatenate(covered[False]))
    print(f"\n{kind}, {prompts} prompts: {found}; pairs {bare}", end="")
    assert not found.beyond
    assert bare.shares[0] < 0.91


@pytest.mark.parametrize(
    ("name", "prompts"), [*product(["spearman", "kendall"], [50, 200]), ("ece", 100), ("ece", 200)]
)
def test_one_seed_intervals_of_pseudo_values_cover(name: str, prompts: int) -> None:
    """Four responses per prompt, 2,000 draws; a high correlation (0.84 and 0.65), or log-odds twice too sure.

    ECE is an absolute value and biased upwards near 0: of log-odds 1.2 times too sure, 100 prompts cover 77 %.
    """
    rng, found, inside = RNG([2, prompts]), Found(), []
    prompt, counts = np.repeat(np.arange(prompts), 4), resample_counts(prompts, 2000)
    kind: Kind = "distance" if name == "ece" else "mean"

    def draw(per: int) -> tuple[np.ndarray, np.ndarray]:
        common = rng.normal(size=per // 4).repeat(4)
        return common + rng.normal(size=per), 0.4 * common + rng.normal(size=per)

    def pseudo(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        if name != "ece":
            return (spearman_examples if name == "spearman" else kendall_examples)(x, x + y)
        return ece_examples(2 * np.where(rng.random(len(x)) < 1 / (1 + np.exp(-x)), x, -x))

    truth = float(pseudo(*draw(800_000)).mean())
    for _ in range(2000):
        sums, sizes = (each[None] for each in cluster_sums(prompt, pseudo(*draw(4 * prompts)), prompts))
        drawn = resampled_means(counts, sums, sizes)
        low, high = estimate_interval(kind, means(sums, sizes)[None], sums, sizes, drawn)
        inside.append(low[0] <= truth <= high[0])
    found.add(name, np.array(inside), 0.98)
    print(f"\n{name} (truth {truth:.3f}), {prompts} prompts: {found}", end="")
    assert not found.beyond
