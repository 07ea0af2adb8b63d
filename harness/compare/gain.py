"""A difference turned so that more is better, with its ends: what gate and noise floor both judge by."""

from __future__ import annotations

from scipy.special import gammaincinv

from harness.api.errors import HarnessError
from harness.compare.paired import TAIL, Difference
from harness.metrics import METRICS

RARE = 20
"""With fewer changed examples the bootstrap of a share is too sure."""


def gain(one: Difference, metric: str) -> tuple[float, float, float]:
    """Return the gain of NEW over BASE, its lower end, and the upper end that holds for all cells together.

    Of n values that each may fall by 1, of which `changed` did change, no more than the Poisson bound would have been
    expected to (97.5 %); the bootstrap does not know that.
    """
    sign = 1 if METRICS[metric].direction == "higher" else -1
    low, family_high = (one.low, one.family_high) if sign == 1 else (-one.high, -one.family_low)
    if METRICS[metric].unit == "share" and one.changed < RARE and not one.identical:
        unseen = float(gammaincinv(one.changed + 1, 1 - TAIL)) - one.changed
        low = min(low, sign * one.value - unseen / max(one.n, 1))
    return sign * one.value, low, family_high


def metric_of_use(metric: str) -> None:
    """Raise `HarnessError` for a metric of which neither way is better."""
    judged = [name for name, one in METRICS.items() if one.direction != "none"]
    if metric not in judged:
        raise HarnessError(f"got --metric {metric}, expected one of {', '.join(judged)}; name one of them")
