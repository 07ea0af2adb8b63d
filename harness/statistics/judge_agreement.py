"""How far a judge agrees with itself, with its own verdict when the answers change places, and with another judge.

Legend of shapes: S training seeds, K systems (losses), P prompts (the clusters), M sampled answers per prompt, O = 2
orders, T repeats, R resamples. Verdicts as in `verdicts`. Imports no torch.

Why intervals resample prompts alone. The judge's mood on one prompt has nothing to do with that on another, so it is in
the spread of the prompts' scores already, as large as it is in their means over T repeats: a bootstrap of prompts
carries it (Davison & Hinkley 1997, sec. 3.8: of a clustered sample, resample clusters and leave what is within them).
Resampling the repeats of a prompt as well counts it again: of a judge that is all noise, asked twice, such an interval
is 1.2 times as wide and covers 98 % of truths. What repeats add is knowledge of it: `judge_noise` says which part of an
interval more of them would take away.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from harness.statistics.intervals import Floats, one_seed_interval, resample_counts
from harness.statistics.proportions import proportion_interval
from harness.statistics.rank_correlations import kendall_examples
from harness.statistics.verdicts import mean_of_known


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """Two readings of the same questions: win, tie or defeat."""

    share: float
    """Of the questions that both read: how many have the same outcome; NaN where there are none."""
    low: float
    high: float
    """95 % interval over prompts."""
    kappa: float
    """Cohen's kappa: (share - chance) / (1 - chance); NaN where both have one and the same outcome throughout."""
    kappa_low: float
    kappa_high: float
    """95 % interval over prompts; NaN where it has no spread or some resamples have no kappa."""
    questions: int
    """How many both read."""


def self_agreement(preference_SKPMOT: Floats, resamples: int = 10_000, seed: int = 0) -> Agreement:
    """Return the agreement of a judge's repeats with each other, over all pairs of repeats of a question.

    A question is a prompt, sample and order of a system; each counts once, whatever the number of its pairs. As either
    repeat of a pair may be called the first, both margins are the same, and kappa is Scott's pi.
    """
    outcomes = _outcomes(preference_SKPMOT)  # (S, K, P, M, O, T, 3)
    each = outcomes.sum(-2)
    times = each.sum(-1)
    pairs = each[..., :, None] * each[..., None, :] - each[..., :, None] * np.eye(3)
    per_question = pairs / np.maximum(times * (times - 1), 1)[..., None, None]
    return _agreement(per_question.sum((0, 1, 3, 4)), int((times > 1).sum()), resamples, seed)


def judges_agreement(one_SKPMOT: Floats, other_SKPMOT: Floats, resamples: int = 10_000, seed: int = 0) -> Agreement:
    """Return the agreement of two judges about the same questions; of repeats, their mean is a judge's verdict.

    The two may have asked a different number of times. Questions that one of them could not read are left out.
    """
    one, other = (_outcomes(mean_of_known(verdicts, -1)) for verdicts in (one_SKPMOT, other_SKPMOT))
    both = one[..., :, None] * other[..., None, :]  # (S, K, P, M, O, 3, 3)
    return _agreement(both.sum((0, 1, 3, 4)), int(both.sum()), resamples, seed)


def rankings_agreement(one_K: Floats, other_K: Floats) -> float:
    """Return Kendall's tau-b of the numbers that two judges give the same losses; NaN where one ties them all.

    It has no interval: the losses are no sample, and how sure each rank is, the rank ranges say.
    """
    known = np.isfinite(one_K) & np.isfinite(other_K)
    tau = kendall_examples(one_K[known], other_K[known])
    return float(tau.mean()) if len(tau) else float("nan")


