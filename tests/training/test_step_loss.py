"""The loss of a step, without a model: shares of micro-batches, state, and what a loss may not give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.api import HarnessError, Logps, Loss, PairLogps, ResponseLogps, Terms
from harness.training.loss_inputs import join
from harness.training.step_loss import StepLoss


def logps(lengths: list[int], seed: int) -> Logps:
    mask = torch.arange(max(lengths))[None] < torch.tensor(lengths)[:, None]
    token = -torch.rand(mask.shape, generator=torch.Generator().manual_seed(seed)) * mask
    return Logps(token=token, mask=mask)


def parts() -> list[PairLogps]:
    """Three micro-batches of different widths, with everything a loss may declare."""
    return [
        PairLogps(
            chosen=logps([2, n], seed), rejected=logps([n + 1, 1], 10 + seed), ref_chosen=torch.rand(2),
            ref_rejected=torch.rand(2), ref_tokens=(logps([2, n], 20 + seed), logps([n + 1, 1], 30 + seed)),
            kl=logps([3 * n, 1], 40 + seed), ref_kl=-torch.rand(2), columns={"weight": torch.tensor([1.0, n])},
        )
        for seed, n in enumerate((1, 4, 2))
    ]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Coupled(Loss):
    """Reads all there is, over all pairs; or misbehaves as told."""

    name: ClassVar[str] = "coupled"
    batch_coupled = True
    how: str = "well"

    def terms(self, pairs: PairLogps) -> Terms:
        assert pairs.kl is not None
        assert pairs.ref_tokens is not None
        anchor = (pairs.kl.sum() - pairs.ref_kl).mean()
        half = (pairs.chosen.token * 0.5 - pairs.ref_tokens[0].token).sum(-1) + pairs.ref_tokens[1].sum()
        margin = pairs.chosen.mean() - pairs.rejected.mean() + half - anchor
        return Terms.of(pairs.columns["weight"] * (margin - margin.mean()) ** 2)

    def __call__(self, pairs: PairLogps) -> Any:
        values = super().__call__(pairs)
        chosen = pairs.chosen.sum()
        told = {"chosen": chosen * chosen.mean(), "detached": values.detach(), "shape": values.mean(), "number": 3.0}
        return told.get(self.how, values)

    def reward(self, response: ResponseLogps) -> Tensor:
        return response.sum


class Alone(Coupled):
    """The same, called per micro-batch."""

    batch_coupled = False


@pytest.mark.parametrize("how", ["well", "chosen"])
def test_shares_add_up_to_the_gradient_of_the_mean_over_the_whole_step(how: str) -> None:
    whole = join(parts())
    sides = [whole.chosen.token.requires_grad_(True), whole.rejected.token.requires_grad_(True)]
    values = Coupled(how=how)(whole)
    values.mean().backward()
    start = 0
    for share, part in zip(StepLoss(Coupled(how=how), 0).shares(parts()), parts(), strict=True):
        rows = slice(start, start := start + 2)
        torch.testing.assert_close(share.values, values[rows].detach())
        for got, side, of in zip(
            (share.grad_chosen, share.grad_rejected), sides, (part.chosen, part.rejected), strict=True
        ):
            expected = torch.zeros_like(side) if side.grad is None else side.grad  # a side may not matter at all
            torch.testing.assert_close(got, expected[rows, : of.token.shape[1]])


def test_micro_batches_joined_are_their_rows_padded_with_zeros() -> None:
    whole = join(parts())
    assert whole.ref_tokens is not None
    assert whole.kl is not None
    assert whole.kl.token.shape == (6, 12)
    assert (whole.kl.length().tolist(), whole.ref_tokens[1].length().tolist()) == (
        [3, 1, 12, 1, 6, 1],
        [2, 1, 5, 1, 3, 1],
    )
    torch.testing.assert_close(whole.kl.sum(), torch.cat([part.kl.sum() for part in parts() if part.kl]))
    assert whole.ref_tokens[0].mask.equal(whole.chosen.mask)
    plain = [PairLogps(chosen=part.chosen, rejected=part.rejected) for part in parts()]
    nothing = join(plain)
    assert (nothing.kl, nothing.ref_kl, nothing.ref_tokens, nothing.ref_chosen) == (None, None, None, None)


@pytest.mark.parametrize("kind", [Coupled, Alone])
@pytest.mark.parametrize(
    ("how", "words"),
    [
        ("detached", "loss 'coupled' gave values without a gradient, expected .* look for a detach"),
        ("shape", r"loss 'coupled' gave shape \(\), expected one value per pair \(6,\)"),
        ("number", r"loss 'coupled' gave a float, expected a tensor of shape \(6,\)"),
    ],
)
def test_what_a_loss_may_not_give_is_named(kind: type[Coupled], how: str, words: str) -> None:
    whole = join(parts())
    whole.chosen.token.requires_grad_(True)
    with pytest.raises(HarnessError, match=words):
        StepLoss(kind(how=how), 0).values(whole)


@dataclass(frozen=True, kw_only=True)
class Average(Loss):
    """Keeps the sum of all margins seen, with its graph, and drops a random half of the pairs."""

    name: ClassVar[str] = "average"
    batch_coupled = True
    stateful = True

    def terms(self, pairs: PairLogps) -> Terms:
        return Terms.of(pairs.chosen.sum() - pairs.rejected.sum())

    def initial_state(self) -> Mapping[str, Tensor]:
        return {"total": torch.zeros(())}

    def step(self, pairs: PairLogps, state: Mapping[str, Tensor], rng: np.random.Generator) -> Any:
        margin = self(pairs)
        kept = torch.from_numpy(rng.permutation(len(margin)) < len(margin) // 2)
        return margin * kept * 2 - state["total"], {"total": state["total"] + margin.mean()}

    def reward(self, response: ResponseLogps) -> Tensor:
        return response.sum


def test_the_state_moves_from_step_to_step_and_holds_no_graph() -> None:
    step = StepLoss(Average(), 0)
    margins = Average()(join(parts()))
    rng = np.random.default_rng([0, 29])
    for calls in range(3):  # before each call the total is `calls` times the mean margin
        kept = torch.from_numpy(rng.permutation(6) < 3)
        values = torch.cat([share.values for share in step.shares(parts())])
        torch.testing.assert_close(values, 2 * margins * kept - calls * margins.mean())
    assert not step.state["total"].requires_grad


def test_a_state_without_coupling_is_refused() -> None:
    class Half(Average):
        batch_coupled = False

    with pytest.raises(HarnessError, match="loss 'average' is stateful and not batch_coupled, expected both"):
        StepLoss(Half(), 0)


def test_a_step_that_forgets_the_state_is_named() -> None:
    class Forgetful(Average):
        def step(self, pairs: PairLogps, state: Mapping[str, Tensor], rng: np.random.Generator) -> Any:
            return self(pairs)

    with pytest.raises(HarnessError, match=r"loss 'average': step gave a Tensor, expected \(values, state\)"):
        StepLoss(Forgetful(), 0).shares(parts())
