"""Budgets: one number in one of five currencies, spent alike by every loss."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Literal, cast, get_args

import numpy as np

from harness.api import HarnessError, Loss

Currency = Literal["pairs", "tokens", "steps", "flops", "seconds"]
CURRENCIES: tuple[str, ...] = get_args(Currency)
FLOPS_PER_TOKEN = 6
"""And parameter: forward and backward (Kaplan et al. 2020, sec. 2.1)."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """What a cell may spend on training."""

    currency: Currency
    amount: float

    @classmethod
    def parse(cls, text: str) -> Budget:
        """Return the budget that `pairs=512`, `tokens=2e6`, `steps=100`, `flops=1e15` or `seconds=60` names."""
        currency, equals, amount_text = text.partition("=")
        currency = currency.strip()
        expected = f"expected one of {', '.join(f'{name}=N' for name in CURRENCIES)} with N > 0"
        if not equals or currency not in CURRENCIES:
            raise HarnessError(f"--budget got '{text}', {expected}; for example --budget pairs=512")
        try:
            amount = float(amount_text.replace("_", ""))
        except ValueError:
            amount = math.nan
        if not (math.isfinite(amount) and amount > 0):
            raise HarnessError(f"--budget got '{text}', {expected}; for example --budget pairs=512")
        if currency in ("pairs", "steps") and amount != int(amount):
            raise HarnessError(f"--budget got '{text}', expected a whole number of {currency}")
        return cls(currency=cast(Currency, currency), amount=amount)

    def part(self, fraction: float) -> Budget:
        """Return a fraction of the budget, in decimal arithmetic: 0.29 of 100 steps are 29."""
        return replace(self, amount=float(Decimal(str(self.amount)) * Decimal(str(fraction))))

    def __str__(self) -> str:
        whole = self.amount == int(self.amount) and self.amount < 1e15
        return f"{self.currency}={int(self.amount) if whole else self.amount}"


@dataclass(frozen=True, kw_only=True)
class Before:
    """What is spent before the first step, charged to every cell: on choosing the training pairs."""

    flops: float = 0.0
    seconds: float = 0.0

    def left_of(self, budget: Budget) -> Budget:
        """Return what a budget has left. Raises `HarnessError` where it has nothing."""
        spent = {"flops": self.flops, "seconds": self.seconds}.get(budget.currency, 0.0)
        if budget.amount <= spent:
            raise HarnessError(
                f"got --budget {budget}, expected more than the {spent:.4g} {budget.currency} that choosing the "
                "training pairs takes (--select); raise the budget, or choose in another way"
            )
        return replace(budget, amount=budget.amount - spent) if spent else budget


NOTHING_BEFORE = Before()


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one pair costs under one loss; see `pair_flops`."""

    tokens: Sequence[int]
    """Tokens of each training pair: prompt + chosen and prompt + rejected."""
    flops: Sequence[float]
    """Floating-point operations of one visit of each training pair, reference and extra passes included."""
    before: Before = NOTHING_BEFORE
    """What is spent before the first step."""


def pair_flops(
    tokens: Sequence[int],
    parameters: int,
    *,
    reference: int,
    coupled: bool,
    mismatched: Sequence[int] | None = None,
) -> list[float]:
    """Return the FLOPs of one visit of each pair: 6 N per token, forward and backward (Kaplan et al. 2020, sec. 2.1).

    N is the number of parameters. Each of the `reference` passes adds 2 N per token, the extra forward of a batch-
    coupled loss another 2 N. `mismatched` counts the tokens of prompt + mismatched response of each pair, for
    losses that need them: 2 N per token under the policy and 2 N under the reference. The products inside attention
    are left out, as in the paper; they are the same for every loss.
    """
    per_token = parameters * (FLOPS_PER_TOKEN + 2 * reference + 2 * coupled)
    beside = [0] * len(tokens) if mismatched is None else mismatched
    return [float(per_token * count + 4 * parameters * other) for count, other in zip(tokens, beside, strict=True)]


