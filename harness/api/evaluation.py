"""How the conformance checks call a loss: as the trainer does, on inputs that differ in one thing at a time.

Needs torch. Legend of shapes: B pairs, T tokens (padded).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from harness.api.errors import demand
from harness.api.loss import Loss
from harness.api.pairs import Logps, PairLogps, ResponseLogps

if TYPE_CHECKING:
    from harness.api.checks.batches import Batch

REFERENCE_COLUMNS = ["ref_chosen", "ref_rejected"]


class Derivative(NamedTuple):
    """The loss of each pair, (B,), with the gradients of their sum in the token log-probs, (B, T) each."""

    values: Tensor
    chosen: Tensor
    rejected: Tensor


def given(loss: Loss, batch: Batch) -> PairLogps:
    """Return what the trainer gives `loss`: the inputs it declares and the columns it prepares, None for the rest."""
    pairs = batch.pairs

    def side(logps: Logps) -> Logps:
        return replace(
            logps,
            log_sum_sq=logps.log_sum_sq if loss.needs_log_sum_sq else None,
            token_kl=logps.token_kl if loss.needs_token_kl else None,
        )

    return PairLogps(
        chosen=side(pairs.chosen),
        rejected=side(pairs.rejected),
        ref_chosen=pairs.ref_chosen if loss.needs_reference else None,
        ref_rejected=pairs.ref_rejected if loss.needs_reference else None,
        ref_tokens=pairs.ref_tokens if loss.needs_reference_tokens else None,
        ref_entropy=pairs.ref_entropy if loss.needs_reference_entropy else None,
        kl=side(pairs.kl) if loss.needs_kl and pairs.kl else None,
        ref_kl=pairs.ref_kl if loss.needs_kl else None,
        columns=columns(loss, batch),
    )


def training_table(loss: Loss, batch: Batch) -> pd.DataFrame:
    """Return the table that `prepare` gets: with the reference's sums if the loss declares that it needs them."""
    return batch.table if loss.needs_reference else batch.table.drop(columns=REFERENCE_COLUMNS)


def columns(loss: Loss, batch: Batch) -> dict[str, Tensor]:
    """Return the declared and prepared columns, (B,) each, in the dtype of the log-probs."""
    table = training_table(loss, batch)
    dtype, count = batch.pairs.chosen.token.dtype, len(table)
    tensors_by_name: dict[str, Tensor] = {}
    for name in loss.needs_columns:
        known = name in table and pd.api.types.is_numeric_dtype(table[name])
        demand(known, f"needs_columns names '{name}', expected a number of the training table; prepare it instead")
        tensors_by_name[name] = torch.tensor(table[name].to_numpy(float), dtype=dtype)
    for name, values in loss.prepare(table).items():
        shape = np.shape(values)
        demand(
            shape == (count,), f"prepare gave '{name}' of shape {shape}, expected ({count},); give one value per pair"
        )
        tensors_by_name[name] = torch.tensor(np.asarray(values, dtype=float), dtype=dtype)
    return tensors_by_name


def evaluate(loss: Loss, pairs: PairLogps, seed: int = 0) -> Tensor:
    """Return the loss of each pair, (B,), as the trainer gets it in a first optimiser step."""
    if not loss.batch_coupled:
        return loss(pairs)
    return loss.step(pairs, loss.initial_state(), np.random.default_rng(seed))[0]


def differentiate(loss: Loss, pairs: PairLogps, seed: int = 0) -> Derivative:
    """Return the losses of a first step, and the gradients of their sum."""
    tokens = tuple(side.token.detach().clone().requires_grad_(True) for side in (pairs.chosen, pairs.rejected))
    values = evaluate(loss, with_tokens(pairs, *tokens), seed)
    if not values.requires_grad:
        return Derivative(values, *(torch.zeros_like(token) for token in tokens))
    gradients = torch.autograd.grad(values.sum(), tokens, allow_unused=True, materialize_grads=True)
    return Derivative(values.detach(), *gradients)


def rewards(loss: Loss, pairs: PairLogps) -> Tensor:
    """Return the rewards of the chosen, then of the rejected responses, (2B,)."""
    sides = ((pairs.chosen, pairs.ref_chosen), (pairs.rejected, pairs.ref_rejected))
    return torch.cat([loss.reward(response(loss, side, reference)) for side, reference in sides])


