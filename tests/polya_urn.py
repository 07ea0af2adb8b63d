"""Made outcomes: pairs of a prompt that are alike to a stated degree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def urn(rng: np.random.Generator, chances: Sequence[float], sizes: np.ndarray, icc: float) -> np.ndarray:
    """Return how many pairs of each prompt have each outcome, (outcomes, *sizes.shape), from Polya's urn.

    Each pair copies an earlier one of its prompt, or is drawn anew, so that the outcomes of any two pairs correlate by
    `icc` (Dirichlet-multinomial; of two outcomes beta-binomial). `sizes`: pairs of each prompt.
    """
    counts = np.zeros((len(chances), *sizes.shape), np.int16)
    if not icc:
        left, rest = sizes.copy(), 1.0
        for k, chance in enumerate(chances[:-1]):
            counts[k] = rng.binomial(left, min(chance / rest, 1.0))
            left, rest = left - counts[k], rest - chance
        counts[-1] = left
        return counts
    new = (1 - icc) / icc
    for pair in range(int(sizes.max())):
        drawn, upto = rng.random(sizes.shape) * (new + pair), np.zeros(sizes.shape)
        open_ = sizes > pair
        for k, chance in enumerate(chances):
            upto += new * chance + counts[k]
            here = open_ & (drawn < upto) if k < len(chances) - 1 else open_
            counts[k] += here
            open_ = open_ & ~here
    return counts
