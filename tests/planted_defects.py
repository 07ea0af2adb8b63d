"""Losses with one deliberate mistake each, and the conformance check that is meant for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from harness_plugins.dpo import DPO
from harness_plugins.simpo import SimPO
from torch import Tensor
from torch.nn.functional import logsigmoid

from harness.api import Limit, Loss, MovingReference, PairLogps, Range, ResponseLogps, State, Terms, stop_gradient

DEFECTS: list[tuple[str, Loss, str]] = []
"""(what is wrong, the loss, the check meant for it)."""


def meant_for(check: str, **options: Any) -> Callable[[type[Loss]], type[Loss]]:
    def add(cls: type[Loss]) -> type[Loss]:
        DEFECTS.append((cls.__name__, cls(**options), check))
        return cls

    return add


def gap_of(pairs: PairLogps) -> Tensor:
    return pairs.chosen.mean() - pairs.rejected.mean()


# -- traits and values ---------------------------------------------------------------------------------------------
@meant_for("traits_are_well_formed")
class NameWithASpace(SimPO):
    name = "Sim PO"


@meant_for("traits_are_well_formed")
class StatefulWithoutWholeSteps(SimPO):
    stateful = True


@meant_for("traits_are_well_formed")
class MismatchesOfAReferenceThatMoves(DPO):
    needs_kl = True
    moving_reference = MovingReference(share=0.5, every=1)


@meant_for("gives_one_value_per_pair")
class ColumnOfValues(SimPO):
    def terms(self, pairs: PairLogps) -> Terms:
        return Terms.of(-logsigmoid(gap_of(pairs))[:, None])


@meant_for("gives_one_value_per_pair")
class MeanOfTheBatch(SimPO):
    def terms(self, pairs: PairLogps) -> Terms:
        return Terms.of(-logsigmoid(gap_of(pairs)).mean())


@meant_for("keeps_the_dtype")
class CastToFloat32(SimPO):
    def terms(self, pairs: PairLogps) -> Terms:
        return Terms.of(super().terms(pairs).preference.float())


@meant_for("is_attached_to_the_graph")
class HeldConstantAsAWhole(SimPO):
    def terms(self, pairs: PairLogps) -> Terms:
        return Terms.of(stop_gradient(super().terms(pairs).preference))


@meant_for("padding_changes_nothing")
class MeanOverThePadding(SimPO):
    def terms(self, pairs: PairLogps) -> Terms:
        return Terms.of(-logsigmoid(pairs.chosen.token.mean(-1) - pairs.rejected.token.mean(-1)))


@meant_for("pair_order_changes_nothing")
class WeightByPosition(SimPO):
    def terms(self, pairs: PairLogps) -> Terms:
        value = super().terms(pairs).preference
        return Terms.of(value * torch.linspace(1, 2, len(value)).to(value))


@meant_for("pair_order_changes_nothing")
class FirstPairAsBaseline(SimPO):
    batch_coupled = True

    def terms(self, pairs: PairLogps) -> Terms:
        gap = gap_of(pairs)
        return Terms.of(-logsigmoid(gap - stop_gradient(gap[0])))


@meant_for("micro_batches_change_nothing")
class UndeclaredBatchMean(SimPO):
    def terms(self, pairs: PairLogps) -> Terms:
        gap = gap_of(pairs)
        return Terms.of(-logsigmoid(gap - stop_gradient(gap.mean())))


# -- gradients -----------------------------------------------------------------------------------------------------
@meant_for("gradient_is_that_of_the_value")
class WeightAfterABareDetach(SimPO):
    def terms(self, pairs: PairLogps) -> Terms:
        return Terms.of(gap_of(pairs).sigmoid().detach() * super().terms(pairs).preference)


@meant_for("misranked_pairs_get_a_gradient")
class VanishesUndeclared(DPO):
    def terms(self, pairs: PairLogps) -> Terms:
        chosen, rejected = pairs.log_ratios()
        return Terms.of((-self.beta * (chosen - rejected)).sigmoid().square())


@meant_for("larger_margin_never_raises_the_loss")
class WrongSign(SimPO):
    def terms(self, pairs: PairLogps) -> Terms:
        return Terms.of(-logsigmoid(-gap_of(pairs)))


@meant_for("larger_margin_never_raises_the_loss")
class GradientThroughTheWeight(SimPO):
    def terms(self, pairs: PairLogps) -> Terms:
        return Terms.of((2 * (pairs.chosen.mean() + pairs.rejected.mean())).exp() * super().terms(pairs).preference)


@meant_for("larger_margin_never_raises_the_loss")
class WrongSignWithAState(WrongSign):
    stateful = batch_coupled = True


@meant_for("finite_over_its_domain")
class NaiveLogSigmoid(DPO):
    def terms(self, pairs: PairLogps) -> Terms:
        chosen, rejected = pairs.log_ratios()
        return Terms.of(-(self.beta * (chosen - rejected)).sigmoid().log())


@meant_for("finite_over_its_domain")
class PowerOfALikelihood(SimPO):
    def terms(self, pairs: PairLogps) -> Terms:
        return Terms.of(-logsigmoid(pairs.rejected.mean().exp() ** -4.0 - pairs.chosen.mean().exp() ** -4.0))


@meant_for("small_and_equal_steps_are_finite")
class SpreadOfTheStep(SimPO):
    batch_coupled = True

    def terms(self, pairs: PairLogps) -> Terms:
        gap = gap_of(pairs)
        return Terms.of(-logsigmoid(gap / stop_gradient(gap.std(correction=0))))


@meant_for("an_empty_response_is_finite")
class MeanOverNoTokens(SimPO):
    def terms(self, pairs: PairLogps) -> Terms:
        chosen, rejected = (side.token.sum(-1) / side.mask.sum(-1) for side in (pairs.chosen, pairs.rejected))
        return Terms.of(-logsigmoid(chosen - rejected))


# -- inputs --------------------------------------------------------------------------------------------------------
@meant_for("undeclared_inputs_are_not_read")
class ReferenceWhereThereIsOne(SimPO):
    def terms(self, pairs: PairLogps) -> Terms:
        margin = gap_of(pairs) if pairs.ref_chosen is None else gap_of(pairs) - pairs.ref_chosen
        return Terms.of(-logsigmoid(margin))


@meant_for("undeclared_inputs_are_not_read")
class ScoresInPrepare(SimPO):
    def prepare(self, pairs: pd.DataFrame) -> Mapping[str, np.ndarray]:
        return {"offset": pairs["score_chosen"].to_numpy() - pairs["score_rejected"].to_numpy()}

    def terms(self, pairs: PairLogps) -> Terms:
        return Terms.of(-logsigmoid(gap_of(pairs) - pairs.columns["offset"]))


@meant_for("declared_inputs_are_read")
class ReferenceForNothing(SimPO):
    needs_reference = True


@meant_for("declared_inputs_are_read")
class ScoresForNothing(SimPO):
    needs_columns = ("score_chosen",)


@meant_for("declared_inputs_are_read")
class MismatchForNothing(SimPO):
    needs_kl = True


@meant_for("keeps_no_state")
class MeanOfThePast(SimPO):
    past: ClassVar[list[float]] = []

    def terms(self, pairs: PairLogps) -> Terms:
        gap = gap_of(pairs)
        self.past.append(float(gap.mean()))
        return Terms.of(-logsigmoid(gap - float(np.mean(self.past))))


@meant_for("keeps_no_state")
class StateChangedInPlace(SimPO):
    stateful = batch_coupled = True

    def initial_state(self) -> State:
        return {"mean": torch.zeros((), dtype=torch.float64)}

    def step(self, pairs: PairLogps, state: State, rng: np.random.Generator) -> tuple[Tensor, State]:
        state["mean"].add_(float(gap_of(pairs).mean()))
        return -logsigmoid(gap_of(pairs) - state["mean"]), state


@meant_for("randomness_is_an_argument")
class GlobalNoise(SimPO):
    def terms(self, pairs: PairLogps) -> Terms:
        gap = gap_of(pairs)
        return Terms.of(-logsigmoid(gap + torch.rand_like(gap)))


@meant_for("randomness_is_an_argument")
class GlobalNoiseInPrepare(SimPO):
    def prepare(self, pairs: pd.DataFrame) -> Mapping[str, np.ndarray]:
        return {"unused": np.random.rand(len(pairs))}  # noqa: NPY002  # the defect


@meant_for("inputs_are_left_alone")
class ColumnChangedInPlace(SimPO):
    needs_columns = ("score_chosen",)

    def terms(self, pairs: PairLogps) -> Terms:
        return Terms.of(-logsigmoid(gap_of(pairs) - pairs.columns["score_chosen"].mul_(0.1)))


@meant_for("inputs_are_left_alone")
class TextsChangedInPlace(SimPO):
    def prepare(self, pairs: pd.DataFrame) -> Mapping[str, np.ndarray]:
        pairs["chosen"] = pairs["chosen"].str.lower() + " "
        return {}


# -- rewards -------------------------------------------------------------------------------------------------------
@meant_for("rewards_each_response")
class RewardInFloat64(SimPO):
    def reward(self, response: ResponseLogps) -> Tensor:
        return super().reward(response).double()


@meant_for("rewards_each_response")
class RewardOfTheBatch(SimPO):
    def reward(self, response: ResponseLogps) -> Tensor:
        return super().reward(response).mean()


@meant_for("reward_rises_with_the_log_prob")
class RewardOfWrongSign(SimPO):
    def reward(self, response: ResponseLogps) -> Tensor:
        return -super().reward(response)


@meant_for("reward_is_averaged_as_declared")
class SummedButDeclaredAveraged(DPO):
    length_normalised = True


@meant_for("reward_is_averaged_as_declared")
class AveragedButDeclaredSummed(SimPO):
    length_normalised = False


@meant_for("reference_and_reward_agree")
class RewardWithoutTheReference(DPO):
    def reward(self, response: ResponseLogps) -> Tensor:
        return self.beta * response.sum


@meant_for("reference_and_reward_agree")
class RewardWithALeakedReference(SimPO):
    def reward(self, response: ResponseLogps) -> Tensor:
        total = response.sum if response.ref_sum is None else response.sum - response.ref_sum
        return self.beta * total / response.length


@meant_for("reference_and_reward_agree")
class RewardOfAReferenceThatTheLossDoesNotRead(SimPO):
    reward_needs_reference = True

    def reward(self, response: ResponseLogps) -> Tensor:
        assert response.ref_sum is not None
        return self.beta * (response.sum - response.ref_sum) / response.length


# -- options -------------------------------------------------------------------------------------------------------
@meant_for("every_option_acts")
class SmoothingDropped(DPO):
    def terms(self, pairs: PairLogps) -> Terms:
        return replace(self, label_smoothing=0.0).plain(pairs)

    def plain(self, pairs: PairLogps) -> Terms:
        return super().terms(pairs)


@meant_for("options_come_back", beta=2.5)
class OptionsRounded(SimPO):
    def options(self) -> dict[str, Any]:
        return {"beta": round(self.beta), "gamma": self.gamma}


@meant_for("unknown_options_are_refused")
class UnknownOptionsSwallowed(SimPO):
    @classmethod
    def from_options(cls, options: Mapping[str, Any], resolve: Any = None) -> "UnknownOptionsSwallowed":
        return super().from_options({key: value for key, value in options.items() if key in ("beta", "gamma")}, resolve)


@meant_for("wrong_values_are_refused")
@dataclass(frozen=True, kw_only=True)
class ChoiceUnchecked(SimPO):
    kind: Literal["plain", "squared"] = "plain"

    def terms(self, pairs: PairLogps) -> Terms:
        value = super().terms(pairs).preference
        return Terms.of(value.square() if self.kind == "squared" else value)


@meant_for("wrong_values_are_refused")
@dataclass(frozen=True, kw_only=True)
class AnythingGoes(SimPO):
    shift: Any = 0.0


@meant_for("numbers_that_are_not_finite_are_refused")
class NanAccepted(SimPO):
    def __post_init__(self) -> None:
        pass


@meant_for("documented_bounds_hold")
@dataclass(frozen=True, kw_only=True)
class BoundOnPaperAlone(SimPO):
    gamma: float = 0.5
    """Target gap, at least 0 and below 3. Default: ours."""


@meant_for("tuning_ranges_are_usable")
class RangeBeyondItsBound(SimPO):
    search_space: ClassVar[Mapping[str, Range]] = {"beta": Range(low=0.0, high=1.0)}


@meant_for("tuning_ranges_are_usable")
class RangeOfNoOption(SimPO):
    search_space: ClassVar[Mapping[str, Range]] = {"betta": Range(low=0.1, high=1.0)}


# -- claims --------------------------------------------------------------------------------------------------------
@meant_for("limits_hold")
class FalseLimit(SimPO):
    limits = (Limit(options={"gamma": 0.0}, equals="dpo", equals_options={"beta": 0.1}),)


@meant_for("limits_hold")
class LimitInValueAlone(SimPO):
    limits = (Limit(options={"gamma": 0.0}, equals="simpo", equals_options={"gamma": 0.0}),)

    def terms(self, pairs: PairLogps) -> Terms:
        value = super().terms(pairs).preference
        return Terms.of(2 * value - stop_gradient(value))


@meant_for("is_documented")
class NoDocstring(SimPO):
    pass


@meant_for("is_documented")
@dataclass(frozen=True, kw_only=True)
class OptionWithoutAWord(SimPO):
    """A loss with an option that nobody knows."""

    shift: float = 0.0
