"""Checks that the gradient is right, points the right way and stays finite. Needs torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from harness.api.checks.batches import Batch, extreme, longest, one_sided, ordinary
from harness.api.checks.kit import Kit, applies
from harness.api.errors import HarnessError, demand
from harness.api.evaluation import differentiate, evaluate, given, rewards, take, with_tokens
from harness.api.gradients import recording, replaying
from harness.api.loss import Loss
from harness.api.pairs import Logps, PairLogps

STEP = 1e-5
"""Step of the finite differences, nats: the error of a central difference is about STEP^2."""
FACTORS = (6.0, 3.0, 1.5, 1.0, 0.7, 0.3, 0.1, 0.01)
"""Factors by which log-probs are multiplied, from hopeless to almost certain."""
LEAST_GRADIENT = 1e-12


def gradient_is_that_of_the_value(loss: Loss, kit: Kit) -> None:
    """The gradient equals finite differences of the values, with the terms in `stop_gradient` held constant.

    Guards against an undeclared constant: a weight or margin computed from the policy and then merely detached. In
    beta-DPO, WPO and AMaPO the paper's gradient depends on which terms are held constant.
    """
    pairs = given(loss, ordinary(np.random.default_rng(11), pairs=4))
    with recording() as constants:
        values, chosen, rejected = differentiate(loss, pairs)
    tokens = (pairs.chosen.token, pairs.rejected.token)
    scale = max(float(chosen.abs().max()), float(rejected.abs().max()))
    tolerance = 1e-5 * scale + 1e-9 * float(values.abs().max()) + 1e-10
    for side, (name, logps, gradient) in enumerate(
        (("chosen", pairs.chosen, chosen), ("rejected", pairs.rejected, rejected))
    ):
        for row, column in logps.mask.nonzero().tolist():
            sums = []
            for shift in (STEP, -STEP):
                moved = [token.clone() for token in tokens]
                moved[side][row, column] += shift
                with replaying(constants):
                    sums.append(float(evaluate(loss, with_tokens(pairs, moved[0], moved[1])).sum()))
            expected, got = (sums[0] - sums[1]) / (2 * STEP), float(gradient[row, column])
            demand(
                abs(got - expected) <= tolerance,
                f"got the gradient {got:.6g} on {name} token {column} of pair {row}, expected {expected:.6g} by finite "
                "differences; hold a term constant with harness.api.stop_gradient, not with detach",
            )


def misranked_pairs_get_a_gradient(loss: Loss, kit: Kit) -> None:
    """A slightly and a badly misranked pair both have a gradient, unless the loss `saturates`.

    Guards against zero gradients where there is most to learn: mlx-lm-lora 65.
    """
    applies(not loss.saturates, "it declares that its gradient may vanish (saturates)")
    for tokens in (3, 300):
        batch = one_sided(np.random.default_rng(12), misranked=True, tokens=tokens)
        values, chosen, rejected = differentiate(loss, given(loss, batch))
        largest = chosen.abs().amax(-1).maximum(rejected.abs().amax(-1))
        dead = int((largest < LEAST_GRADIENT).sum())
        demand(
            dead == 0,
            f"got no gradient on {dead} of {len(values)} misranked pairs of about {tokens} tokens, expected some on "
            "each; correct it or declare saturates",
        )


def larger_margin_never_raises_the_loss(loss: Loss, kit: Kit) -> None:
    """A likelier chosen or a less likely rejected response never raises the loss, unless not `monotone`.

    Guards against a wrong sign, which trains the rejected responses, and against a weight that outgrows the loss.
    """
    applies(loss.monotone, "it declares that a likelier chosen response may raise it (not monotone)")
    pairs = given(loss, ordinary(np.random.default_rng(13)))
    if (
        loss.stateful
    ):  # it may draw other pairs for other inputs, so two values are not comparable; a gradient has one draw
        values, chosen, rejected = differentiate(loss, pairs)
        wrong = int((chosen > 0).sum()) + int((rejected < 0).sum())
        demand(wrong == 0, f"got {wrong} tokens whose gradient lowers the margin, expected none; correct the sign")
        return
    with recording() as constants:
        evaluate(loss, pairs)
    for name, factors in (("likelier chosen", FACTORS), ("less likely rejected", FACTORS[::-1])):
        before: Tensor | None = None
        for factor in factors:
            chosen, rejected = pairs.chosen.token, pairs.rejected.token
            moved = (factor * chosen, rejected) if "chosen" in name else (chosen, factor * rejected)
            with replaying(constants):
                values = evaluate(loss, with_tokens(pairs, *moved))
            values = values.mean()[None] if loss.batch_coupled else values
            if before is not None:
                rise = float((values - before).max())
                demand(
                    rise <= 1e-9 * (1 + float(values.abs().max())),
                    f"got a loss that rises by {rise:.3g} for a {name} response, expected none; correct the sign or "
                    "declare monotone = False",
                )
            before = values


# -- finite --------------------------------------------------------------------------------------------------------
def finite_over_its_domain(loss: Loss, kit: Kit) -> None:
    """Values, gradients and rewards are finite throughout `domain`, corners included, in float32 and float64.

    Guards against overflow: TRL's AlphaPO is NaN at a summed log-prob of -200; so is any log(sigmoid(x)).
    """
    for dtype in (torch.float32, torch.float64):
        for batch in (extreme(loss.domain, dtype), longest(loss.domain, dtype)):
            pairs = given(loss, batch)
            trouble = _trouble(loss, pairs)
            demand(not trouble, f"got {trouble} in {dtype}, expected finite numbers; use a fused function or a cap")


def small_and_equal_steps_are_finite(loss: Loss, kit: Kit) -> None:
    """Steps of one pair, equal pairs, equal scores or a policy equal to its reference give finite numbers.

    Guards against a standard deviation over one pair: beta-DPO's and AMaPO's is NaN there, and 0 on equal gaps.
    Scores that `prepare` refuses with a `HarnessError` are left out.
    """
    batch = ordinary(np.random.default_rng(14))
    chosen, rejected = batch.pairs.chosen, batch.pairs.rejected
    at_start = replace(
        batch.pairs,
        ref_chosen=chosen.sum(),
        ref_rejected=rejected.sum(),
        chosen=replace(chosen, token_kl=torch.zeros_like(chosen.token)),
        rejected=replace(rejected, token_kl=torch.zeros_like(rejected.token)),
        ref_tokens=(
            Logps(token=chosen.token, mask=chosen.mask),
            Logps(token=rejected.token, mask=rejected.mask),
        ),
    )
    table = batch.table.assign(ref_chosen=chosen.sum().numpy(), ref_rejected=rejected.sum().numpy())
    first = given(loss, Batch(pairs=at_start, table=table))
    steps = {
        "a first step": first,
        "a step of one pair": take(first, [0]),
        "a step of one tied pair": take(given(loss, batch), [2]),
        "a step of four equal pairs": take(given(loss, batch), [1, 1, 1, 1]),
    }
    for name, table in {
        "equal scores": batch.table.assign(score_chosen=4.0, score_rejected=4.0),
        "equal texts": batch.table.assign(chosen="ok", rejected="ok"),
    }.items():
        try:
            steps[name] = given(loss, Batch(pairs=batch.pairs, table=table))
        except HarnessError:
            continue
    for name, pairs in steps.items():
        trouble = _trouble(loss, pairs)
        demand(not trouble, f"got {trouble} in {name}, expected finite numbers; guard the division")


def an_empty_response_is_finite(loss: Loss, kit: Kit) -> None:
    """A response of no tokens (log-prob 0, length read as 1) gives finite values and gradients.

    Guards against 0 / 0 in a mean: TRL 1033 and princeton-nlp/SimPO 35, a response truncated to no tokens.
    """
    pairs = given(loss, ordinary(np.random.default_rng(15)))

    def emptied(logps: Logps, row: int) -> Logps:
        mask = logps.mask.clone()
        mask[row] = False
        square = None if logps.log_sum_sq is None else torch.where(mask, logps.log_sum_sq, 0.0)
        divergence = None if logps.token_kl is None else torch.where(mask, logps.token_kl, 0.0)
        token = torch.where(mask, logps.token, 0.0)
        return Logps(token=token, mask=mask, log_sum_sq=square, token_kl=divergence)

    trouble = _trouble(loss, replace(pairs, chosen=emptied(pairs.chosen, 0), rejected=emptied(pairs.rejected, 1)))
    demand(
        not trouble, f"got {trouble} with an empty response, expected finite numbers; divide by length(), at least 1"
    )


def _trouble(loss: Loss, pairs: PairLogps) -> str:
    """Return what is not finite, and for which pair; an empty text if all is finite."""
    values, chosen, rejected = differentiate(loss, pairs)
    outputs: Sequence[tuple[str, Tensor]] = (
        ("a value", values),
        ("a gradient of the chosen tokens", chosen),
        ("a gradient of the rejected tokens", rejected),
        ("a reward", rewards(loss, pairs).view(2, -1).T),
    )
    for name, numbers in outputs:
        bad = (~numbers.isfinite()).reshape(len(values), -1).any(-1)
        if bad.any():
            row = int(bad.nonzero()[0])
            number = numbers[row].flatten()[(~numbers[row].isfinite()).flatten()][0].item()
            return f"{number} as {name} on {int(bad.sum())} of {len(values)} pairs ({_described(pairs, row)})"
    return ""


def _described(pairs: PairLogps, row: int) -> str:
    parts = []
    for name, side, reference in (
        ("chosen", pairs.chosen, pairs.ref_chosen),
        ("rejected", pairs.rejected, pairs.ref_rejected),
    ):
        under = "" if reference is None else f", reference {float(reference[row]):g}"
        parts.append(f"{name} {int(side.mask[row].sum())} tokens, sum {float(side.sum()[row]):g}{under}")
    return "; ".join(parts)
