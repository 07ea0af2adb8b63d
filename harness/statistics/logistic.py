"""Logistic regression on preferences, fitted again on every resample of prompts at once. Imports no torch.

Legend of shapes: n rows, D coefficients, P prompts (the clusters), R resamples.

A row has an outcome from 0 to 1. An outcome of 0.7 is a win of weight 0.7 and a defeat of weight 0.3 in the same place,
which gives the same likelihood. Every coefficient gets one row more, of weight 1: half a win and half a defeat there
alone (log-F(1, 1) prior: Greenland & Mansournia 2015, Statistics in Medicine 34, 3133-3143, sec. 3). It keeps estimates
finite where all outcomes are wins, or some value parts wins from defeats, in the data or in a resample of it, and makes
a coefficient 0 where nothing tells. Of 200 wins of 200 a single coefficient says 200.5 of 201, the mean under Jeffreys'
prior; where wins and defeats mix, it moves a chance by some 1 / n towards 1/2, a fraction of its standard error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harness.statistics.intervals import TIE, Floats
from harness.statistics.proportions import effective_examples, exact_interval, few_errors
from harness.statistics.verdicts import JudgedSample, judged

AT_ONCE = 100_000
"""Products of a resample and a row held at once, few enough for the cache: 1,000 resamples of 200 rows take 10 ms, and
23 ms with twenty times as many."""
STEPS, LONGEST, CLOSE = 200, 2.0, 1e-9
"""Newton steps at most, the longest step of a coefficient (log-odds), and the step at which a fit is done."""


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What a model is fitted to."""

    design: Floats
    """(n, D)"""
    outcome: Floats
    """(n,): from 0 to 1."""
    weight: Floats
    """(n,): the weights of a prompt's rows sum to what the prompt weighs."""
    prompt: NDArray[np.int64]
    """(n,): the prompt of each row, from 0."""


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Coefficients in log-odds per unit of their column."""

    coefficients: Floats
    """(D,)"""
    resampled: Floats
    """(R, D)"""
    pulls: Floats
    """(P, D): how far a prompt that counts once more moves the coefficients, to first order; centred, so sums to 0."""


def fit(rows: Rows, counts_RP: NDArray[np.uint16]) -> Fit:
    """Return the model of all rows and of each resample, in which prompt p counts `counts_RP[r, p]` times."""
    columns = rows.design.shape[1]
    products, (above, beside) = _products(rows.design), np.triu_indices(columns)
    coefficients = _newton(rows, products, rows.weight[None], np.zeros((1, columns)))[0]
    chunk = max(1, AT_ONCE // max(len(rows.outcome), 1))
    resampled = np.empty((len(counts_RP), columns))
    for start in range(0, len(counts_RP), chunk):
        weights = counts_RP[start : start + chunk, rows.prompt] * rows.weight
        begin = np.broadcast_to(coefficients, (len(weights), columns))
        resampled[start : start + chunk] = _newton(rows, products, weights, begin)
    chance = _expit(rows.design @ coefficients)
    information = np.empty((columns, columns))
    information[above, beside] = information[beside, above] = (rows.weight * chance * (1 - chance)) @ products
    own = _expit(coefficients)
    information[np.diag_indices(columns)] += own * (1 - own)
    pull = np.zeros((counts_RP.shape[1], columns))
    np.add.at(pull, rows.prompt, (rows.weight * (rows.outcome - chance))[:, None] * rows.design)
    pulls = np.linalg.solve(information, pull.T).T
    return Fit(coefficients=coefficients, resampled=resampled, pulls=pulls - pulls.mean(0))


def judged_chances(
    coefficients_SK: Floats, resampled_SRK: Floats, pulls_SPK: Floats, scores_SKP: Floats
) -> JudgedSample:
    """Return the chances sigmoid(coefficient), mean over seeds, of what was fitted to each seed; NaN where that is.

    The pseudo-values chance + P * chance * (1 - chance) * pull average to the chance and, resampled, are the fits of
    the resamples to first order: by them systems are compared. The interval is that of every mean, from the resampled
    fits. `scores_SKP`: of each prompt, NaN where it has none. Where fewer than ten prompts have a defeat, or a win, or
    all scores are the same, a bootstrap sees too little (with 200 prompts and a chance of 0.98 it covers 91 %): the
    interval is then at least the exact one of as many prompts as the pseudo-values are worth, and of no more than there
    are.
    """
    chance_SK = _expit(coefficients_SK)
    pseudo = chance_SK[:, None] + pulls_SPK.shape[1] * (chance_SK * (1 - chance_SK))[:, None] * pulls_SPK
    sums = np.ascontiguousarray(pseudo.mean(0).T)
    sizes, known = np.ones(sums.shape), np.asarray(np.isfinite(scores_SKP).all(0))
    found = judged(chance_SK, sums, sizes, _expit(resampled_SRK).mean(0), "mean")
    scores = np.where(known, scores_SKP, 0.0).mean(0)
    alike = np.where(known, scores, -np.inf).max(1) - np.where(known, scores, np.inf).min(1) < TIE
    few = few_errors(scores, known.astype(np.float64)) | alike
    exact = exact_interval(sums, sizes, np.minimum(effective_examples(sums, sizes), known.sum(1)))
    return replace(
        found,
        low=np.where(few, np.minimum(found.low, exact[0]), found.low),
        high=np.where(few, np.maximum(found.high, exact[1]), found.high),
    )


def is_told_apart(design: Floats) -> bool:
    """Return whether the data tell the effects of the columns apart; a column of zeros has none and does not count."""
    some = design[:, (design != 0).any(0)]
    return not some.shape[1] or int(np.linalg.matrix_rank(some)) == some.shape[1]


def _newton(rows: Rows, products: Floats, weights_Rn: Floats, begin_RD: Floats) -> Floats:
    """Return the coefficients that maximise each row's weighted likelihood and prior, (R, D)."""
    found, columns = begin_RD.copy(), begin_RD.shape[1]
    (above, beside), diagonal = np.triu_indices(columns), np.arange(columns)
    information = np.empty((len(found), columns, columns))
    for _ in range(STEPS):
        chance, own = _expit(found @ rows.design.T), _expit(found)
        slope = (weights_Rn * (rows.outcome - chance)) @ rows.design + 0.5 - own
        curved = (weights_Rn * chance * (1 - chance)) @ products
        information[:, above, beside] = information[:, beside, above] = curved
        information[:, diagonal, diagonal] += own * (1 - own)
        step = np.linalg.solve(information, slope[..., None])[..., 0]
        size = np.abs(step).max(1, initial=0.0, keepdims=True)
        found += step * np.minimum(1.0, LONGEST / np.maximum(size, CLOSE))
        if size.max(initial=0.0) < CLOSE:
            return found
    raise AssertionError(f"a fit moves by {size.max():.2g} after {STEPS} Newton steps; expected less than {CLOSE}")


def _products(design: Floats) -> Floats:
    """Return the products of every two columns, (n, D (D + 1) / 2)."""
    above, beside = np.triu_indices(design.shape[1])
    return np.asarray(design[:, above] * design[:, beside])


def _expit(values: Floats) -> Floats:
    from scipy.special import expit

    return np.asarray(expit(values))
