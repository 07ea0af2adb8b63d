"""`Loss`, which a plugin subclasses: a frozen dataclass from log-probs to one number per pair. Imports no torch."""

from __future__ import annotations

import dataclasses
import difflib
import typing
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from harness.api.declarations import ComparisonKind, Domain, Limit, MovingReference, Range
from harness.api.errors import HarnessError
from harness.api.option_values import read_option
from harness.api.pairs import PairLogps, ResponseLogps

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from torch import Tensor

Resolve = Callable[[str, Mapping[str, Any]], "Loss"]
"""(name, options) -> the loss of that name with those options."""
State = Mapping[str, "Tensor"]
"""What a stateful loss carries from one optimiser step to the next."""


class Terms(NamedTuple):
    """The two parts of a loss, (B,) each; a wrapper such as GapPO weighs the preference part alone."""

    preference: Tensor
    auxiliary: Tensor

    @classmethod
    def of(cls, preference: Tensor) -> Terms:
        """Return terms with an auxiliary part of zeros, for the many losses that have none."""
        return cls(preference, preference.new_zeros(preference.shape))


@dataclass(frozen=True, kw_only=True)
class Loss(ABC):
    """One preference loss. Its fields are its hyperparameters, its run-file options and its record columns.

    A subclass is a frozen, keyword-only dataclass with a `name`, `terms` and `reward`. It never sees the model,
    the tokenizer or the trainer.
    """

    name: ClassVar[str]
    """The name on the command line and on the board: lower-case letters, digits and dashes."""
    search_space: ClassVar[Mapping[str, Range]] = {}
    """The options that tuning may vary besides the learning rate, each with its range."""

    # Traits: class attributes, or properties where they depend on an option.
    @property
    def needs_reference(self) -> bool:
        """Whether the loss needs the reference's summed log-prob of each response."""
        return False

    @property
    def reward_needs_reference(self) -> bool:
        """Whether the reward needs it too; default: as the loss. Where it does, so does the loss."""
        return self.needs_reference

    @property
    def needs_reference_tokens(self) -> bool:
        """Whether the loss needs the reference's log-prob of each token."""
        return False

    @property
    def needs_kl(self) -> bool:
        """Whether the loss needs a mismatched completion for each pair."""
        return False

    @property
    def needs_log_sum_sq(self) -> bool:
        """Whether the loss needs log sum_v p(v)^2 for each token."""
        return False

    @property
    def needs_token_kl(self) -> bool:
        """Whether the loss needs the KL of the policy from the reference at each token, over the whole vocabulary."""
        return False

    @property
    def needs_reference_entropy(self) -> bool:
        """Whether the loss needs how uncertain the reference was while it read each response."""
        return False

    @property
    def batch_coupled(self) -> bool:
        """Whether the value of a pair depends on the other pairs of the optimiser step."""
        return False

    @property
    def needs_columns(self) -> tuple[str, ...]:
        """Columns that the data must have, finite everywhere, for example ("score_chosen", "score_rejected")."""
        return ()

    @property
    def stateful(self) -> bool:
        """Whether the loss carries a state from step to step: it is then `batch_coupled` and overrides `step`."""
        return False

    @property
    def moving_reference(self) -> MovingReference | None:
        """How the reference moves in training; None: not at all. Rewards stay relative to the start checkpoint."""
        return None

    # The kind of method: for the catalogue and the board.
    @property
    def comparison(self) -> ComparisonKind:
        """How the two responses of a pair enter the loss.

        "pairwise": through their difference; "pointwise": each is compared with a target of its own; "unpaired": one
        good-or-bad label per response would do, no pair is needed.
        """
        return "pairwise"

    @property
    def length_normalised(self) -> bool:
        """Whether the reward is averaged over the response tokens rather than summed."""
        return False

    # What the loss promises, and the conformance checks therefore test.
    @property
    def monotone(self) -> bool:
        """Whether a likelier chosen or a less likely rejected response never raises the loss."""
        return True

    @property
    def saturates(self) -> bool:
        """Whether the gradient may vanish on a misranked pair."""
        return False

    @property
    def domain(self) -> Domain:
        """The log-probs for which value and gradient are finite."""
        return Domain()

    @property
    def limits(self) -> tuple[Limit, ...]:
        """Special cases in which this loss equals another one."""
        return ()

    def prepare(self, pairs: pd.DataFrame) -> Mapping[str, np.ndarray]:
        """Return extra columns, (len(pairs),) each, computed once over the training pairs the budget will visit.

        `pairs` has one row per training pair and the columns pair_id, prompt_id, prompt, chosen, rejected,
        score_chosen, score_rejected, chosen_tokens, rejected_tokens; with `needs_reference` also the sums ref_chosen
        and ref_rejected.
        """
        return {}

    @abstractmethod
    def terms(self, pairs: PairLogps) -> Terms:
        """Return the preference and the auxiliary part of the loss, (B,) each, in the dtype of the log-probs."""

    def __call__(self, pairs: PairLogps) -> Tensor:
        """Return the loss of each pair, (B,): preference + auxiliary."""
        preference, auxiliary = self.terms(pairs)
        return preference + auxiliary

    def initial_state(self) -> State:
        """Return the state before the first optimiser step."""
        return {}

    def step(self, pairs: PairLogps, state: State, rng: np.random.Generator) -> tuple[Tensor, State]:
        """Return the loss of each pair of a whole optimiser step, (B,), and the next state.

        The trainer calls it for `batch_coupled` losses. A loss that drops pairs gives them 0 and multiplies the others
        by B / (number of pairs kept). `rng` is seeded per cell; a loss uses no other randomness.
        """
        return self(pairs), state

    @abstractmethod
    def reward(self, response: ResponseLogps) -> Tensor:
        """Return this method's implicit reward of each response, (B,)."""

    @classmethod
    def from_options(cls, options: Mapping[str, Any], resolve: Resolve | None = None) -> Self:
        """Return the loss with `options` set; text values are read as the field's type.

        A field of type `Loss` takes the name of another loss, resolved by `resolve`, whose options carry the
        field's name as a prefix: `{"base": "dpo", "base.beta": 0.1}`.
        Raises `HarnessError` for an unknown option, a value of the wrong type and a value that the loss refuses.
        """
        fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
        hints = typing.get_type_hints(cls)
        values: dict[str, Any] = {}
        nested: dict[str, dict[str, Any]] = {name: {} for name in fields if _is_loss(hints[name])}
        for option, value in options.items():
            head, _, rest = option.partition(".")
            if rest and head in nested:
                nested[head][rest] = value
            elif option in fields:
                values[option] = value
            else:
                raise HarnessError(_unknown_option(cls.name, option, fields, nested))
        for name, inner in nested.items():
            chosen = values.get(name, fields[name].metadata.get("loss"))
            if not inner and (isinstance(chosen, Loss) or (chosen is None and _has_default(fields[name]))):
                continue
            if not isinstance(chosen, str):
                raise HarnessError(f"loss '{cls.name}': option '{name}' got {chosen!r}, expected the name of a loss")
            if resolve is None:
                raise HarnessError(
                    f"loss '{cls.name}': option '{name}={chosen}' names a loss, but there is nothing to look it up "
                    "with; give from_options a `resolve`"
                )
            values[name] = resolve(chosen, inner)
        values = {
            name: value if _is_loss(hints[name]) else read_option(f"loss '{cls.name}'", name, value, hints[name])
            for name, value in values.items()
        }
        missing = [name for name, field in fields.items() if name not in values and not _has_default(field)]
        if missing:
            raise HarnessError(
                f"loss '{cls.name}' got no {', '.join(missing)}, which has no default; write {missing[0]}=VALUE"
            )
        try:
            return cls(**values)
        except HarnessError as error:
            raise HarnessError(f"loss '{cls.name}': {error}") from None

    def options(self) -> dict[str, Any]:
        """Return every option with its value, flat and JSON-ready; `from_options` reads it back."""
        flat: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            if not field.init:
                continue
            value = getattr(self, field.name)
            if isinstance(value, Loss):
                flat[field.name] = value.name
                flat.update({f"{field.name}.{name}": inner for name, inner in value.options().items()})
            else:
                flat[field.name] = value
        return flat

    def tuning_space(self) -> dict[str, Range]:
        """Return the range of each option that tuning may vary; those of a wrapped loss as `<field>.<option>`."""
        space = dict(self.search_space)
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Loss):
                space.update({f"{field.name}.{option}": inner for option, inner in value.tuning_space().items()})
        return space


def wraps(default: str) -> Any:
    """Return a dataclass field that holds another loss, by default the one called `default`.

    `base: Loss = wraps("simpo")` makes `gappo`, `gappo:base=dpo` and `gappo:base=dpo,base.beta=0.1` work; whoever
    builds the wrapper in Python passes the loss itself.
    """
    return dataclasses.field(metadata={"loss": default})


def require(condition: bool, message: str) -> None:
    """Raise `HarnessError(message)` unless `condition` holds; for a loss's `__post_init__`."""
    if not condition:
        raise HarnessError(message)


def _has_default(field: dataclasses.Field[Any]) -> bool:
    return field.default is not dataclasses.MISSING or field.default_factory is not dataclasses.MISSING


def _is_loss(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, Loss)


def _unknown_option(name: str, option: str, fields: Mapping[str, Any], nested: Mapping[str, Any]) -> str:
    known = ", ".join([*fields, *(f"{field}.<option>" for field in nested)]) or "none"
    close = difflib.get_close_matches(option, list(fields), n=1)
    return f"loss '{name}' has no option '{option}'; its options are {known}" + (
        f" (did you mean '{close[0]}'?)" if close else ""
    )
