"""Whether what a cell spent is what its budget allows, in every currency, by arithmetic alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from itertools import product

import harness
from harness.api.errors import HarnessError
from harness.api.loss import Loss
from harness.exchange.cell_checks import TOLERANCE, Check, near, some
from harness.exchange.untrusted import UntrustedCell
from harness.planning.budget import FLOPS_PER_TOKEN, Budget, loss_flops
from harness.run_folder.facts import Spend
from harness.run_folder.paths import RECORD
from harness.run_folder.record import Record

MOST_FLOPS_PER_TOKEN = 16
"""And parameter, at most: with the passes that `pair_flops` adds, all responses at their longest."""

Find = Callable[[Record], Loss | None]
"""The loss of a record as it is installed here; None where it is not."""


def check_spend(cells: Sequence[UntrustedCell], find: Find) -> Check:
    """Every trained cell spent what its budget says, and the same pairs as others of its model and seed."""
    problems, unbounded, checked = [], [], 0
    for cell in cells:
        record = cell.record
        trained = record.kind == "loss" and record.status != "failed"
        if trained and record.board.budget is not None and record.board.batch_pairs is not None:
            checked += 1
            own = list(_problems(record, find))
        else:
            unbounded += [cell.name] if trained else []
            own = [] if trained or not record.spend.numbers() else [_nothing_to_spend(record)]
        problems += [f"{cell.file(RECORD)}: {problem}; run the cell again" for problem in own]
    problems += _other_tokens(cells)
    notes = [f"not checked: records have no budget or no batch_pairs: {some(unbounded)}"] if unbounded else []
    return Check(
        summary=f"{checked} trained cells spent what their budget says",
        problems=tuple(problems),
        notes=tuple(notes),
    )


def _nothing_to_spend(record: Record) -> str:
    return f"got a spend of {len(record.spend.numbers())} numbers, expected none of a cell that was not trained"


def _problems(record: Record, find: Find) -> Iterator[str]:
    """Yield what is wrong with the spend of a trained cell, as got and expected."""
    try:
        budget = Budget.parse(record.board.budget or "")
    except HarnessError as error:
        yield str(error)
        return
    spend, batch = record.spend, record.board.batch_pairs or 0
    if spend.pairs is None or spend.steps is None or batch < 1:
        yield f"got spend.pairs {spend.pairs}, spend.steps {spend.steps} and batch_pairs {batch}, expected numbers"
        return
    yield from _wrong_steps(record, budget, spend.steps, spend.pairs, batch)
    yield from _over_budget(record, budget, batch)
    train_pairs = record.dataset.train_pairs
    if spend.epochs is not None and train_pairs and not near(spend.epochs, spend.pairs / train_pairs):
        yield (
            f"got spend.epochs {spend.epochs:.6g}, expected {spend.pairs / train_pairs:.6g}: "
            f"{spend.pairs} pairs of {train_pairs}"
        )
    chosen = record.dataset.selection
    got, expected = (
        (chosen.setting, chosen.after.pairs) if chosen else (None, train_pairs),
        (record.board.select, train_pairs),
    )
    if got != expected:
        yield f"got dataset.selection of {got}, expected {expected}: board.select and dataset.train_pairs"
    yield from _wrong_flops(record, find)


def _wrong_steps(record: Record, budget: Budget, steps: int, pairs: int, batch: int) -> Iterator[str]:
    """Yield where pairs and steps do not follow from the budget and from each other."""
    planned = {"steps": budget.amount, "pairs": budget.amount // batch}.get(budget.currency)
    if record.scored:
        if planned is not None and steps != planned:
            yield f"got spend.steps {steps}, expected {int(planned)} as the budget {budget} says, {batch} pairs each"
        if pairs != steps * batch:
            yield f"got spend.pairs {pairs}, expected {steps * batch}: {steps} steps of {batch} pairs"
        return
    # it diverged within a step, or after it
    if not steps * batch <= pairs <= (steps + 1) * batch:
        yield f"got spend.pairs {pairs}, expected {steps * batch} to {(steps + 1) * batch}: {steps} steps of {batch}"
    if planned is not None and (steps > planned or pairs > planned * batch):
        yield f"got {steps} steps and {pairs} pairs, expected at most the {int(planned)} steps of the budget {budget}"


def _over_budget(record: Record, budget: Budget, batch: int) -> Iterator[str]:
    """Yield where a budget in tokens, FLOPs or seconds is exceeded, or was not used up."""
    if budget.currency not in ("tokens", "flops", "seconds"):
        return
    got = getattr(record.spend, budget.currency)
    if got is None:
        yield f"got no spend.{budget.currency}, expected it, the currency of the budget {budget}"
        return
    if budget.currency == "seconds":
        if record.scored and got < budget.amount:
            yield f"got spend.seconds {got:.6g}, expected at least the {budget.amount:g} of the budget"
        return
    if got > budget.amount * (1 + TOLERANCE):
        yield f"got spend.{budget.currency} {got:.10g}, expected at most {budget.amount:.10g}, the budget"
    # a step more would have cost too much: no step costs more than its pairs at their longest
    longest = batch * 2 * (record.board.max_length or math.inf)
    dearest = {"tokens": 1, "flops": MOST_FLOPS_PER_TOKEN * (record.model.parameters or math.inf)}[budget.currency]
    if record.scored and got < budget.amount - longest * dearest:
        yield (
            f"got spend.{budget.currency} {got:.10g}, expected nearly {budget.amount:.10g}, the budget: "
            f"it pays for {batch} pairs more"
        )


def _wrong_flops(record: Record, find: Find) -> Iterator[str]:
    """Yield where the FLOPs are not those of so many tokens on a model of this size."""
    flops, tokens, parameters = record.spend.flops, record.spend.tokens, record.model.parameters
    if flops is None or tokens is None or parameters is None:
        return
    flops -= record.spend.selection_flops or 0.0
    least = FLOPS_PER_TOKEN * parameters * tokens
    if flops < least * (1 - TOLERANCE):
        yield f"got spend.flops {flops:.6g}, expected at least {least:.6g}: {tokens} tokens, {parameters} parameters"
        return
    loss = find(record) if record.environment.harness == harness.__version__ else None
    if loss is None or loss.needs_kl:
        return
    fit = [loss_flops(loss, [tokens], parameters, in_parts=parts, mismatched=None)[0] for parts in (True, False)]
    if not any(near(flops, value) for value in fit):
        yield f"got spend.flops {flops:.6g}, expected {fit[1]:.6g}: {tokens} tokens, {parameters} parameters"


def _other_tokens(cells: Sequence[UntrustedCell]) -> list[str]:
    """Return where cells of one model and seed visited other numbers of pairs or tokens, unless speed decides that."""
    problems = []
    first: dict[Hashable, tuple[UntrustedCell, Spend]] = {}
    for cell, name in product(cells, ("pairs", "tokens")):
        record, budget = cell.record, cell.record.board.budget or ""
        if not record.scored or record.kind != "loss" or budget.startswith(("flops", "seconds")):
            continue
        place = (name, record.board, record.model.name, record.seed)
        other, spend = first.setdefault(place, (cell, record.spend))
        got, wanted = getattr(record.spend, name), getattr(spend, name)
        if got != wanted:
            problems.append(
                f"{cell.file(RECORD)}: got spend.{name} {got}, expected {wanted} as in {other.name}: every loss visits "
                "the same pairs; run the cell again"
            )
    return problems
