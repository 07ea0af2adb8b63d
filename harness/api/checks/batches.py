"""Inputs of the conformance checks: log-probs under policy and reference, and the training table beside them.

Needs torch. Legend of shapes: B pairs, T tokens (padded).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from harness.api.declarations import Domain
from harness.api.pairs import Logps, PairLogps

TEXTS = (
    ("the cat sat on the mat", "the cat sat on the mat"),  # the same text: similarity 1
    ("a red apple fell", "seven boats sailed north"),  # nothing shared: similarity 0
    ("rain is water that falls from clouds", "rain is water"),
    ("take the second street on the left", "take the first street on the right then ask"),
    ("yes", "yes it does and here is why"),
    ("two and two make four", "four is what two and two make"),
)
SCORES = ((8.0, 5.5), (6.0, 2.0), (7.0, 7.0), (3.0, 4.5), (9.5, 1.0), (5.0, 4.5))  # with a tie and a contradiction


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A batch with every input that a loss can declare."""

    pairs: PairLogps
    """Every input except the columns, which come from the table."""
    table: pd.DataFrame
    """The training pairs as `Loss.prepare` gets them, in the order of `pairs`."""


class States(NamedTuple):
    """Responses described by totals alone, (B,) each: every token of a response has the same log-prob."""

    length: np.ndarray
    sum: np.ndarray
    ref_sum: np.ndarray


def logps(rows: Sequence[Sequence[float]], dtype: torch.dtype = torch.float64) -> Logps:
    """Return the log-probs of responses, given one list of token log-probs per response and padded to the longest."""
    width = max(map(len, rows))
    mask = torch.tensor([[column < len(row) for column in range(width)] for row in rows])
    token = torch.tensor([[*row, *[0.0] * (width - len(row))] for row in rows], dtype=dtype)
    return Logps(token=token, mask=mask)


def ordinary(rng: np.random.Generator, *, pairs: int = 6, dtype: torch.dtype = torch.float64) -> Batch:
    """Return pairs of unequal lengths up to 6 tokens, every other one misranked; the reference is near the policy."""
    odd = np.arange(pairs) % 2 == 1
    chosen = _responses(rng, np.where(odd, 2.0, 0.5), rng.permutation(pairs) % 6 + 1, dtype)
    rejected = _responses(rng, np.where(odd, 0.4, 1.8), rng.permutation(pairs) % 6 + 1, dtype)
    kl = _responses(rng, np.full(pairs, 1.5), rng.permutation(pairs) % 4 + 1, dtype)
    scores = np.array([SCORES[row % len(SCORES)] for row in range(pairs)])
    return _batch(chosen, rejected, kl, scores)


def one_sided(rng: np.random.Generator, *, misranked: bool, tokens: int, pairs: int = 4) -> Batch:
    """Return pairs that are all clearly misranked (or ranked) by sum, by mean and against the reference.

    The likelier response has about -0.1 nats per token (reference -1.5), the other -3 (reference -0.5).
    """
    lengths = tokens + rng.permutation(pairs)
    likely = _responses(rng, np.full(pairs, 0.1), lengths, torch.float64, ratio=15.0)
    unlikely = _responses(rng, np.full(pairs, 3.0), lengths + rng.permutation(pairs), torch.float64, ratio=1 / 6)
    kl = _responses(rng, np.full(pairs, 1.5), lengths, torch.float64)
    chosen, rejected = (unlikely, likely) if misranked else (likely, unlikely)
    scores = np.array([[8.0, 5.5], [6.0, 2.0], [9.5, 1.0], [5.0, 4.5]])[np.arange(pairs) % 4]
    return _batch(chosen, rejected, kl, scores)


def extreme(domain: Domain, dtype: torch.dtype) -> Batch:
    """Return every pair of short responses at the corners of `domain`: certain or hopeless, for both models."""
    middle = math.ceil(domain.lowest_sum / domain.lowest_token)
    states = []
    for length, sums in ((1, (0.0, -1e-6)), (2, (0.0, -2.0)), (middle, (0.0,))):
        lowest = max(domain.lowest_sum, length * domain.lowest_token)
        for total in (*sums, lowest):
            states += [(length, total, ref_sum) for ref_sum in dict.fromkeys((0.0, total, lowest))]
    count = len(states)
    first, second = np.repeat(np.arange(count), count), np.tile(np.arange(count), count)
    return _of_states(np.array(states), first, second, dtype)


