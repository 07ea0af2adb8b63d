"""Checks that a loss reads what it declares, changes no input, and depends on nothing else. Needs torch."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from harness.api.checks.batches import Batch, ordinary
from harness.api.checks.kit import Kit, applies
from harness.api.errors import demand
from harness.api.evaluation import (
    REFERENCE_COLUMNS,
    columns,
    differentiate,
    evaluate,
    given,
    rewards,
    tensors,
    training_table,
)
from harness.api.loss import Loss
from harness.api.pairs import Logps, PairLogps

SCORES = ("score_chosen", "score_rejected")


def undeclared_inputs_are_not_read(loss: Loss, kit: Kit) -> None:
    """Inputs that are not declared may be NaN or None: the values stay the same.

    Guards against rewards taken relative to the wrong reference model, or to none (allenai/reward-bench 116 and 143),
    and against annotation scores that leak into a loss said to need none.
    """
    batch = ordinary(np.random.default_rng(21))
    pairs = given(loss, batch)
    plain, poisoned = differentiate(loss, pairs), differentiate(loss, _poisoned(loss, batch, pairs))
    for expected, got in zip(plain, poisoned, strict=True):
        demand(
            torch.equal(expected, got),
            f"got other values with NaN in what it does not declare ({', '.join(_undeclared(loss)) or 'columns'}), "
            "expected the same; declare the trait or do not read it",
        )
    hidden = [name for name in SCORES if name not in loss.needs_columns]
    changed = Batch(pairs=batch.pairs, table=batch.table.assign(**dict.fromkeys(hidden, np.nan)))
    before, after = columns(loss, batch), columns(loss, changed)
    for name in before:
        demand(
            torch.equal(before[name], after[name]),
            f"prepare gave another '{name}' with NaN in {' and '.join(hidden)}, expected the same; name them in "
            "needs_columns",
        )


def declared_inputs_are_read(loss: Loss, kit: Kit) -> None:
    """Changing a declared input changes some value, gradient or reward.

    Guards against wasted work: a reference pass, a mismatched pass or scores that the loss then ignores.
    """
    batch = ordinary(np.random.default_rng(22))
    changes = _changes(loss, batch)
    applies(bool(changes), "it declares no input beside the policy's log-probs")
    before = _everything(loss, batch)
    for name, variants in changes.items():
        acts = any(
            any(
                not torch.equal(first, second) for first, second in zip(before, _everything(loss, variant), strict=True)
            )
            for variant in variants
        )
        demand(
            acts, f"got the same values and rewards for another {name}, expected a change; use it or do not declare it"
        )


def keeps_no_state(loss: Loss, kit: Kit) -> None:
    """The same batch gives the same values again, also after another one; no attribute or state changes in place.

    Guards against results that nobody can reproduce: LLaMA-Factory 1447, SimPO 21, 38, 77, 81, 86.
    """
    batch, other = ordinary(np.random.default_rng(23)), ordinary(np.random.default_rng(24), pairs=4)
    attributes, options = repr(sorted(vars(loss).items())), loss.options()
    pairs, between = given(loss, batch), given(loss, other)
    first = evaluate(loss, pairs)
    evaluate(loss, between)
    again = evaluate(loss, pairs)
    advice = "carry it in `step`'s state"
    demand(
        torch.equal(first, again), f"got other values for the same batch the second time, expected the same; {advice}"
    )
    _same(
        given(loss, batch).columns,
        pairs.columns,
        f"other columns from prepare the second time, expected the same; {advice}",
    )
    unchanged = repr(sorted(vars(loss).items())) == attributes and loss.options() == options
    demand(unchanged, f"got attributes that changed in a call, expected them unchanged; {advice}")
    if not loss.stateful:
        return
    _, state = loss.step(pairs, loss.initial_state(), np.random.default_rng(0))
    kept = {name: tensor.clone() for name, tensor in state.items()}
    first, _ = loss.step(between, state, np.random.default_rng(1))
    _same(state, kept, "a state that step changed in place, expected it as it was; return a new one")
    again, _ = loss.step(between, state, np.random.default_rng(1))
    demand(torch.equal(first, again), "got other values for the same state and seed, expected the same")
    same_start = all(torch.equal(value, loss.initial_state()[name]) for name, value in loss.initial_state().items())
    demand(same_start, "initial_state gave another state the second time, expected the same")


def randomness_is_an_argument(loss: Loss, kit: Kit) -> None:
    """No global random number is drawn, and the values are the same under other global seeds.

    Guards against gamma-PO's unseeded `random.sample`, which no seed of the run reaches.
    """
    batch = ordinary(np.random.default_rng(25))
    seen = []
    for seed in (1, 2):
        with _global_seed(seed):
            before = _generator_states()
            seen.append(_everything(loss, batch))
            moved = [library for library, state in _generator_states().items() if state != before[library]]
        demand(not moved, f"got a draw from the global generator of {', '.join(moved)}, expected none; use step's rng")
    same = all(torch.equal(first, second) for first, second in zip(*seen, strict=True))
    demand(same, "got other values under another global seed, expected the same; use step's rng")


def inputs_are_left_alone(loss: Loss, kit: Kit) -> None:
    """No tensor, column or row of the table is changed in place.

    Guards against a batch that the next loss, or the training log, reads after it was altered.
    """
    batch = ordinary(np.random.default_rng(26))
    table = training_table(loss, batch)
    kept = table.copy(deep=True)
    loss.prepare(table)
    demand(table.equals(kept), "got a table that prepare changed, expected it as it was; copy first")
    pairs = given(loss, batch)
    before = {name: tensor.clone() for name, tensor in tensors(pairs).items()}
    evaluate(loss, pairs)
    rewards(loss, pairs)
    _same(tensors(pairs), before, "an input that was changed in place, expected it as it was; write to a copy")


# -- helpers -------------------------------------------------------------------------------------------------------
def _undeclared(loss: Loss) -> list[str]:
    reference = ("needs_reference", "needs_reference_tokens", "needs_reference_entropy")
    return [
        trait for trait in (*reference, "needs_kl", "needs_log_sum_sq", "needs_token_kl") if not getattr(loss, trait)
    ]


def _poisoned(loss: Loss, batch: Batch, pairs: PairLogps) -> PairLogps:
    """Return `pairs` with NaN in place of every None, and with columns of NaN that were not asked for."""

    def nan(tensor: Tensor | None) -> Tensor | None:
        return None if tensor is None else torch.full_like(tensor, torch.nan)

    def side(logps: Logps, keep: Logps | None) -> Logps:
        token = torch.full_like(logps.token, torch.nan) if keep is None else logps.token
        lost = torch.full_like(logps.token, torch.nan)
        return Logps(
            token=token,
            mask=logps.mask,
            log_sum_sq=logps.log_sum_sq if loss.needs_log_sum_sq else lost,
            token_kl=logps.token_kl if loss.needs_token_kl else lost,
        )

    full = batch.pairs
    assert full.ref_tokens is not None
    assert full.ref_entropy is not None
    assert full.kl is not None
    unknown = torch.full_like(full.ref_entropy[0], torch.nan)
    numbers = batch.table.drop(columns=REFERENCE_COLUMNS).select_dtypes("number").columns
    extra = {name: torch.full_like(pairs.chosen.sum(), torch.nan) for name in numbers if name not in pairs.columns}
    references = full.ref_tokens
    return PairLogps(
        chosen=side(full.chosen, pairs.chosen),
        rejected=side(full.rejected, pairs.rejected),
        ref_chosen=pairs.ref_chosen if loss.needs_reference else nan(full.ref_chosen),
        ref_rejected=pairs.ref_rejected if loss.needs_reference else nan(full.ref_rejected),
        ref_tokens=pairs.ref_tokens or (side(references[0], None), side(references[1], None)),
        ref_entropy=pairs.ref_entropy or (unknown, unknown),
        kl=side(full.kl, pairs.kl),
        ref_kl=pairs.ref_kl if loss.needs_kl else nan(full.ref_kl),
        columns={**pairs.columns, **extra},
    )


def _changes(loss: Loss, batch: Batch) -> dict[str, list[Batch]]:
    """Return, for each declared input, two batches in which it alone is changed: downwards and upwards."""
    variants: dict[str, list[Batch]] = {}
    for sign in (-1.0, 1.0):
        for name, changed in _changed_inputs(loss, batch.pairs, sign).items():
            column = changed.ref_chosen if name == "ref_chosen" else changed.ref_rejected
            table = batch.table
            if name in REFERENCE_COLUMNS and column is not None:
                table = table.assign(**{name: column.numpy()})
            variants.setdefault(name, []).append(Batch(pairs=changed, table=table))
        for name in loss.needs_columns:
            other = batch.table[name] + 0.3 * sign * np.arange(1, 1 + len(batch.table))
            table = batch.table.assign(**{name: other.to_numpy()})
            variants.setdefault(name, []).append(Batch(pairs=batch.pairs, table=table))
    return variants


def _changed_inputs(loss: Loss, pairs: PairLogps, sign: float) -> dict[str, PairLogps]:
    assert pairs.ref_chosen is not None
    assert pairs.ref_rejected is not None
    assert pairs.ref_tokens is not None
    assert pairs.kl is not None
    assert pairs.ref_kl is not None
    uneven = sign * torch.arange(1.0, 1 + len(pairs.ref_chosen), dtype=torch.float64)
    changed = {}
    if loss.needs_reference:
        changed["ref_chosen"] = replace(pairs, ref_chosen=pairs.ref_chosen + uneven)
        changed["ref_rejected"] = replace(pairs, ref_rejected=pairs.ref_rejected + uneven)
    if loss.needs_reference_tokens:
        first, second = pairs.ref_tokens
        changed["ref_tokens"] = replace(pairs, ref_tokens=(_scaled(first, sign), _scaled(second, sign)))
    if loss.needs_kl:
        changed["kl"] = replace(pairs, kl=_scaled(pairs.kl, sign))
        changed["ref_kl"] = replace(
            pairs, ref_kl=pairs.ref_kl + 20 * uneven
        )  # far enough to leave a KL estimate that is clamped at 0
    if loss.needs_log_sum_sq:
        changed["log_sum_sq"] = replace(pairs, chosen=_squares(pairs.chosen, sign))
    if loss.needs_token_kl:
        assert pairs.chosen.token_kl is not None
        changed["token_kl"] = replace(pairs, chosen=replace(pairs.chosen, token_kl=pairs.chosen.token_kl * 3.0**sign))
    if loss.needs_reference_entropy:
        assert pairs.ref_entropy is not None
        doubted, other = pairs.ref_entropy
        changed["ref_entropy"] = replace(pairs, ref_entropy=(doubted * 2.0**sign, other))
    return changed


def _scaled(logps: Logps, sign: float) -> Logps:
    return replace(logps, token=logps.token * 5.0**sign)


def _squares(logps: Logps, sign: float) -> Logps:
    assert logps.log_sum_sq is not None
    return replace(logps, log_sum_sq=logps.log_sum_sq * 2.0**sign)


def _everything(loss: Loss, batch: Batch) -> list[Tensor]:
    pairs = given(loss, batch)
    return [*differentiate(loss, pairs), rewards(loss, pairs)]


def _same(got: Mapping[str, Tensor], expected: Mapping[str, Tensor], trouble: str) -> None:
    for name, tensor in expected.items():
        demand(torch.equal(got[name], tensor), f"{name}: got {trouble}")


@contextmanager
def _global_seed(seed: int) -> Iterator[None]:
    """Seed the global generators inside the block, and restore their state afterwards."""
    saved = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002  # see _generator_states
    try:
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002  # see _generator_states
        torch.manual_seed(seed)
        yield
    finally:
        random.setstate(saved[0])
        np.random.set_state(saved[1])  # noqa: NPY002  # see _generator_states
        torch.set_rng_state(saved[2])


def _generator_states() -> dict[str, object]:
    """Return the state of each global generator, by library; drawing a number changes it."""
    legacy = np.random.get_state(legacy=False)  # noqa: NPY002  # the check is that nobody draws from it
    return {
        "random": random.getstate(),
        "numpy": (legacy["state"]["key"].tobytes(), legacy["state"]["pos"], legacy["has_gauss"]),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }
