"""The optimisers of `--optimizer`: against AdamW of torch, and against what rounding at random is by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from harness.training.optimizers import own_optimizer

RATE = 1e-4


def made(name: str, weights: Sequence[torch.Tensor]) -> Any:
    own = own_optimizer(name, RATE)
    assert own is not None
    return own[0](weights, **own[1])


def steps(optimizer: Any, weights: Sequence[torch.Tensor], count: int) -> None:
    rng = torch.Generator().manual_seed(0)
    for _ in range(count):
        for weight in weights:
            weight.grad = (torch.randn(weight.shape, generator=rng) + 0.5).to(weight.dtype)
        optimizer.step()


def start(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1)).requires_grad_()


def test_adamw_is_the_trainers_own() -> None:
    assert own_optimizer("adamw", RATE) is None


def test_small_tensors_take_the_steps_of_torchs_adamw_and_large_ones_those_of_moments_in_8_bits() -> None:
    ours, theirs = ([start(100), start(64, 128)] for _ in range(2))
    steps(made("adamw-8bit", ours), ours, 20)
    steps(torch.optim.AdamW(theirs, lr=RATE, weight_decay=0.0), theirs, 20)
    torch.testing.assert_close(ours[0], theirs[0], rtol=0, atol=3e-7)
    moved = (theirs[1] - start(64, 128)).abs().mean()
    apart = (ours[1] - theirs[1]).abs().mean()
    assert 0 < apart < 0.15 * moved


def test_moments_take_a_byte_a_value_and_a_scale_for_256_of_them() -> None:
    weight = start(64, 128)
    optimizer = made("adamw-8bit", [weight])
    steps(optimizer, [weight], 1)
    moments = [optimizer.state[weight][name] for name in ("exp_avg", "exp_avg_sq")]
    assert [moment.codes.nbytes for moment in moments] == [64 * 128] * 2
    assert [moment.scale.nbytes for moment in moments] == [64 * 128 / 256 * 4] * 2


def test_a_step_too_small_for_bf16_is_taken_on_average() -> None:
    # below 1 the numbers of bf16 are 2^-8 apart: a first step of AdamW, of the learning rate, is a fortieth of that
    count, gap = 2**17, 2**-8
    weight = torch.ones(count, dtype=torch.bfloat16, requires_grad=True)
    weight.grad = torch.full_like(weight, 0.5)
    torch.manual_seed(0)
    made("adamw-bf16-sr", [weight]).step()
    assert weight.dtype == torch.bfloat16
    assert set(weight.tolist()) == {1.0, 1.0 - gap}
    share = RATE / gap
    error = (share * (1 - share) / count) ** 0.5
    assert (weight < 1).double().mean().item() == pytest.approx(share, abs=4 * error)


def test_the_random_numbers_are_those_that_a_checkpoint_keeps() -> None:
    ends = []
    for _ in range(2):
        torch.manual_seed(7)
        weight = start(64, 128).detach().bfloat16().requires_grad_()
        steps(made("adamw-bf16-sr", [weight]), [weight], 3)
        ends.append(weight.detach())
    assert torch.equal(*ends)
