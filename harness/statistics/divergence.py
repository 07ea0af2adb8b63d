"""How far a policy is from its reference on the policy's own samples: two estimators of the KL divergence, in nats.

Both have the mean KL(policy || reference) of whole answers to a prompt, if answers were sampled at temperature 1 and
top-p 1: sampled otherwise, the mean is of another distribution. Source: Schulman, "Approximating KL Divergence" (2020),
whose k1 and k3 these are; the sum over tokens has the same mean by the chain rule, since r - 1 has mean 0 at each.
Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.statistics.intervals import Floats


def kl_log_ratio(policy: Sequence[Floats], reference: Sequence[Floats]) -> Floats:
    """Return per answer the summed log ratio, (answers,) nats: unbiased, of either sign.

    `policy`, `reference`: per answer the log-probs of its tokens, (tokens,) nats.
    """
    return np.array([float(np.sum(own - ref)) for own, ref in zip(policy, reference, strict=True)])


def kl_low_variance(policy: Sequence[Floats], reference: Sequence[Floats]) -> Floats:
    """Return per answer the sum of r - 1 - log r over its tokens, r = reference / policy, (answers,) nats, >= 0.

    Unbiased where the reference gives every token that the policy does not some chance as well.
    """
    sums = []
    for own, ref in zip(policy, reference, strict=True):
        log_r = ref - own
        sums.append(float(np.sum(np.expm1(log_r) - log_r)))
    return np.array(sums)
