"""The strength of every loss in one model of all verdicts, at equal style: Bradley-Terry with style control.

Legend of shapes: n battles, S training seeds, K systems (losses) beside the base, P prompts (the clusters), M sampled
answers per prompt, O = 2 orders, T repeats, R resamples.

logit P(first wins) = strength of first - strength of second + style differences times the judge's liking for each
(Bradley & Terry 1952; with style: Li, Angelopoulos & Chiang 2024, the LMSYS blog of 29 August 2024). The base has
strength 0. Boards call it "Bradley-Terry with style control, Arena-Hard style"; "Arena-Hard" is the number of the
official prompts, baseline and judge. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.statistics.estimate_interval import estimate_interval
from harness.statistics.intervals import Floats, resample_counts
from harness.statistics.logistic import Fit, Rows, fit, is_told_apart, judged_chances
from harness.statistics.style import FEATURES, style_differences
from harness.statistics.verdicts import JudgedSample, both_orders

NAME = "Bradley-Terry with style control, Arena-Hard style"


@dataclass(frozen=True, kw_only=True)
class Battles:
    """Verdicts between two systems each, of one training seed; system 0 is the base, 1 to K are the losses."""

    prompt: NDArray[np.int64]
    """(n,): from 0."""
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    """(n,) each: which system; first and second only say which of them the preference is for."""
    preference: Floats
    """(n,): for the first's answer, from 0 to 1, a tie 0.5; mean over both orders."""
    style_first: Floats
    style_second: Floats
    """(n, 4) each: the counts of `FEATURES`."""
    weight: Floats
    """(n,): 1 shared among the samples of a prompt between the same two systems."""


@dataclass(frozen=True, kw_only=True)
class BradleyTerry:
    """Every loss's chance against the base at equal style, and what the judge likes."""

    sample: JudgedSample
    """(K) the losses, without the base; NaN where there is a reason."""
    liking: Floats
    """(4,): log-odds that one standard deviation more of each of `FEATURES` adds; 0 where no answers differ in it."""
    liking_low: Floats
    liking_high: Floats
    """(4,) each: 95 % interval."""
    reasons: tuple[str, ...]
    """K: why a loss has no number; empty where it has one."""


def against_base(preference_SKPMOT: Floats, style_SKPM4: Floats, base_style_PM4: Floats) -> tuple[Battles, ...]:
    """Return the battles of each seed's losses against the base; a comparison without both orders is none."""
    outcome_SKPM = both_orders(preference_SKPMOT)
    found = []
    for outcome_KPM, style_KPM4 in zip(outcome_SKPM, style_SKPM4, strict=True):
        known = np.isfinite(outcome_KPM)
        system, prompt, sample = np.nonzero(known)
        found.append(
            Battles(
                prompt=prompt,
                first=system + 1,
                second=np.zeros_like(system),
                preference=outcome_KPM[known],
                style_first=style_KPM4[known],
                style_second=base_style_PM4[prompt, sample],
                weight=1 / known.sum(2)[system, prompt],
            )
        )
    return tuple(found)


def bradley_terry(
    battles: Sequence[Battles], systems: int, prompts: int, resamples: int = 2000, seed: int = 0
) -> BradleyTerry:
    """Return the chance of each of `systems` losses against the base at equal style, from the battles of each seed.

    Style differences are z-scored with every battle read both ways round, so that their mean is 0 and equal style stays
    equal: divided by their root mean square. (Arena-Hard reads a battle from the model's side only and subtracts the
    mean difference, so its chances are those at the average difference to the baseline.) Resamples draw prompts, with
    all battles on them.
    """
    differences = [style_differences(one.style_first, one.style_second) for one in battles]
    scale = np.sqrt((np.concatenate(differences) ** 2).mean(0))
    scale = np.where(scale > 0, scale, 1.0)
    designs = [
        np.column_stack([_sides(one, systems), apart / scale]) for one, apart in zip(battles, differences, strict=True)
    ]
    reasons = _reasons(designs, systems)
    counts = resample_counts(prompts, resamples, seed)
    fits = [_fitted(one, design, counts) for one, design in zip(battles, designs, strict=True)]
    coefficients = np.stack([one.coefficients for one in fits])
    drawn, pulls = np.stack([one.resampled for one in fits]), np.stack([one.pulls for one in fits])
    without = np.array([bool(reason) for reason in reasons])
    strength = np.where(without, np.nan, coefficients[:, :systems])
    scores = np.stack([_scores(one, systems, prompts) for one in battles])
    liking, pseudo = coefficients[:, systems:], (coefficients[:, None] + prompts * pulls)[..., systems:]
    sums = np.ascontiguousarray(pseudo.mean(0).T)
    low, high = estimate_interval("mean", liking, sums, np.ones(sums.shape), drawn[..., systems:].mean(0))
    return BradleyTerry(
        sample=judged_chances(strength, np.where(without, np.nan, drawn[..., :systems]), pulls[..., :systems], scores),
        liking=liking.mean(0),
        liking_low=low,
        liking_high=high,
        reasons=reasons,
    )


def _sides(battles: Battles, systems: int) -> Floats:
    """Return +1 for the first and -1 for the second system of each battle, (n, K); the base has no column."""
    sides = np.zeros((len(battles.prompt), systems + 1))
    np.add.at(sides, (np.arange(len(sides)), battles.first), 1.0)
    np.add.at(sides, (np.arange(len(sides)), battles.second), -1.0)
    return sides[:, 1:]


def _fitted(battles: Battles, design: Floats, counts_RP: NDArray[np.uint16]) -> Fit:
    return fit(Rows(design=design, outcome=battles.preference, weight=battles.weight, prompt=battles.prompt), counts_RP)


def _scores(battles: Battles, systems: int, prompts: int) -> Floats:
    """Return each loss's mean preference on each prompt, over its battles there, (K, P); NaN where it has none."""
    won, fought = np.zeros((2, systems + 1, prompts))
    for side, preference in ((battles.first, battles.preference), (battles.second, 1 - battles.preference)):
        np.add.at(won, (side, battles.prompt), battles.weight * preference)
        np.add.at(fought, (side, battles.prompt), battles.weight)
    return np.asarray((won / np.where(fought > 0, fought, np.nan))[1:])


def _reasons(designs: Sequence[Floats], systems: int) -> tuple[str, ...]:
    """Return why each loss has no number, or nothing."""
    if not all(map(is_told_apart, designs)):
        why = f"the losses cannot be told from the {', '.join(FEATURES)} of their answers, or not from each other"
        return (why,) * systems
    fought = [(design[:, :systems] != 0).any(0) for design in designs]
    return tuple("" if all(of[k] for of in fought) else "it has no battle" for k in range(systems))