def uses_reference(loss: Loss) -> bool:
    """Return whether the start checkpoint is run over the training pairs for this loss."""
    if loss.moving_reference is not None:  # which runs beside the policy instead
        return False
    return loss.needs_reference or loss.needs_reference_tokens or loss.needs_kl or loss.needs_reference_entropy


def reference_passes(loss: Loss, coupled: bool) -> int:
    """Return how often the reference model is run over a training pair for a visit of this loss.

    Once for log-probs, once more for entropies, and once beside each forward pass of the policy where it moves, or
    where a token KL is needed: distributions are too large to keep. `coupled`: the policy has two forward passes.
    """
    return uses_reference(loss) + loss.needs_reference_entropy + runs_reference(loss) * (1 + coupled)


def runs_reference(loss: Loss) -> bool:
    """Return whether the reference model itself runs beside the policy."""
    return loss.needs_token_kl or loss.moving_reference is not None


def loss_flops(
    loss: Loss, tokens: Sequence[int], parameters: int, *, in_parts: bool, mismatched: Sequence[int] | None
) -> list[float]:
    """Return what visits of pairs with so many tokens cost under `loss`, reference and extra passes included.

    `in_parts`: an optimiser step is computed in several micro-batches, for which a batch-coupled loss needs its extra
    forward; `mismatched` as in `pair_flops`, used only for a loss that needs them.
    """
    coupled = loss.batch_coupled and in_parts
    return pair_flops(
        tokens,
        parameters,
        reference=reference_passes(loss, coupled),
        coupled=coupled,
        mismatched=mismatched if loss.needs_kl else None,
    )


def fractions(values: Sequence[float]) -> tuple[float, ...]:
    """Return the fractions of a budget at which weights are scored: in order, each once, the end among them.

    None where none is given. Raises `ValueError` for one that is not above 0 and up to 1.
    """
    if not all(0 < value <= 1 for value in values):
        raise ValueError("expected fractions of the budget above 0 and up to 1; for example --evaluate-at 0.25,0.5,1")
    return tuple(sorted({*(float(f"{value:.10g}") for value in values), 1.0})) if values else ()


@dataclass(frozen=True, kw_only=True)
class Point:
    """A moment before the end of the training at which the weights are kept."""

    fraction: float
    """Of the budget."""
    steps: int | None
    """Optimiser steps that so much of the budget pays for; None where only the clock can tell."""
    seconds: float | None = None
    """Of a budget in seconds: the end of the first step at which so many are over, as at the end of the budget."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Which pairs each optimiser step visits: the same for every loss, unless the budget is in FLOPs or seconds."""

    batch_pairs: int
    n_pairs: int
    """Number of training pairs."""
    seed: int
    steps: int | None
    """Optimiser steps until the budget is spent; None where only the clock can tell."""
    seconds: float | None = None
    """The limit of a budget in seconds."""
    points: tuple[Point, ...] = ()
    """Where the weights are kept on the way; the end is none of them."""
    often: tuple[float, ...] = ()
    """How often each pair is visited in an epoch, on average; empty where each is once."""

    def batches(self) -> Iterator[np.ndarray]:
        """Yield the indices of the pairs of each step, (batch_pairs,); without end where `steps` is None."""
        stream = visit_order(self.n_pairs, self.seed, often=self.often)
        step = 0
        while self.steps is None or step < self.steps:
            yield np.fromiter((next(stream) for _ in range(self.batch_pairs)), dtype=np.int64, count=self.batch_pairs)
            step += 1

    def visited(self) -> np.ndarray:
        """Return the sorted indices of the pairs that the budget will visit; all where only the clock can tell."""
        if self.steps is None:
            return np.arange(self.n_pairs)
        return np.unique(np.concatenate(list(self.batches())))

    @property
    def epochs(self) -> float | None:
        """How often each pair is seen, on average; None where only the clock can tell."""
        return None if self.steps is None else self.steps * self.batch_pairs / self.n_pairs