def longest(domain: Domain, dtype: torch.dtype) -> Batch:
    """Return pairs of the longest responses that `domain` allows, with each other and with a single token."""
    lowest, single = max(domain.lowest_sum, domain.longest * domain.lowest_token), domain.lowest_token
    long = [(domain.longest, lowest, 0.0), (domain.longest, 0.0, lowest), (domain.longest, lowest, lowest)]
    states = np.array([*long, (1, single, 0.0), (1, 0.0, single)])
    combinations = [(i, j) for i in range(5) for j in range(5) if min(i, j) < 3]
    first, second = np.array(combinations).T
    return _of_states(states, first, second, dtype)


def _responses(
    rng: np.random.Generator, scale: np.ndarray, lengths: np.ndarray, dtype: torch.dtype, ratio: float | None = None
) -> tuple[Logps, Logps]:
    """Return (policy, reference) log-probs of responses of about `-scale` nats per token."""
    width = int(lengths.max())
    mask = torch.from_numpy(np.arange(width) < lengths[:, None])
    token = -scale[:, None] * rng.uniform(0.4, 1.6, (len(lengths), width))
    reference = token * (rng.uniform(0.6, 1.5, token.shape) if ratio is None else ratio)
    square = np.maximum(
        2 * token, -rng.uniform(0.2, 3.0, token.shape)
    )  # at least p(token)^2, as the sum over the vocabulary is
    divergence = (token - reference) ** 2 / 4  # 0 where the two models agree
    policy = Logps(
        token=_masked(token, mask, dtype),
        mask=mask,
        log_sum_sq=_masked(square, mask, dtype),
        token_kl=_masked(divergence, mask, dtype),
    )
    return policy, Logps(token=_masked(reference, mask, dtype), mask=mask)


def _of_states(states: np.ndarray, first: np.ndarray, second: np.ndarray, dtype: torch.dtype) -> Batch:
    def side(rows: np.ndarray) -> tuple[Logps, Logps]:
        length, total, ref_sum = States(*states[rows].T)
        mask = torch.from_numpy(np.arange(int(length.max())) < length[:, None])
        token, reference = (torch.from_numpy(sums / length)[:, None].expand(mask.shape) for sums in (total, ref_sum))
        peaked = torch.from_numpy(np.arange(len(rows)) % 2 == 0)[
            :, None
        ]  # another token is all but certain, or all tokens are alike
        square = torch.maximum(2 * token, torch.where(peaked, 0.0, -11.5).double())
        square = torch.where(token == 0, 0.0, square)
        policy = Logps(
            token=_masked(token, mask, dtype),
            mask=mask,
            log_sum_sq=_masked(square, mask, dtype),
            token_kl=_masked((token - reference).abs(), mask, dtype),  # from none to all that the bounds allow
        )
        return policy, Logps(token=_masked(reference, mask, dtype), mask=mask)

    scores = np.array([(9.0, 1.0), (5.0, 5.0), (2.0, 7.0), (10.0, 0.0)])[np.arange(len(first)) % 4]
    return _batch(side(first), side(second), side(second[::-1].copy()), scores)


def _batch(
    chosen: tuple[Logps, Logps], rejected: tuple[Logps, Logps], kl: tuple[Logps, Logps], scores: np.ndarray
) -> Batch:
    count, dtype = len(scores), chosen[0].token.dtype
    texts = [TEXTS[row % len(TEXTS)] for row in range(count)]
    pairs = PairLogps(
        chosen=chosen[0],
        rejected=rejected[0],
        ref_chosen=chosen[1].sum(),
        ref_rejected=rejected[1].sum(),
        ref_tokens=(chosen[1], rejected[1]),
        ref_entropy=(_spread(count, dtype), _spread(count, dtype).flip(0)),
        kl=kl[0],
        ref_kl=kl[1].sum(),
    )
    table = pd.DataFrame(
        {
            "pair_id": [f"pair-{row}" for row in range(count)],
            "prompt_id": [f"prompt-{row // 2}" for row in range(count)],
            "prompt": [f"question {row // 2}" for row in range(count)],
            "chosen": [pair[0] for pair in texts],
            "rejected": [pair[1] for pair in texts],
            "score_chosen": scores[:, 0],
            "score_rejected": scores[:, 1],
            "chosen_tokens": chosen[0].mask.sum(-1).numpy(),
            "rejected_tokens": rejected[0].mask.sum(-1).numpy(),
            "ref_chosen": chosen[1].sum().double().numpy(),
            "ref_rejected": rejected[1].sum().double().numpy(),
        }
    )
    return Batch(pairs=pairs, table=table)


def _spread(count: int, dtype: torch.dtype) -> Tensor:
    """Return entropies from 0, a model that is certain, to 1, (count,)."""
    return (torch.arange(count) % 7 / 6).to(dtype)


def _masked(values: np.ndarray | Tensor, mask: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.where(mask, torch.as_tensor(values), 0.0).to(dtype)
