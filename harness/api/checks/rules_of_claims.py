"""Checks that what a loss says of itself is true: traits, limits, golden values, documentation. Needs torch."""

from __future__ import annotations

import inspect
import re
import typing

import numpy as np
import torch

from harness.api.checks.batches import Batch, one_sided, ordinary
from harness.api.checks.kit import Golden, Kit, applies
from harness.api.checks.option_values import own_options
from harness.api.declarations import ComparisonKind, Limit, MovingReference
from harness.api.errors import demand
from harness.api.evaluation import differentiate, evaluate, given, rewards
from harness.api.loss import Loss
from harness.api.option_notes import option_notes

PARAGRAPHS = ("Formula", "Reward", "Source", "Provenance")


def traits_are_well_formed(loss: Loss, kit: Kit) -> None:
    """Name and traits have the types that the trainer and the board read; a stateful loss is batch-coupled.

    Guards against a state that is updated once per micro-batch: SimPO 61 shows what such a difference does.
    """
    name = loss.name
    demand(
        re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", name) is not None,
        f"got the name '{name}', expected lower-case letters, digits and dashes",
    )
    for trait in (
        "needs_reference",
        "reward_needs_reference",
        "needs_reference_tokens",
        "needs_kl",
        "needs_log_sum_sq",
        "needs_token_kl",
        "needs_reference_entropy",
        "batch_coupled",
        "stateful",
        "length_normalised",
        "monotone",
        "saturates",
    ):
        value = getattr(loss, trait)
        demand(isinstance(value, bool), f"{trait} got {value!r}, expected True or False")
    moving = loss.moving_reference
    alone = loss.needs_reference and not loss.needs_kl and not loss.needs_reference_entropy
    demand(
        moving is None or (isinstance(moving, MovingReference) and alone),
        f"moving_reference got {moving!r}, expected None, or a MovingReference beside needs_reference and without "
        "needs_kl and needs_reference_entropy, which are of the start checkpoint",
    )
    wanted = loss.needs_columns
    listed = isinstance(wanted, tuple) and all(isinstance(column, str) for column in wanted)
    demand(listed, f"needs_columns got {wanted!r}, expected a tuple of names")
    kinds = typing.get_args(ComparisonKind)
    demand(loss.comparison in kinds, f"comparison got {loss.comparison!r}, expected one of {', '.join(kinds)}")
    demand(
        loss.batch_coupled or not loss.stateful,
        "got stateful without batch_coupled, expected both; the trainer gives whole steps to step",
    )
    state = loss.initial_state()
    tensors = all(isinstance(value, torch.Tensor) for value in state.values())
    demand(tensors, "got something other than tensors in initial_state, expected tensors; checkpoints keep tensors")
    demand(loss.stateful or not state, "got an initial_state without the trait stateful, expected none; declare it")


def limits_hold(loss: Loss, kit: Kit) -> None:
    """Each declared special case equals the other loss, in value and gradient.

    Guards against one name for two losses: TRL's plain `loss_type="simpo"` is CPO-SimPO, as `cpo_alpha` stays 1.
    """
    applies(bool(loss.limits), "it declares no special case")
    missing = []
    for limit in loss.limits:
        special = kit.rebuilt(loss, limit.options)
        other = kit.resolve(limit.equals, limit.equals_options)
        if other is None:
            missing.append(limit.equals)
            continue
        _hold(loss, limit, special, other)
    applies(len(missing) < len(loss.limits), f"{', '.join(missing)} is not installed")


def _hold(loss: Loss, limit: Limit, special: Loss, other: Loss) -> None:
    rng = np.random.default_rng(41)
    for batch in (ordinary(rng), one_sided(rng, misranked=True, tokens=3), one_sided(rng, misranked=False, tokens=3)):
        same = Batch(pairs=batch.pairs, table=batch.table.assign(**limit.columns))
        parts = zip(
            ("value", "gradient of the chosen tokens", "gradient of the rejected tokens"),
            differentiate(special, given(special, same)),
            differentiate(other, given(other, same)),
            strict=True,
        )
        for name, got, expected in parts:
            gap = float((got - limit.scale * expected).abs().max())
            largest = max(float((limit.scale * expected).abs().max()), 1e-12)
            shown = ", ".join(f"{option}={value}" for option, value in limit.options.items()) or "its options"
            demand(
                gap <= limit.tolerance * largest,
                f"with {shown} got a {name} that is {gap:.3g} off {limit.scale:g} * {limit.equals}, expected at most "
                f"{limit.tolerance:g} of {largest:.3g}; correct the loss or the limit",
            )


def golden_values_hold(loss: Loss, kit: Kit) -> None:
    """The loss gives the numbers that other code or a calculation by hand gave.

    Guards against a formula that differs from the authors': AMaPO's paper and code differ, DPOP's penalty is outside
    the sigmoid in mlx-lm, RPO's alpha was on the wrong term in TRL.
    """
    records = [record for record in kit.golden if record.loss == loss.name]
    applies(bool(records), "no golden values of it are known")
    for record in records:
        own = type(loss).from_options(record.options, kit.lookup)
        got = golden_answer(own, record)
        expected = np.asarray(record.expected, dtype=float).reshape(-1)
        source = record.source or "no source given"
        demand(got.shape == expected.shape, f"got {len(got)} numbers, expected {len(expected)} ({source})")
        demand(
            bool(np.allclose(got, expected, rtol=record.rtol, atol=1e-12)),
            f"got {record.what} {got[:4].tolist()}, expected {expected[:4].tolist()} ({source}); correct the formula",
        )


def golden_answer(loss: Loss, record: Golden) -> np.ndarray:
    """Return the numbers that `record.expected` is compared with, flat, float64."""
    if record.what == "preference":
        answer = loss.terms(record.pairs).preference
    elif record.what == "reward":
        answer = rewards(loss, record.pairs)
    else:
        answer = evaluate(loss, record.pairs)
    return np.asarray((answer.mean() if record.what == "mean" else answer).detach().double()).reshape(-1)


def is_documented(loss: Loss, kit: Kit) -> None:
    """Class, options and module are documented, the module under Formula, Reward, Source and Provenance.

    Guards against baselines whose settings nobody knows: princeton-nlp/SimPO 23, 66.
    """
    cls = type(loss)
    text = cls.__dict__.get("__doc__") or ""
    generated = text.startswith(f"{cls.__name__}(")  # what `dataclass` writes if there is no docstring
    demand(bool(text.strip()) and not generated, f"{cls.__name__} has no docstring, expected one line on the formula")
    notes = option_notes(cls)
    bare = [name for name in own_options(loss, nested=True) if not notes.get(name)]
    demand(
        not bare, f"{', '.join(bare)} has no string under it, expected meaning, unit, range and the default's source"
    )
    module = inspect.getmodule(cls)
    page = inspect.getdoc(module) or ""
    lacking = [label for label in PARAGRAPHS if not re.search(rf"^{label}: *\S", page, re.MULTILINE)]
    named = "the module's docstring" if module is None else f"the docstring of {module.__name__}"
    demand(not lacking, f"{named} lacks {', '.join(f'{label}:' for label in lacking)}, expected a paragraph each")
