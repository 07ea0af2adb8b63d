"""How many pairs and seeds it takes to find a difference, from the variances of a finished run. Imports no torch.

Legend of shapes: K losses, D = K (K - 1) / 2 comparisons, S seeds, P prompts.

The estimated difference of two losses over S seeds and P prompts varies by

    V(P, S) = (A + C / S) / P + B / S

A: what prompts add whatever the seed, B: what seeds add whatever the prompt, C: what a seed changes about single
prompts, all three of the paired difference (crossed random effects: Searle, Casella & McCulloch 1992, ch. 4). Boards
test with the error of `intervals.standard_errors`, which counts C twice and is rather too wide than too narrow:

    E(P, S)^2 = (A + C / S) / P + (B + C / P) / S

A difference d is found with the wanted power where d >= t(1 - alpha / 2) E + t(power) V^(1/2), Student's quantiles with
Satterthwaite's degrees of freedom (Cohen 1988, ch. 2, for one source of variance).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

from harness.api.errors import HarnessError
from harness.leaderboard.decide.comparable import Group, group_of
from harness.leaderboard.decide.estimates import Resampling, Unit, Values, comparison, samples
from harness.leaderboard.formatting import smallest_difference
from harness.run_folder.board_key import BoardKey
from harness.run_folder.manifest import known_manifest
from harness.run_folder.record import Record
from harness.run_folder.store import read_records
from harness.statistics.intervals import FEWEST_CLUSTERS, Floats, cluster_sums
from harness.statistics.metrics import METRICS

SEEDS = (3, 5, 10)
"""Numbers of seeds that the page has a row for, beside the run's own."""
POWER, ALPHA = 0.8, 0.05
"""Two-sided; what boards reckon with."""
RESAMPLES = 10_000
"""For the bar of the board's own test."""
MOST_PROMPTS, MOST_SEEDS = 10_000_000, 100
"""Where more are needed, the page says out of reach."""


@dataclass(frozen=True, kw_only=True)
class Variances:
    """What the paired differences of a run vary by, one number per comparison, (D,)."""

    prompts: Floats
    """A; with one seed A + C, which cannot be told apart."""
    seeds: Floats
    """B, the average of all comparisons where that is larger; NaN with one seed."""
    both: Floats
    """C; 0 with one seed."""
    pool: int
    """Comparisons that share their between-seed variance: K - 1."""


def power_page(run: Path, difference: float, ranked_by: str | None = None) -> str:
    """Return a page of text: what it takes to find `difference` in the ranked metric with 80 % power, 5 % two-sided.

    `run`: a finished run folder with two losses or more; `ranked_by`: by default the run's own. Raises `HarnessError`
    for a difference that is not above 0, a metric that does not rank, and a run without two losses to compare.
    """
    if not difference > 0:
        raise HarnessError(f"got --difference {difference:g}, expected a number above 0, such as 0.02; give another")
    records = read_records(run)
    manifest = known_manifest(run)
    metric = ranked_by or manifest.ranked_by
    if metric not in METRICS or METRICS[metric].direction != "higher":
        ranking = [name for name, known in METRICS.items() if known.direction == "higher"]
        raise HarnessError(f"got --ranked-by {metric}, expected one of {', '.join(ranking)}; name one of them")
    parts = [
        f"What a difference of {difference:g} in {metric} takes: {POWER:.0%} power, {ALPHA:.0%} two-sided, "
        "from this run's variances"
    ]
    by_board: dict[BoardKey, list[Record]] = {}
    for record in records:
        by_board.setdefault(record.board, []).append(record)
    for together in by_board.values():
        group = group_of(together, metric, Resampling(resamples=RESAMPLES, seed=0), manifest.models)
        several = [group.models] if len(group.models) > 1 else []
        parts += [_section(group, models, difference) for models in [*[(m,) for m in group.models], *several]]
    if not any(parts[1:]):
        raise HarnessError(
            f"{run}: got fewer than two scored losses on every model, expected two; finish the run first"
        )
    return "\n\n".join(part for part in parts if part)


