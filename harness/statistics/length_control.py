"""The win rate that a judge would give if both answers were equally long. Imports no torch.

Legend of shapes: S training seeds, K systems (losses), P prompts (the clusters), M sampled answers per prompt, O = 2
orders, T repeats, R resamples.

Dubois, Galambosi, Liang & Hashimoto (2024), arXiv:2404.04475, sec. 3, without the term for the difficulty of each
prompt, which exists for their 805 prompts only, and without their cross-validated penalty. Boards call it
"length-controlled win rate, AlpacaEval style"; "AlpacaEval 2" is the number of the official prompts, baseline, judge
and model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.statistics.intervals import Floats, resample_counts
from harness.statistics.logistic import Fit, Rows, fit, judged_chances
from harness.statistics.verdicts import JudgedSample, both_orders, mean_of_known

NAME = "length-controlled win rate, AlpacaEval style"


@dataclass(frozen=True, kw_only=True)
class LengthControlled:
    """The chance of winning at equal length, and what length does."""

    sample: JudgedSample
    """Its numbers are chances at dL = 0; a system with a reason below has NaN."""
    effect: Floats
    """(S, K): phi, the log-odds that tanh(dL / std dL) = 1 adds: what a much longer answer gains with this judge."""
    extrapolated: tuple[bool, ...]
    """K: in some seed every answer is longer than its rival, or every one shorter: dL = 0 lies outside the data."""
    reasons: tuple[str, ...]
    """K: why a system has no number; empty where it has one."""


def length_controlled_win_rate(
    preference_SKPMOT: Floats, longer_SKPM: Floats, resamples: int = 2000, seed: int = 0
) -> LengthControlled:
    """Return each system's chance of winning at equal length: sigmoid(theta).

    logit P = theta + phi tanh(dL / std dL), fitted to each system and seed. `longer_SKPM`: dL, by how many characters
    the system's answer is longer than its rival's. std is that of the comparisons of a system and seed (n - 1), and the
    same in all resamples: it scales phi and leaves P at dL = 0 alone. An outcome is a comparison's mean over both
    orders; a prompt weighs 1, shared among its samples. Where every answer has its rival's length (std 0, dL 0) the
    number is the win rate, moved by half a win and half a defeat (`logistic`). A system has no number if it has none in
    some seed.
    """
    outcome_SKPM = both_orders(preference_SKPMOT)
    seeds, systems, prompts, _ = outcome_SKPM.shape
    counts = resample_counts(prompts, resamples, seed)
    theta, phi = np.full((2, seeds, systems), np.nan)
    drawn, pulls = np.full((seeds, resamples, systems), np.nan), np.full((seeds, prompts, systems), np.nan)
    reasons, extrapolated = [], []
    for k in range(systems):
        longer = [np.where(np.isfinite(outcome_SKPM[s, k]), longer_SKPM[s, k], np.nan) for s in range(seeds)]
        reasons.append(next(filter(None, map(_why_not, longer)), ""))
        extrapolated.append(not reasons[k] and any(map(_lies_outside, longer)))
        for s in range(0 if reasons[k] else seeds):
            one = _fitted(outcome_SKPM[s, k], longer[s], counts)
            theta[s, k], phi[s, k] = one.coefficients
            drawn[s, :, k], pulls[s, :, k] = one.resampled[:, 0], one.pulls[:, 0]
    return LengthControlled(
        sample=judged_chances(theta, drawn, pulls, mean_of_known(outcome_SKPM, -1)),
        effect=phi,
        extrapolated=tuple(extrapolated),
        reasons=tuple(reasons),
    )


def _fitted(outcome_PM: Floats, longer_PM: Floats, counts_RP: NDArray[np.uint16]) -> Fit:
    """Return the model of one system and seed; its columns are theta and phi."""
    known = np.isfinite(longer_PM) & np.isfinite(outcome_PM)
    prompt, _ = np.nonzero(known)
    longer = longer_PM[known]
    scale = longer.std(ddof=1) if len(longer) > 1 else 0.0
    relative = np.tanh(longer / scale) if scale > 0 else np.zeros(len(longer))
    return fit(
        Rows(
            design=np.column_stack([np.ones(len(longer)), relative]),
            outcome=outcome_PM[known],
            weight=1 / known.sum(1)[prompt],
            prompt=prompt,
        ),
        counts_RP,
    )


def _why_not(longer_PM: Floats) -> str:
    """Return why a system has no number in a seed, or nothing."""
    longer = longer_PM[np.isfinite(longer_PM)]
    if not len(longer):
        return "no comparison has a verdict in both orders"
    if np.ptp(longer) == 0 and longer[0] != 0:
        return f"every answer is {longer[0]:+g} characters from its rival: length cannot be told from the loss"
    return ""


def _lies_outside(longer_PM: Floats) -> bool:
    """Return whether every answer is longer than its rival, or every one shorter."""
    longer = longer_PM[np.isfinite(longer_PM)]
    return bool((longer > 0).all() or (longer < 0).all())
