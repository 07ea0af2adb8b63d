"""How well a reward orders the scored responses of each prompt: one number per prompt. Imports no torch.

Legend of shapes: n responses, P prompts, L responses of the longest list; shorter lists are padded with NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.statistics.intervals import Floats, numbered

MIN_LIST = 3
"""A prompt with fewer scored responses has no rank correlation."""
NDCG_AT = 10
"""The k of NDCG@k: lists of up to ten responses count in full."""


@dataclass(frozen=True, kw_only=True)
class Lists:
    """Rewards and annotation scores of the responses that have both, one row per prompt."""

    prompt: NDArray[np.object_]
    """(P,) ids; a prompt without a usable response has an empty list."""
    reward_PL: Floats
    score_PL: Floats
    sizes: NDArray[np.int64]
    """(P,) number of responses in each list."""


def lists(prompt: NDArray[np.object_], reward: Floats, score: Floats) -> Lists:
    """Return the list of each prompt, from the `prompt`, `reward` and `score` of every response, (n,) each."""
    usable = np.isfinite(score) & np.isfinite(reward)
    names, of_all = numbered(prompt)
    which = of_all[usable]
    sizes = np.bincount(which, minlength=len(names))
    order = np.argsort(which, kind="stable")
    place = np.arange(len(which)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    padded = []
    for values in (reward[usable], score[usable]):
        table_PL = np.full((len(names), int(sizes.max(initial=0))), np.nan)
        table_PL[which[order], place] = values[order]
        padded.append(table_PL)
    return Lists(prompt=np.array(names, dtype=object), reward_PL=padded[0], score_PL=padded[1], sizes=sizes)


def correlations(responses: Lists) -> tuple[Floats, Floats]:
    """Return Spearman's rho and Kendall's tau-b of reward and score within each prompt, (P,) each.

    Mid-ranks for ties; NaN with fewer than `MIN_LIST` responses or a constant side. The signs of all differences,
    (P, L, L), give both: a centred mid-rank is half the sum of a response's signs (Kendall 1970, "Rank Correlation
    Methods", ch. 2-3).
    """
    signs = [
        np.nan_to_num(np.sign(values_PL[:, :, None] - values_PL[:, None, :]))
        for values_PL in (responses.reward_PL, responses.score_PL)
    ]
    flat = [sign.reshape(len(sign), int(np.prod(sign.shape[1:]))) for sign in signs]
    coefficients = []
    for x, y in ([sign.sum(2) for sign in signs], flat):
        scale = np.sqrt((x**2).sum(1) * (y**2).sum(1))
        valid = (responses.sizes >= MIN_LIST) & (scale > 0)
        coefficients.append(np.where(valid, (x * y).sum(1) / np.where(valid, scale, 1.0), np.nan))
    return coefficients[0], coefficients[1]


def ndcg(responses: Lists, k: int = NDCG_AT) -> Floats:
    """Return NDCG@k of each prompt's responses in the order of their rewards, (P,): 1 is the order of the scores.

    The discounted gain divided by that of the ideal order, discount 1 / log2(1 + rank) (Jaervelin & Kekaelaeinen 2002).
    The gain is the score minus the prompt's lowest: linear, so that neither scale nor origin of the scores matters
    (exponential gains are for grades of 0 to 4 and explode on scores out of 100). Tied rewards give the mean over their
    orders (McSherry & Najork 2008); a random order does not give 0. NaN if a prompt's scores are all equal or fewer
    than 2.
    """
    gain_PL = np.nan_to_num(responses.score_PL - _lowest(responses.score_PL)[:, None])
    places = np.arange(1, responses.score_PL.shape[1] + 1)
    until = np.r_[0.0, np.cumsum(np.where(places <= k, 1 / np.log2(1 + places), 0.0))]
    got, ideal = ((_mean_discount(by, until) * gain_PL).sum(1) for by in (responses.reward_PL, responses.score_PL))
    return np.where(ideal > 0, got / np.where(ideal > 0, ideal, 1.0), np.nan)


def best_of_n(responses: Lists) -> Floats:
    """Return what is gained by picking each prompt's response of highest reward, (P,): 1: its best score, 0: its mean.

    (score of the pick - mean score) / (highest score - mean score) over the n responses of the list: reranking by the
    reward, as best-of-n sampling does (Stiennon et al. 2020, arXiv:2009.01325), on given responses. Below 0: a random
    pick is better. Tied picks count as their mean. NaN if a prompt's scores are all equal or fewer than 2.
    """
    with np.errstate(invalid="ignore"):
        top_PL = responses.reward_PL >= -_lowest(-responses.reward_PL)[:, None]
    number = np.maximum(responses.sizes, 1)
    mean = np.nan_to_num(responses.score_PL).sum(1) / number
    pick = np.where(top_PL, np.nan_to_num(responses.score_PL), 0.0).sum(1) / np.maximum(top_PL.sum(1), 1)
    room = -_lowest(-responses.score_PL) - mean
    some = (responses.sizes > 1) & (room > 1e-12)
    return np.where(some, (pick - mean) / np.where(some, room, 1.0), np.nan)


def _lowest(values_PL: Floats) -> Floats:
    """Return the lowest value of each list, (P,); infinity for an empty one."""
    return np.asarray(np.where(np.isnan(values_PL), np.inf, values_PL).min(1, initial=np.inf))


def _mean_discount(by_PL: Floats, until: Floats) -> Floats:
    """Return the discount of each response, (P, L): the mean over the places of the responses that tie with it.

    `until` (L + 1,): sums of the discounts of the first 0, 1, ..., L places.
    """
    with np.errstate(invalid="ignore"):
        above = (by_PL[:, None, :] > by_PL[:, :, None]).sum(2)
        tied = (by_PL[:, None, :] == by_PL[:, :, None]).sum(2)
    return np.where(tied > 0, (until[above + tied] - until[above]) / np.maximum(tied, 1), 0.0)