def variances(influence_KSP: Floats, per_seed_KS: Floats) -> Variances:
    """Return what the differences of all pairs of K losses vary by.

    `influence_KSP`: P times what each prompt adds to the estimate of each loss and seed, mean 0; see `influence`.
    """
    first, second = np.triu_indices(len(per_seed_KS), 1)
    n_seeds, n_prompts = influence_KSP.shape[1:]
    apart_DSP = influence_KSP[first] - influence_KSP[second]
    single, mean = apart_DSP.var(2, ddof=1).mean(1), apart_DSP.mean(1).var(1, ddof=1)
    if n_seeds == 1:
        unknown = np.full(len(first), np.nan)
        return Variances(prompts=single, seeds=unknown, both=np.zeros(len(first)), pool=1)
    both = np.maximum(single - mean, 0.0) * n_seeds / (n_seeds - 1)
    between = (per_seed_KS[first] - per_seed_KS[second]).var(1, ddof=1) - both / n_prompts
    return Variances(
        prompts=np.maximum(mean - both / n_seeds, 0.0),
        seeds=np.maximum(np.maximum(between, between.mean()), 0.0),
        both=both,
        pool=len(per_seed_KS) - 1,
    )


def influence(prompt: NDArray[np.int64], value: Floats, n_prompts: int) -> Floats:
    """Return P times what each prompt adds to a mean of examples, (P,), mean 0: the ratio estimator's linearisation.

    Cochran (1977), "Sampling Techniques", eq. 6.10. Its variance over prompts, divided by P, is that of the mean.
    """
    sums, sizes = cluster_sums(prompt, value, n_prompts)
    return np.asarray((sums - sums.sum() / sizes.sum() * sizes) * n_prompts / sizes.sum())


def detectable(of: Variances, prompts: Floats, seeds: int, power: float = POWER, alpha: float = ALPHA) -> Floats:
    """Return the difference that each comparison finds with `power`, (D,), over `prompts` (D,) and `seeds`."""
    over_prompts = (of.prompts + of.both / seeds) / prompts
    if seeds == 1:
        error, spread, freedom = over_prompts, over_prompts, prompts - 1
    else:
        between = (of.seeds + of.both / prompts) / seeds
        error, spread = over_prompts + between, over_prompts + of.seeds / seeds
        unsure = between**2 / (of.pool * (seeds - 1)) + over_prompts**2 / (prompts - 1)
        freedom = np.divide(error**2, unsure, out=prompts - 1.0, where=unsure > 0)
    return np.asarray(stdtrit(freedom, 1 - alpha / 2) * np.sqrt(error) + stdtrit(freedom, power) * np.sqrt(spread))


def needed_prompts(of: Variances, difference: float, seeds: int, power: float = POWER, alpha: float = ALPHA) -> Floats:
    """Return the fewest prompts with which each comparison finds `difference`, (D,); infinity where none suffice."""
    low = np.full(of.prompts.shape, float(FEWEST_CLUSTERS))
    high = np.full(of.prompts.shape, float(MOST_PROMPTS))
    reached = detectable(of, high, seeds, power, alpha) <= difference
    while (low < high).any():
        middle = np.floor((low + high) / 2)
        enough = detectable(of, middle, seeds, power, alpha) <= difference
        low, high = np.where(enough, low, middle + 1), np.where(enough, middle, high)
        low = np.minimum(low, high)
    return np.where(reached, low, np.inf)


def needed_seeds(of: Variances, difference: float, prompts: int, power: float = POWER, alpha: float = ALPHA) -> Floats:
    """Return the fewest seeds, from 2 on, with which each comparison finds `difference` over `prompts`, (D,)."""
    fewest = np.full(of.prompts.shape, np.inf)
    for seeds in range(MOST_SEEDS, 1, -1):
        enough = detectable(of, np.full(of.prompts.shape, float(prompts)), seeds, power, alpha) <= difference
        fewest = np.where(enough, float(seeds), fewest)
    return fewest


