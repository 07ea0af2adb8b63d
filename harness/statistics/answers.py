"""What an answer is like, token by token: how it repeats itself. Imports no torch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def distinct(tokens: Sequence[int], n: int) -> float:
    """Return distinct-n: the share of different n-grams among all of an answer; NaN where it has none.

    Source: Li et al. 2016, "A Diversity-Promoting Objective Function", sec. 5.3 (arXiv:1510.03055), per answer.
    """
    grams = list(zip(*(tokens[start:] for start in range(n)), strict=False))
    return len(set(grams)) / len(grams) if grams else float("nan")


def longest_loop(tokens: Sequence[int]) -> int:
    """Return the tokens of the longest stretch that says one sequence of tokens twice or more in a row; 0 without one.

    `a b c b c b` has 5, from the first `b` on.
    """
    ids = np.asarray(tokens, dtype=np.int64)
    longest = 0
    for period in range(1, len(ids) // 2 + 1):
        same = np.concatenate([[False], ids[period:] == ids[:-period], [False]])
        edges = np.flatnonzero(same[1:] != same[:-1])
        runs = edges[1::2] - edges[::2]
        if len(runs) and runs.max() >= period:
            longest = max(longest, int(runs.max()) + period)
    return longest