def response(loss: Loss, side: Logps, ref_sum: Tensor | None) -> ResponseLogps:
    """Return what the reward may use of one side of the pairs."""
    reference = ref_sum if loss.reward_needs_reference else None
    return ResponseLogps(sum=side.sum().detach(), length=side.length(), ref_sum=reference)


def sampled(loss: Loss, pairs: PairLogps) -> bool:
    """Return whether a stateful loss draws at random: whether its values depend on the seed of its generator."""
    first = evaluate(loss, pairs, 0)
    return loss.stateful and any(not torch.equal(first, evaluate(loss, pairs, seed)) for seed in range(1, 5))


def with_tokens(pairs: PairLogps, chosen: Tensor, rejected: Tensor) -> PairLogps:
    """Return `pairs` with these policy log-probs, (B, T) each."""
    return replace(pairs, chosen=replace(pairs.chosen, token=chosen), rejected=replace(pairs.rejected, token=rejected))


def take(pairs: PairLogps, rows: Sequence[int]) -> PairLogps:
    """Return some of the pairs, cut to the longest response among them."""
    index = torch.tensor(rows)

    def side(logps: Logps) -> Logps:
        width = max(1, int(logps.mask[index].sum(-1).max()))
        return _map_side(logps, lambda values: values[index, :width])

    return _map_tensors(pairs, side, lambda values: values[index])


def widen(pairs: PairLogps, by: int) -> PairLogps:
    """Return the same pairs with `by` more columns of padding."""

    def pad(values: Tensor) -> Tensor:
        return torch.nn.functional.pad(values, (0, by))

    return _map_tensors(pairs, lambda logps: _map_side(logps, pad), lambda values: values)


def _map_side(logps: Logps, values: Callable[[Tensor], Tensor]) -> Logps:
    """Return `logps` with `values` applied to every tensor of (B, T)."""
    return Logps(
        token=values(logps.token),
        mask=values(logps.mask),
        log_sum_sq=None if logps.log_sum_sq is None else values(logps.log_sum_sq),
        token_kl=None if logps.token_kl is None else values(logps.token_kl),
    )


def _map_tensors(pairs: PairLogps, side: Callable[[Logps], Logps], values: Callable[[Tensor], Tensor]) -> PairLogps:
    """Return `pairs` with `side` applied to every `Logps` and `values` to every other tensor."""

    def known(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else values(tensor)

    return PairLogps(
        chosen=side(pairs.chosen),
        rejected=side(pairs.rejected),
        ref_chosen=known(pairs.ref_chosen),
        ref_rejected=known(pairs.ref_rejected),
        ref_tokens=None if pairs.ref_tokens is None else (side(pairs.ref_tokens[0]), side(pairs.ref_tokens[1])),
        ref_entropy=None if pairs.ref_entropy is None else (values(pairs.ref_entropy[0]), values(pairs.ref_entropy[1])),
        kl=None if pairs.kl is None else side(pairs.kl),
        ref_kl=known(pairs.ref_kl),
        columns={name: values(column) for name, column in pairs.columns.items()},
    )


def tensors(pairs: PairLogps) -> dict[str, Tensor]:
    """Return every tensor of `pairs` by its path, such as "chosen.token"."""
    by_path: dict[str, Tensor | None] = {
        "ref_chosen": pairs.ref_chosen,
        "ref_rejected": pairs.ref_rejected,
        "ref_kl": pairs.ref_kl,
    }
    references, entropies = pairs.ref_tokens or (None, None), pairs.ref_entropy or (None, None)
    by_path |= {f"ref_entropy[{place}]": values for place, values in enumerate(entropies)}
    sides = {"chosen": pairs.chosen, "rejected": pairs.rejected, "kl": pairs.kl}
    sides |= {"ref_tokens[0]": references[0], "ref_tokens[1]": references[1]}
    for name, side in sides.items():
        if side is not None:
            by_path |= {f"{name}.token": side.token, f"{name}.mask": side.mask}
            by_path |= {f"{name}.log_sum_sq": side.log_sum_sq, f"{name}.token_kl": side.token_kl}
    by_path |= {f"columns[{name!r}]": column for name, column in pairs.columns.items()}
    return {name: tensor for name, tensor in by_path.items() if tensor is not None}