def visit_order(n_pairs: int, seed: int, first_epoch: int = 0, often: Sequence[float] = ()) -> Iterator[int]:
    """Yield pair indices without end: a fresh seeded permutation per epoch, the same for every loss.

    With `often`, (pairs,) of mean 1, a pair is visited so often in an epoch on average: its number is rounded down or
    up at random, by systematic sampling. Where all are 1 the order is that without it.
    """
    epoch = first_epoch
    edges = np.cumsum(often)
    while True:
        rng = np.random.default_rng([seed, epoch])
        order = rng.permutation(n_pairs)
        if len(edges):
            drawn = np.searchsorted(edges, (rng.random() + order) * (edges[-1] / n_pairs), side="right")
            order = np.minimum(drawn, n_pairs - 1)  # the last edge may be rounded down
        yield from order.tolist()
        epoch += 1


def plan(
    budget: Budget,
    *,
    batch_pairs: int,
    seed: int,
    cost: Cost,
    evaluate_at: Sequence[float] = (),
    often: tuple[float, ...] = (),
) -> Plan:
    """Return how a budget is spent. No step is begun that the budget cannot pay for.

    `evaluate_at`: the fractions of the budget at which weights are kept, each where a budget of so much would end;
    `often` as in `visit_order`.
    Raises `HarnessError` where the data cannot fill one optimiser step, or the budget or a fraction cannot pay for one.
    """
    n_pairs = len(cost.tokens)
    if n_pairs < batch_pairs:
        raise HarnessError(
            f"got {n_pairs} training pairs, expected at least {batch_pairs}, the pairs of one optimiser step; "
            "give more data or a smaller --batch-pairs"
        )
    early = [(fraction, cost.before.left_of(budget.part(fraction))) for fraction in evaluate_at if fraction < 1]
    whole, budget = budget, cost.before.left_of(budget)
    if budget.currency == "seconds":
        points = [Point(fraction=fraction, steps=None, seconds=part.amount) for fraction, part in early]
        spending = Plan(batch_pairs=batch_pairs, n_pairs=n_pairs, seed=seed, steps=None, seconds=budget.amount)
        return replace(spending, points=tuple(points), often=often)
    steps = _paid_steps(budget, cost, batch_pairs, seed, often)
    if steps < 1:
        raise HarnessError(
            f"got --budget {whole}, expected enough for one optimiser step of {batch_pairs} pairs; "
            "raise the budget or lower --batch-pairs"
        )
    points = [
        Point(fraction=fraction, steps=_paid_steps(part, cost, batch_pairs, seed, often)) for fraction, part in early
    ]
    for point in points:
        if not point.steps:
            raise HarnessError(
                f"--evaluate-at got {point.fraction:.10g} of the budget {whole}, which is less than one optimiser "
                f"step of {batch_pairs} pairs; expected enough for one; raise the fraction or the budget, or lower "
                "--batch-pairs"
            )
    return Plan(batch_pairs=batch_pairs, n_pairs=n_pairs, seed=seed, steps=steps, points=tuple(points), often=often)


def _paid_steps(budget: Budget, cost: Cost, batch_pairs: int, seed: int, often: Sequence[float]) -> int:
    """Return how many optimiser steps a budget pays for that is not in seconds."""
    if budget.currency == "steps":
        return int(budget.amount)
    if budget.currency == "pairs":
        return int(budget.amount) // batch_pairs
    price = np.asarray(cost.tokens if budget.currency == "tokens" else cost.flops, dtype=np.float64)
    return _steps_for(budget.amount, price, batch_pairs, seed, often)


def _steps_for(amount: float, price: np.ndarray, batch_pairs: int, seed: int, often: Sequence[float]) -> int:
    epoch_price = float(price.sum())
    epochs = 0 if often else int(amount // epoch_price)  # an epoch that is drawn has a price of its own
    visits = epochs * len(price)
    spent = epochs * epoch_price
    for index in visit_order(len(price), seed, first_epoch=epochs, often=often):
        spent += float(price[index])
        if spent > amount:
            return visits // batch_pairs
        visits += 1
    raise AssertionError("the order of pairs has no end")
