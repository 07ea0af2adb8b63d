"""Checks that every option has an effect, is read back as written, and refuses what it cannot use. Needs torch."""

from __future__ import annotations

import dataclasses
import json
import math
import re
import tomllib
import typing
from functools import partial
from itertools import chain, islice, zip_longest

import numpy as np
import torch
from torch import Tensor

from harness.api.checks.batches import Batch, one_sided, ordinary
from harness.api.checks.kit import Kit, applies
from harness.api.checks.option_values import alternatives, choices, kinds, numeric, own_options
from harness.api.errors import CheckError, HarnessError, demand
from harness.api.evaluation import differentiate, evaluate, given, rewards
from harness.api.loss import Loss
from harness.api.option_notes import option_notes

NUMBER = r"(-?[0-9.]+(?:e-?[0-9]+)?)"
BOUND = re.compile(rf", (above|at least) {NUMBER}(?: and (below|at most) {NUMBER})?(?=[.,;:)]| \(|$)")
UPPER = re.compile(rf", (below|at most) {NUMBER}(?=[.,;:)]| \(|$)")
TRIED = 6
"""How many other values of an option are tried in combination with another value of another option."""


def every_option_acts(loss: Loss, kit: Kit) -> None:
    """Another value of an option changes some value, gradient, reward or state, if need be with another option changed.

    Guards against options that are read and dropped: TRL 7063 (label_smoothing in a fused DPO), ms-swift 10167 (hinge
    and ipo trained as sigmoid). The field of an option that cannot act here has metadata {"unchecked": reason}.
    """
    fields = own_options(loss)
    checked = [name for name, field in fields.items() if "unchecked" not in field.metadata]
    applies(bool(checked), "it has no option of its own to check")
    traces, hints = _Traces(_batches()), typing.get_type_hints(type(loss))
    for name in checked:
        others = sorted((other for other in checked if other != name), key=lambda other: numeric(hints[other]))
        variants = [islice(alternatives(loss, other), TRIED) for other in others]
        in_turn = chain.from_iterable(zip_longest(*variants))  # the first of every other option, then the second, ...
        contexts = chain([loss], (variant for variant in in_turn if variant is not None))
        demand(
            any(
                traces.differ(context, changed)
                for context in contexts
                for changed in islice(alternatives(context, name), TRIED if context is not loss else None)
            ),
            f"got the same values for every {name} that was tried, expected a change; use the option or take it out "
            '(metadata {"unchecked": reason} where it cannot act on these inputs)',
        )


def options_come_back(loss: Loss, kit: Kit) -> None:
    """`from_options` reads back what `options` gave, through JSON, a TOML run file and the command line's text.

    Guards against a record that names other settings than were trained: baselines nobody could rebuild, SimPO 23, 66.
    """
    options = loss.options()
    toml = "\n".join(f"{json.dumps(key)} = {json.dumps(value)}" for key, value in options.items() if value is not None)
    for name, read in {
        "JSON": json.loads(json.dumps(options)),
        "TOML": {**{key: None for key, value in options.items() if value is None}, **tomllib.loads(toml)},
        "text": {key: str(value) for key, value in options.items()},
    }.items():
        again = type(loss).from_options(read, kit.lookup)
        demand(
            again == loss, f"got {again} back through {name}, expected {loss}; keep options to numbers, texts and None"
        )


def unknown_options_are_refused(loss: Loss, kit: Kit) -> None:
    """An unknown option raises a `HarnessError` that names it.

    Guards against a misspelt option that trains the default: TRL's CPOTrainer takes `loss_type="simpo"` and keeps its
    NLL term, because nothing says that `cpo_alpha` was meant too.
    """
    options = {**loss.options(), "no_such_option": 1.0}
    message = _refusal(partial(type(loss).from_options, options, kit.lookup))
    demand(
        message is not None, "got no error for option 'no_such_option', expected HarnessError; do not swallow options"
    )
    demand("no_such_option" in str(message), f"got the error '{message}', expected the option's name in it")


def wrong_values_are_refused(loss: Loss, kit: Kit) -> None:
    """A value of the wrong type and an unknown choice each raise a `HarnessError`.

    Guards against ms-swift 10167: a loss type that one code path does not know falls through to another one.
    """
    fields, hints = own_options(loss, nested=True), typing.get_type_hints(type(loss))
    applies(bool(fields), "it has no options")
    for name in fields:
        wrong: list[object] = [["a", "list"]]
        if numeric(hints[name]):
            wrong += ["two", True]
        if choices(hints[name]):
            wrong.append("no-such-choice")
            demand(
                _refusal(partial(dataclasses.replace, loss, **{name: "no-such-choice"})) is not None,
                f"got no error from the constructor for {name}='no-such-choice', expected HarnessError; use require",
            )
        for value in wrong:
            demand(
                _refusal(partial(kit.rebuilt, loss, {name: value})) is not None,
                f"got no error for {name}={value!r}, expected HarnessError; give the field its type",
            )


