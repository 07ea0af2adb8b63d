"""Intervals of shares, and of paired differences of shares, from cluster sums alone. Imports no torch.

Legend of shapes: P prompts (the clusters), K columns (systems, or simulated draws), n examples.

An example's value is 1, 1/2 or 0, or a mean of such values over seeds and models; of a difference, two of them
subtracted. Near 0 and 1 few prompts tell, and a bootstrap sees only what happened: at an accuracy of 0.98, of 40
prompts with two pairs, its 95 % intervals cover 75 % and a quarter of them have no width. So shares have the exact
binomial interval, and differences Tango's score interval, of as many independent examples as the prompts are worth: n
over the design effect, which is 1 where the pairs of a prompt have nothing in common, and m where all m are alike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.statistics.intervals import Floats

DOUBT = 0.2
"""Weight of "each prompt counts once" where two prompts show how alike their pairs are; its square with three, and so
on. About how often a prompt of alike pairs that has a wrong one has only one: 0.14 of 20 pairs, 0.19 of 10 pairs whose
outcomes correlate by 0.8 (beta-binomial)."""
FEW = 10
"""Fewer prompts with a wrong (or a right) pair are few errors to judge by."""
SAME = 1e-9
"""Sums of values closer than this count as equal."""
STEPS = 60
"""Halvings of an interval that find an end of a score interval."""


def proportion_interval(sums: Floats, sizes: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """Return (low, high), (K,) each, of shares: Clopper & Pearson (1934) at the effective number of examples.

    `sums`, `sizes`: (K, P). After Korn & Graubard (1998), Survey Methodology 24, 193-201; but instead of Student's
    quantile, which allows for the noise of the design effect as if errors were many, that effect is taken one standard
    error above its estimate. With one right or wrong pair per prompt this is the exact binomial interval.
    The score interval (Wilson 1927) covers 92 % at an accuracy of 0.99 with 100 such prompts, this one 98 %.
    """
    return exact_interval(sums, sizes, effective_examples(sums, sizes), level)


def exact_interval(sums: Floats, sizes: Floats, examples: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """Return (low, high), (K,) each, of the shares sums / sizes as if seen on so many independent `examples`, (K,)."""
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    n = sizes.sum(-1)
    known = n > 0
    right = sums.sum(-1) / np.where(known, n, np.nan) * examples
    wrong = examples - right
    low = betaincinv(np.where(right > SAME, right, 1.0), wrong + 1, tail)
    high = betaincinv(right + 1, np.where(wrong > SAME, wrong, 1.0), 1 - tail)
    return (
        np.where(known, np.where(right > SAME, low, 0.0), np.nan),
        np.where(known, np.where(wrong > SAME, high, 1.0), np.nan),
    )


def effective_examples(sums: Floats, sizes: Floats) -> Floats:
    """Return the number of independent examples that shares are worth, (K,); `sums`, `sizes`: (K, P).

    The design effect is the variance over prompts (ratio estimator: Cochran 1977, eq. 6.10) over share * (1 - share) /
    n (Kish 1965, sec. 8.2). Where all examples are right, or wrong, or tied, nothing shows how alike those of a prompt
    are: each prompt counts once.
    """
    n = sizes.sum(-1)
    share = sums.sum(-1) / np.where(n > 0, n, np.nan)
    apart = sums - share[:, None] * sizes
    telling = np.minimum((np.abs(apart) > SAME).sum(-1), _fewest(sums, sizes))
    binomial = np.where(telling > 0, share * (1 - share), np.nan)[:, None]
    square, expected = apart**2, (1 - 2 * share)[:, None] * apart + binomial * sizes
    return _effective(square, expected, sizes, telling)


def few_errors(sums: Floats, sizes: Floats) -> NDArray[np.bool_]:
    """Return whether fewer than ten prompts have a wrong example, or fewer than ten a right one, (K,)."""
    return _fewest(sums, sizes) < FEW


def difference_interval(sums: Floats, sizes: Floats, level: float = 0.95) -> tuple[Floats, Floats]:
    """Return (low, high), (K,) each, of paired differences of shares: Tango's score interval, clustered.

    `sums`, `sizes`: (K, P), of differences from -1 to 1. With one pair per prompt whose two outcomes are each right or
    wrong, it is that of Tango (1998), Statistics in Medicine 17, 891-908. Otherwise the design effect is sum(d^2) /
    sum(|d|) of the prompts' sums d, one standard error up; it is 1 for single discordant pairs and m where all m pairs
    of a prompt differ alike. The discordance is what gives the mean's variance over prompts at that effect. Without any
    difference each prompt counts once.
    """
    from scipy.special import ndtri

    n, size = sizes.sum(-1), np.abs(sums)
    n = np.where(n > 0, n, np.nan)
    mean, telling = sums.sum(-1) / n, (size > SAME).sum(-1)
    pairs = _effective(sums**2, size, sizes, telling)
    total = np.where(telling > 0, size.sum(-1), np.nan)
    variance = ((sums - mean[:, None] * sizes) ** 2).sum(-1) / n**2
    discordant = n * total / (sums**2).sum(-1) * variance + mean**2
    discordant = np.clip(np.where(telling > 0, discordant, 0.0), np.abs(mean), 1.0)
    up, down = (discordant + mean) / 2, (discordant - mean) / 2
    quantile = float(ndtri((1 + level) / 2))
    return -tango_high(down, up, pairs, quantile), tango_high(up, down, pairs, quantile)


def tango_high(up: Floats, down: Floats, pairs: Floats, quantile: float) -> Floats:
    """Return the upper end of Tango's (1998) interval of `up` - `down`, (K,), by bisection.

    `up`, `down`: the shares of pairs that only the first, or only the second of the two gets right, of `pairs` pairs
    (any positive number). An end is the difference D at which (up - down - D)^2 / V(D) is `quantile` squared; V(D)
    has the maximum-likelihood estimate of `down` given D (sec. 2 there).
    """
    found = up - down
    low, high = found.copy(), np.ones_like(found)
    for _ in range(STEPS):
        middle = (low + high) / 2
        b = -(up + down) + (2 - found) * middle
        c = -down * middle * (1 - middle)
        restricted = (np.sqrt(np.maximum(b**2 - 8 * c, 0.0)) - b) / 4
        inside = (found - middle) ** 2 * pairs <= quantile**2 * (2 * restricted + middle * (1 - middle))
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return np.asarray(np.where(np.isfinite(found), (low + high) / 2, np.nan))


def _effective(square: Floats, expected: Floats, sizes: Floats, telling: NDArray[np.int64]) -> Floats:
    """Return n over the design effect sum(square) / sum(expected), (K,), one standard error up; all (K, P).

    The standard error is that of a ratio over prompts. The fewer prompts are `telling` (K,), the nearer it comes to the
    effect at which each prompt counts once, sum(sizes^2) / n.
    """
    n, some = sizes.sum(-1), telling > 0
    n = np.where(n > 0, n, np.nan)
    once = (sizes**2).sum(-1) / n
    total = np.where(some, expected.sum(-1), np.nan)
    design = square.sum(-1) / total
    design = design + np.sqrt(((square - design[:, None] * expected) ** 2).sum(-1)) / total
    doubted = design + np.maximum(once - design, 0.0) * DOUBT ** np.maximum(telling - 1, 0)
    return np.asarray(n / np.where(some, doubted, once))


def _fewest(sums: Floats, sizes: Floats) -> NDArray[np.int64]:
    """Return how many prompts have a wrong example, or a right one, whichever are fewer, (K,)."""
    return np.asarray(np.minimum((sizes - sums > SAME).sum(-1), (sums > SAME).sum(-1)))