def first_place(preference_SKPMOT: Floats) -> tuple[float, float, float]:
    """Return the judge's mean preference for the answer shown first, with its 95 % interval; 0.5: none for a place.

    Over the comparisons with a verdict in both orders, all systems together; prompts are the clusters.
    """
    of_order = mean_of_known(preference_SKPMOT, -1)
    first = (of_order[..., 0] + 1 - of_order[..., 1]) / 2  # (S, K, P, M)
    known = np.isfinite(first)
    sums = np.where(known, first, 0.0).sum((0, 1, 3))[None]
    sizes = known.sum((0, 1, 3)).astype(np.float64)[None]
    low, high = proportion_interval(sums, sizes)
    return float(sums.sum() / sizes.sum()) if sizes.any() else float("nan"), float(low[0]), float(high[0])


def judge_noise(preference_SKPMOT: Floats) -> Floats:
    """Return the part of each system's squared standard error that is the judge's changing its mind, (K,), 0 to 1.

    The mean over prompts of the variance of a prompt's score given its answers, from the spread of repeats, over the
    variance of the scores over prompts. With ever more repeats an interval of one seed would shrink by the factor
    sqrt(1 - part). NaN where no question was read twice.
    """
    known = ~np.isnan(preference_SKPMOT)
    times = known.sum(-1)
    mean = mean_of_known(preference_SKPMOT, -1)
    away = np.where(known, preference_SKPMOT - mean[..., None], 0.0)
    of_mean = np.where(times > 1, (away**2).sum(-1) / np.maximum(times - 1, 1) / np.maximum(times, 1), np.nan)
    seeds, samples = mean.shape[0], mean.shape[3]
    of_scores = mean_of_known(np.moveaxis(of_mean, 1, 0).reshape(mean.shape[1], -1), 1) / (2 * samples * seeds)
    scores = mean_of_known(mean.mean(-1), -1).mean(0)  # (K, P)
    spread = np.array([of[np.isfinite(of)].var(ddof=1) if np.isfinite(of).sum() > 1 else np.nan for of in scores])
    return np.asarray(np.minimum(of_scores / np.where(spread > 0, spread, np.nan), 1.0))


def _outcomes(preference: Floats) -> Floats:
    """Return the outcome of each verdict one-hot, (..., 3): defeat, tie, win; zeros where it is NaN."""
    return np.stack([preference < 0.5, preference == 0.5, preference > 0.5], axis=-1).astype(np.float64)


def _agreement(tables_P33: Floats, questions: int, resamples: int, seed: int) -> Agreement:
    """Return the agreement that the prompts' summed tables of outcomes have (Cohen 1960)."""
    prompts, total = len(tables_P33), tables_P33.sum(0)
    sizes = tables_P33.sum((1, 2))
    same = np.trace(tables_P33, axis1=1, axis2=2)
    share = float(same.sum() / sizes.sum()) if sizes.any() else float("nan")
    low, high = proportion_interval(same[None], sizes[None])
    drawn = resample_counts(prompts, resamples, seed) @ tables_P33.reshape(prompts, 9)
    kappas = _kappa(drawn.reshape(-1, 3, 3))
    kappa = _kappa(total[None])
    ends = np.full(2, np.nan)
    left_out = _kappa(total - tables_P33)
    if prompts > 1 and np.isfinite(kappas).all() and np.isfinite(left_out).all() and np.ptp(kappas) > 0:
        ends = np.concatenate(one_seed_interval(kappas[:, None], kappa, left_out[None]))
    return Agreement(
        share=share,
        low=float(low[0]),
        high=float(high[0]),
        kappa=float(kappa[0]),
        kappa_low=float(ends[0]),
        kappa_high=float(ends[1]),
        questions=questions,
    )


def _kappa(tables_R33: Floats) -> Floats:
    """Return Cohen's kappa of each table, (R,); NaN where chance alone would agree throughout."""
    total = tables_R33.sum((1, 2))
    total = np.where(total > 0, total, np.nan)
    same = np.trace(tables_R33, axis1=1, axis2=2) / total
    chance = (tables_R33.sum(1) * tables_R33.sum(2)).sum(1) / total**2
    return np.asarray((same - chance) / np.where(chance < 1 - 1e-12, 1 - chance, np.nan))