def numbers_that_are_not_finite_are_refused(loss: Loss, kit: Kit) -> None:
    """NaN and the infinities are refused as options, in a run file and in the constructor, with a `HarnessError`.

    Guards against a run that spends its whole budget on NaN.
    """
    hints = typing.get_type_hints(type(loss))
    names = [name for name in own_options(loss) if numeric(hints[name])]
    applies(bool(names), "it has no numeric option")
    for name in names:
        for value in (math.nan, math.inf, -math.inf):
            for where, build in (
                ("from_options", partial(kit.rebuilt, loss, {name: value})),
                ("the constructor", partial(dataclasses.replace, loss, **{name: value})),
            ):
                refused = _refusal(build) is not None
                demand(refused, f"got no error for {name}={value} from {where}, expected HarnessError; use require")


def documented_bounds_hold(loss: Loss, kit: Kit) -> None:
    """A number beyond the bounds in the option's description (", above 0", ", at least 0 and below 0.5") is refused.

    Guards against bounds that only the documentation knows: SimPO's gamma is absolute in TRL and a ratio in the
    authors' code, so the same number means different losses.
    """
    notes, hints = option_notes(type(loss)), typing.get_type_hints(type(loss))
    checked = 0
    for name in own_options(loss):
        if not numeric(hints[name]):
            continue
        for value in _beyond(notes.get(name, ""), whole=float not in kinds(hints[name])):
            checked += 1
            refused = _refusal(partial(dataclasses.replace, loss, **{name: value})) is not None
            demand(refused, f"got no error for {name}={value}, expected HarnessError as it is documented; use require")
    applies(checked > 0, "no option's description states a bound")


def tuning_ranges_are_usable(loss: Loss, kit: Kit) -> None:
    """The loss accepts both ends of every range in `search_space` and is finite there.

    Guards against a tuned row that fails because of its range and not because of its method.
    """
    space, fields = loss.search_space, own_options(loss)
    applies(bool(space), "it declares nothing to tune")
    pairs = ordinary(np.random.default_rng(31))
    for name, spread in space.items():
        demand(name in fields, f"search_space names '{name}', expected one of {', '.join(fields)}")
        ordered = spread.low < spread.high and (spread.low > 0 or not spread.log)
        demand(ordered, f"search_space gives {name} {spread}, expected low < high, and low above 0 on a log scale")
        for value in (spread.low, spread.high):
            try:
                tuned = dataclasses.replace(loss, **{name: type(getattr(loss, name) or 0.0)(value)})
            except HarnessError as error:
                raise CheckError(f"search_space gives {name}={value}, which is refused: {error}; narrow it") from None
            finite = bool(evaluate(tuned, given(tuned, pairs)).isfinite().all())
            demand(
                finite, f"got values that are not finite at {name}={value} of search_space, expected finite; narrow it"
            )


# -- helpers -------------------------------------------------------------------------------------------------------
class _Traces:
    """All outputs of losses on a few batches, kept because each loss is compared with many others."""

    def __init__(self, batches: list[Batch]) -> None:
        self.batches = batches
        self.seen: dict[str, list[Tensor] | None] = {}

    def differ(self, loss: Loss, changed: Loss) -> bool:
        """Return whether any output differs; False where one of the losses cannot be called here."""
        outputs = self._of(loss)
        others = None if outputs is None else self._of(changed)
        if outputs is None or others is None:
            return False
        return any(not _alike(before, after) for before, after in zip(outputs, others, strict=True))

    def _of(self, loss: Loss) -> list[Tensor] | None:
        if (key := repr(loss)) not in self.seen:
            try:
                self.seen[key] = self._trace(loss)
            except HarnessError:  # it needs something that is not installed, such as an encoder
                self.seen[key] = None
        return self.seen[key]

    def _trace(self, loss: Loss) -> list[Tensor]:
        outputs: list[Tensor] = []
        state, rng = loss.initial_state(), np.random.default_rng(0)
        for batch in self.batches:
            pairs = given(loss, batch)
            outputs += [*differentiate(loss, pairs), rewards(loss, pairs)]
            if loss.batch_coupled:
                values, state = loss.step(pairs, state, rng)
                outputs.append(values)
        return outputs + [torch.as_tensor(state[name]) for name in sorted(state)]


def _batches() -> list[Batch]:
    rng = np.random.default_rng(32)
    sides = [one_sided(rng, misranked=misranked, tokens=tokens) for misranked in (True, False) for tokens in (3, 60)]
    return [ordinary(rng), *sides]


def _alike(before: Tensor, after: Tensor) -> bool:
    return before.shape == after.shape and torch.allclose(before, after, rtol=1e-10, atol=1e-14, equal_nan=True)


def _refusal(build: typing.Callable[[], object]) -> HarnessError | None:
    """Return the `HarnessError` that `build` raises, or None if it raises none."""
    try:
        build()
    except HarnessError as error:
        return error
    return None


def _beyond(note: str, *, whole: bool) -> list[float]:
    """Return numbers just outside the bounds that a description states."""
    step = 1 if whole else 1e-3
    outside: list[float] = []
    for match in (*BOUND.finditer(note), *UPPER.finditer(note)):
        words = [group for group in match.groups() if group is not None]
        for word, text in zip(words[::2], words[1::2], strict=True):
            bound = float(text.rstrip("."))
            low = word in ("above", "at least")
            outside.append(bound - step if low else bound + step)
            if word in ("above", "below"):
                outside.append(bound)
    return [int(number) for number in outside] if whole else outside