def _section(group: Group, models: Sequence[str], difference: float) -> str:
    """Return the part of one model, or of all; empty where there is nothing to compare."""
    values = group.evidence.values.get(group.ranked_by)
    labels = [label for label in group.labels if not group.trouble(label, models)]
    per_loss = _per_seed(values, labels, models, group.seeds) if values else {}
    if values is None or len(per_loss) < 2 or values.n_prompts < 2:
        return ""
    value_KSn = np.array(list(per_loss.values()))
    of = variances(
        np.array(
            [[influence(values.prompt, value_n, values.n_prompts) for value_n in value_Sn] for value_Sn in value_KSn]
        ),
        value_KSn.mean(2),
    )
    number, n_seeds, n_prompts = len(of.prompts), len(group.seeds), values.n_prompts
    ratio = group.evidence.n_pairs / max(group.evidence.n_prompts, 1)
    ranked = {group.ranked_by: values}
    tests = comparison(
        samples(ranked, list(per_loss), models, group.seeds, group.resampling)[group.ranked_by], group.resampling
    )
    lines = [
        f"{models[0] if len(models) == 1 else 'all of ' + ', '.join(models)}: {group.evidence.n_pairs} pairs of "
        f"{group.evidence.n_prompts} prompts, {len(per_loss)} losses, {number} comparison{'s'[: number > 1]}, "
        f"seed{'s'[: n_seeds > 1]} {', '.join(map(str, group.seeds))}",
        f"  standard deviation of a paired difference: {_spread(of)}",
        f"  {smallest_difference(tests.detectable, tests.detectable_planned, number)} (median comparison)",
        "",
        f"  {'':7}{'one planned comparison':>32}{f'all {number} together':>32}",
        f"  {'seeds':7}" + f"{'median':>16}{'noisiest':>16}" * 2,
    ]
    for seeds in sorted({n_seeds, *SEEDS}) if n_seeds > 1 else (1,):
        cells = []
        for bar in (ALPHA, tests.level):
            pairs = needed_prompts(of, difference, seeds, alpha=bar) * ratio
            cells += [_pairs(float(np.median(pairs))), _pairs(float(pairs.max()))]
        lines.append(f"  {seeds:<7}" + "".join(f"{cell:>16}" for cell in cells))
    return "\n".join([*lines, "", *_remarks(of, difference, n_seeds, n_prompts)])


def _per_seed(
    values: Values, labels: Sequence[str], models: Sequence[str], seeds: Sequence[int]
) -> Mapping[str, Floats]:
    """Return the values of each loss that has all seeds and models, (S, n), mean over models."""
    per_loss = {}
    for label in labels:
        cells = [[values.units.get(Unit(label, model, seed)) for model in models] for seed in seeds]
        if all(cell is not None for row in cells for cell in row):
            per_loss[label] = np.array(cells, dtype=np.float64).mean(1)
    return per_loss


def _spread(of: Variances) -> str:
    prompts, seeds, both = (float(np.sqrt(np.median(variance))) for variance in (of.prompts, of.seeds, of.both))
    if np.isnan(seeds):
        return f"{prompts:.3g} over prompts; over seeds unknown"
    return f"{prompts:.3g} over prompts, {seeds:.3g} over seeds, {both:.3g} of a seed on a prompt (median comparison)"


def _remarks(of: Variances, difference: float, n_seeds: int, n_prompts: int) -> list[str]:
    lines = [
        "  All together: at the bar that the board's own test of all comparisons sets, from the same resamples.",
        "  Another pair of the same prompt adds less than one of a new prompt: the counts keep the pairs per prompt.",
    ]
    if n_seeds == 1:
        return [
            *lines,
            "  One seed: what seeds add is not known. These pairs tell two trained models apart, not two losses; run",
            "  three seeds or more to learn what those take.",
        ]
    seeds = float(np.median(needed_seeds(of, difference, n_prompts)))
    more = f"{seeds:.0f} seeds" if np.isfinite(seeds) else f"not even {MOST_SEEDS} seeds"
    lines.append(f"  With the pairs of this run: {more} for one planned comparison (median).")
    if n_seeds < SEEDS[1]:
        lines.append(f"  {n_seeds} seeds tell little about what seeds add: read the seed figures as rough.")
    return lines


def _pairs(number: float) -> str:
    return f"{np.ceil(number):,.0f} pairs" if np.isfinite(number) else "out of reach"
