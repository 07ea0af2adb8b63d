"""How well a reward orders the several scored responses of a prompt: one number a prompt. Imports no torch.

Legend of shapes: n responses, P prompts, L responses of the longest list; shorter lists are padded with NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.statistics.intervals import Floats, numbered

MIN_LIST = 3
"""Fewer scored responses of one prompt give no rank correlation within it."""
NDCG_AT = 10
"""The k of NDCG@k: lists of up to ten responses count whole."""


@dataclass(frozen=True, kw_only=True)
class Lists:
    """Rewards and annotation scores of the responses that have both, a row a prompt."""

    prompt: NDArray[np.object_]
    """(P,) ids; a prompt without a usable response has an empty list."""
    reward_PL: Floats
    score_PL: Floats
    sizes: NDArray[np.int64]
    """(P,)"""


def lists(prompt: NDArray[np.object_], reward: Floats, score: Floats) -> Lists:
    """Return the lists of responses, from `prompt`, `reward` and `score` a response, (n,) each."""
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


def correlations(one: Lists) -> tuple[Floats, Floats]:
    """Return Spearman's rho and Kendall's tau-b of reward and score within each prompt, (P,) each.

    Mid-ranks for ties; NaN with fewer than `MIN_LIST` responses or a constant side. The signs of all differences,
    (P, L, L), give both: a centred mid-rank is half the sum of a response's signs (Kendall 1970, "Rank Correlation
    Methods", ch. 2-3).
    """
    signs = [np.nan_to_num(np.sign(each[:, :, None] - each[:, None, :])) for each in (one.reward_PL, one.score_PL)]
    flat = [sign.reshape(len(sign), int(np.prod(sign.shape[1:]))) for sign in signs]
    found = []
    for x, y in ([sign.sum(2) for sign in signs], flat):
        scale = np.sqrt((x**2).sum(1) * (y**2).sum(1))
        valid = (one.sizes >= MIN_LIST) & (scale > 0)
        found.append(np.where(valid, (x * y).sum(1) / np.where(valid, scale, 1.0), np.nan))
    return found[0], found[1]


def ndcg(one: Lists, k: int = NDCG_AT) -> Floats:
    """Return NDCG@k of each prompt's responses in the order of their rewards, (P,): 1 is the order of the scores.

    Discounted gain over the ideal one, discount 1 / log2(1 + rank) (Jaervelin & Kekaelaeinen 2002). The gain is the
    score above the prompt's lowest: linear, so that neither scale nor origin of the scores matters (exponential gains
    are for grades of 0 to 4 and explode on scores out of 100). Tied rewards give the mean over their orders (McSherry &
    Najork 2008); a random order does not give 0. NaN where a prompt's scores are all equal, or there are fewer than 2.
    """
    gain_PL = np.nan_to_num(one.score_PL - _lowest(one.score_PL)[:, None])
    places = np.arange(1, one.score_PL.shape[1] + 1)
    until = np.r_[0.0, np.cumsum(np.where(places <= k, 1 / np.log2(1 + places), 0.0))]
    got, ideal = ((_mean_discount(by, until) * gain_PL).sum(1) for by in (one.reward_PL, one.score_PL))
    return np.where(ideal > 0, got / np.where(ideal > 0, ideal, 1.0), np.nan)


def best_of_n(one: Lists) -> Floats:
    """Return what picking each prompt's response of most reward gains, (P,): 1 the best one's score, 0 the mean score.

    (score of the pick - mean score) / (highest score - mean score) over the n responses of the list: reranking by the
    reward, as best-of-n sampling does (Stiennon et al. 2020, arXiv:2009.01325), on given responses. Below 0: a random
    pick is better. Tied picks count their mean. NaN where a prompt's scores are all equal, or there are fewer than 2.
    """
    with np.errstate(invalid="ignore"):
        top_PL = one.reward_PL >= -_lowest(-one.reward_PL)[:, None]
    number = np.maximum(one.sizes, 1)
    mean = np.nan_to_num(one.score_PL).sum(1) / number
    pick = np.where(top_PL, np.nan_to_num(one.score_PL), 0.0).sum(1) / np.maximum(top_PL.sum(1), 1)
    room = -_lowest(-one.score_PL) - mean
    some = (one.sizes > 1) & (room > 1e-12)
    return np.where(some, (pick - mean) / np.where(some, room, 1.0), np.nan)


def _lowest(values_PL: Floats) -> Floats:
    """Return the lowest value of each list, (P,); infinity for an empty one."""
    return np.asarray(np.where(np.isnan(values_PL), np.inf, values_PL).min(1, initial=np.inf))


def _mean_discount(by_PL: Floats, until: Floats) -> Floats:
    """Return the discount of each response, (P, L), mean over the places of those that tie with it.

    `until` (L + 1,): the sum of the discounts of the first places.
    """
    with np.errstate(invalid="ignore"):
        above = (by_PL[:, None, :] > by_PL[:, :, None]).sum(2)
        tied = (by_PL[:, None, :] == by_PL[:, :, None]).sum(2)
    return np.where(tied > 0, (until[above + tied] - until[above]) / np.maximum(tied, 1), 0.0)
