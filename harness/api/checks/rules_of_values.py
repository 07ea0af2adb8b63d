"""Checks of the values and rewards that a loss returns, whatever else is in the batch. Needs torch."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from harness.api.checks.batches import ordinary
from harness.api.checks.kit import Kit, applies
from harness.api.errors import demand
from harness.api.evaluation import differentiate, evaluate, given, response, sampled, take, widen
from harness.api.loss import Loss
from harness.api.pairs import ResponseLogps

DTYPES = (torch.float32, torch.float64)


def gives_one_value_per_pair(loss: Loss, kit: Kit) -> None:
    """One finite number per pair, shape (B,), the sum of the two terms.

    Guards against a (B, 1) that broadcasts to (B, B) in the mean, and against a loss that has already taken the mean.
    """
    for count in (6, 1):
        pairs = given(loss, ordinary(np.random.default_rng(1), pairs=count))
        values = evaluate(loss, pairs)
        demand(
            isinstance(values, Tensor), f"got {type(values).__name__}, expected a tensor; return the loss of each pair"
        )
        shape = tuple(values.shape)
        demand(
            shape == (count,), f"got shape {shape}, expected ({count},) for {count} pairs; return one value per pair"
        )
        demand(bool(values.isfinite().all()), f"got {_few(values)}, expected finite values")
        if loss.stateful:
            continue
        for name, term in zip(("preference", "auxiliary"), loss.terms(pairs), strict=True):
            shape = tuple(term.shape)
            demand(shape == (count,), f"terms gave a {name} part of shape {shape}, expected ({count},)")
        preference, auxiliary = loss.terms(pairs)
        total = preference + auxiliary
        demand(
            _close(values, total),
            f"got {_few(values)}, expected the sum of the terms {_few(total)}; do not override __call__",
        )


def keeps_the_dtype(loss: Loss, kit: Kit) -> None:
    """Values have the dtype of the log-probs, in float32 and in float64.

    Guards against a cast: summed log-probs in half precision lose whole nats, as reward-bench's fp16 scorer does
    (reference models, allenai/reward-bench 116 and 143).
    """
    for dtype in DTYPES:
        pairs = given(loss, ordinary(np.random.default_rng(1), dtype=dtype))
        got = evaluate(loss, pairs).dtype
        demand(
            got == dtype, f"got {got} for log-probs in {dtype}, expected {dtype}; keep the dtype of pairs.chosen.token"
        )


def is_attached_to_the_graph(loss: Loss, kit: Kit) -> None:
    """A gradient flows from the values into the log-probs.

    Guards against a loss that is held constant as a whole: training runs and learns nothing (mlx-lm-lora 65).
    """
    pairs = given(loss, ordinary(np.random.default_rng(1)))
    pairs.chosen.token.requires_grad_(True)
    pairs.rejected.token.requires_grad_(True)
    values = evaluate(loss, pairs)
    demand(
        values.requires_grad,
        "got values without a gradient, expected one; hold weights and margins constant, not the whole loss",
    )
    _, chosen, rejected = differentiate(loss, pairs)
    reached = bool(chosen.any()) or bool(rejected.any())
    demand(reached, "got a gradient of 0 on every token, expected some; compute from pairs.chosen and pairs.rejected")


def padding_changes_nothing(loss: Loss, kit: Kit) -> None:
    """More columns of padding change no value and no gradient.

    Guards against a mean over the width of the batch: ms-swift 9925, a wrong normaliser of IPO when padding-free.
    """
    pairs = given(loss, ordinary(np.random.default_rng(2)))
    narrow, wide = differentiate(loss, pairs), differentiate(loss, widen(pairs, 5))
    advice = "divide by length(), not by the width"
    demand(
        _close(narrow.values, wide.values),
        f"got {_few(wide.values)} with 5 columns of padding, expected {_few(narrow.values)} as without; {advice}",
    )
    for before, after in ((narrow.chosen, wide.chosen), (narrow.rejected, wide.rejected)):
        same = _close(before, after[:, : before.shape[1]])
        demand(same, f"got another gradient with 5 columns of padding, expected the same; {advice}")


def pair_order_changes_nothing(loss: Loss, kit: Kit) -> None:
    """Shuffled pairs give the same values, shuffled; for a batch-coupled loss, the same set of values.

    Guards against a process that sees only its own part of the batch: SimPO 61, where only gradient accumulation
    changed and GSM8K went from 58 to 80.
    """
    pairs = given(loss, ordinary(np.random.default_rng(3)))
    applies(not sampled(loss, pairs), "it draws pairs at random, by their position")
    order = [3, 0, 5, 1, 4, 2]
    values, shuffled = evaluate(loss, pairs), evaluate(loss, take(pairs, order))
    if loss.batch_coupled:
        values, shuffled = values.sort().values, shuffled.sort().values
    else:
        values = values[torch.tensor(order)]
    demand(
        _close(values, shuffled),
        f"got {_few(shuffled)} for shuffled pairs, expected {_few(values)}; read nothing from a pair's position",
    )


def micro_batches_change_nothing(loss: Loss, kit: Kit) -> None:
    """A pair has the same value and gradient alone and among others, unless the loss is `batch_coupled`.

    Guards against a hidden mean over the batch: SimPO 61, results that change with gradient accumulation alone.
    """
    applies(not loss.batch_coupled, "it is declared batch_coupled: the trainer gives it whole steps")
    pairs = given(loss, ordinary(np.random.default_rng(4)))
    whole = differentiate(loss, pairs)
    for row in range(len(whole.values)):
        alone = differentiate(loss, take(pairs, [row]))
        got, expected = alone.values.item(), whole.values[row].item()
        advice = "use the pair alone, or declare batch_coupled"
        demand(
            _close(alone.values, whole.values[row : row + 1]),
            f"got {got:.6g} for pair {row} alone, expected {expected:.6g} as among {len(whole.values)}; {advice}",
        )
        for part, full in ((alone.chosen, whole.chosen), (alone.rejected, whole.rejected)):
            same = _close(part, full[row : row + 1, : part.shape[1]])
            demand(same, f"got another gradient for pair {row} alone, expected the same; {advice}")


# -- the reward ----------------------------------------------------------------------------------------------------
def rewards_each_response(loss: Loss, kit: Kit) -> None:
    """The implicit reward is one finite number per response, in the dtype of the log-probs.

    Guards against training logs that nobody can recompute: LLaMA-Factory 1447.
    """
    for dtype in DTYPES:
        pairs = given(loss, ordinary(np.random.default_rng(5), dtype=dtype))
        for side, reference in ((pairs.chosen, pairs.ref_chosen), (pairs.rejected, pairs.ref_rejected)):
            got = loss.reward(response(loss, side, reference))
            demand(tuple(got.shape) == (6,), f"reward gave shape {tuple(got.shape)} for 6 responses, expected (6,)")
            demand(got.dtype == dtype, f"reward gave {got.dtype} for log-probs in {dtype}, expected {dtype}")
            demand(bool(got.isfinite().all()), f"reward gave {_few(got)}, expected finite numbers")


def reward_rises_with_the_log_prob(loss: Loss, kit: Kit) -> None:
    """A likelier response of the same length and reference has a higher reward.

    Guards against a reward of the wrong sign, which ranks every pair the wrong way round.
    """
    total = torch.linspace(-60, -1, 30, dtype=torch.float64)
    got = loss.reward(_responses(loss, total, torch.full_like(total, 12.0), torch.full_like(total, -20.0)))
    demand(
        bool((got.diff() > 0).all()), "got a reward that falls or stays as a response gets likelier, expected a rise"
    )


def reward_is_averaged_as_declared(loss: Loss, kit: Kit) -> None:
    """With `length_normalised` the reward is averaged over tokens; without, it does not depend on the length.

    Guards against one name for two rewards: IPO averages in TRL and LLaMA-Factory and sums in OpenRLHF; TRL logs a
    summed reward where it trains the averaged one.
    """
    total = torch.tensor([-3.0, -8.0, -20.0], dtype=torch.float64)
    length, reference = torch.tensor([2.0, 5.0, 9.0]).double(), total * 0.8 - 0.5
    base = loss.reward(_responses(loss, total, length, reference))
    longer = loss.reward(_responses(loss, total, 2 * length, reference))
    twice = loss.reward(_responses(loss, 2 * total, 2 * length, 2 * reference))
    if loss.length_normalised:
        demand(
            _close(base, twice),
            "got another reward for a response written twice, expected the same; it is not averaged",
        )
    else:
        advice = "declare length_normalised = True or leave the length out"
        demand(_close(base, longer), f"got a reward that depends on the length at one sum, expected none; {advice}")


def reference_and_reward_agree(loss: Loss, kit: Kit) -> None:
    """The reward uses the reference with `reward_needs_reference`, and works without one otherwise.

    Guards against rewards relative to another reference than in training: allenai/reward-bench 116 and 143.
    """
    total, length = torch.tensor([-3.0, -8.0]).double(), torch.tensor([2.0, 5.0]).double()
    first = loss.reward(_responses(loss, total, length, torch.tensor([-4.0, -7.0]).double()))
    if loss.reward_needs_reference:
        demand(
            loss.needs_reference,
            "got reward_needs_reference without needs_reference, expected both; declare it",
        )
        second = loss.reward(_responses(loss, total, length, torch.tensor([-2.0, -9.0]).double()))
        different = bool((first != second).all())
        demand(
            different,
            "got a reward that ignores ref_sum, expected one that needs it; drop reward_needs_reference or use it",
        )
    else:
        poisoned = loss.reward(ResponseLogps(sum=total, length=length, ref_sum=torch.full_like(total, torch.nan)))
        demand(
            _close(first, poisoned), "got a reward that reads ref_sum, expected none; declare reward_needs_reference"
        )


def _responses(loss: Loss, total: Tensor, length: Tensor, reference: Tensor) -> ResponseLogps:
    return ResponseLogps(sum=total, length=length, ref_sum=reference if loss.reward_needs_reference else None)


def _close(got: Tensor, expected: Tensor) -> bool:
    return bool(torch.allclose(got, expected, rtol=1e-9, atol=1e-12))


def _few(values: Tensor) -> str:
    flat = [f"{value:.6g}" for value in values.detach().flatten()[:4].tolist()]
    return "[" + ", ".join(flat) + (", ...]" if values.numel() > 4 else "]")
