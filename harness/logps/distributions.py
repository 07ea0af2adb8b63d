"""Numbers of whole next-token distributions, for the few losses that declare them; nobody else pays for them.

They need every logit of a position at once, and of the reference too, so the rows are parted, not the vocabulary:
`KEPT` logits at a time, computed again in the backward pass. The cost of a KL is a forward pass of the reference model
at every visit, and the output head once more for both models; of an entropy, one pass of the reference model for all.

Legend of shapes: R rows (response tokens), D hidden width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

KEPT = 2**22
"""Logits of one model at a time: 16 MiB in fp32."""


class Hidden(NamedTuple):
    """What a model gives at the positions that predict a response token, before its output head."""

    state_RD: Tensor
    head: Any
    """`weight` (V, D) and `bias` (V) or None."""
    softcap: float | None

    def logp(self, rows: slice) -> Tensor:
        """Return the log-probs of the vocabulary at some rows, (rows, V) in fp32."""
        logits_RV = torch.nn.functional.linear(self.state_RD[rows], self.head.weight, self.head.bias).float()
        if self.softcap is not None:
            logits_RV = (logits_RV / self.softcap).tanh() * self.softcap
        return logits_RV.log_softmax(-1)


def divergence(policy: Hidden, reference: Hidden) -> Tensor:
    """Return KL(reference || policy) over the vocabulary at each row, (R,) fp32, with its gradient in the policy."""

    def part(rows: slice) -> Tensor:
        with torch.no_grad():
            target_RV = reference.logp(rows)
        return kl_over_vocabulary(target_RV, policy.logp(rows))

    return torch.cat([checkpoint(part, rows, use_reentrant=False, preserve_rng_state=False) for rows in _parts(policy)])


def kl_over_vocabulary(reference: Tensor, policy: Tensor) -> Tensor:
    """Return KL(reference || policy) of log-probs over the vocabulary, the last dimension."""
    return (reference.exp() * (reference - policy)).sum(-1)


def entropy_over_vocabulary(logp: Tensor) -> Tensor:
    """Return the entropy of log-probs over the vocabulary, the last dimension, divided by its largest value, log V."""
    return -(logp.exp() * logp).sum(-1) / math.log(logp.shape[-1])


def entropy(hidden: Hidden) -> Tensor:
    """Return the entropy at each row, over log V, (R,) fp32: 0 where one token is certain, 1 where all are alike."""
    return torch.cat([entropy_over_vocabulary(hidden.logp(rows)) for rows in _parts(hidden)])


def _parts(hidden: Hidden) -> Iterator[slice]:
    rows, height = len(hidden.state_RD), max(1, KEPT // len(hidden.head.weight))
    for row in range(0, rows, height):
        yield slice(row, min(rows, row + height))
