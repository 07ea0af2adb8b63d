"""Options of a loss: read from text, refused with what was expected, written back as JSON."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytest
import torch

from harness.api import HarnessError, Logps, Loss, PairLogps, Range, ResponseLogps, Terms, require, wraps
from harness.manager import losses, plugin_manager, resolver


@dataclass(frozen=True, kw_only=True)
class Plain(Loss):
    name: ClassVar[str] = "plain"
    search_space: ClassVar[Mapping[str, Range]] = {"beta": Range(low=0.1, high=1.0, log=True)}

    beta: float = 2.0
    steps: int = 3
    clip: float | None = None
    swap: bool = False
    mode: Literal["mean", "sum"] = "mean"
    path: str = "here"

    def __post_init__(self) -> None:
        require(self.beta > 0, f"beta got {self.beta}, expected a number above 0")

    def terms(self, pairs: PairLogps) -> Terms:
        return Terms.of(-pairs.chosen.mean())

    def reward(self, response: ResponseLogps) -> torch.Tensor:
        return self.beta * response.sum


@dataclass(frozen=True, kw_only=True)
class Wrapper(Plain):
    name: ClassVar[str] = "wrapper"
    search_space: ClassVar[Mapping[str, Range]] = {"beta": Range(low=3.0, high=4.0)}
    base: Loss = wraps("plain")  # noqa: RUF009  # it is a field specifier, evaluated once


@dataclass(frozen=True, kw_only=True)
class Holder(Plain):
    name: ClassVar[str] = "holder"
    held: Loss = dataclasses.field(default=Plain(beta=7.0))
    target: float
    derived: float = dataclasses.field(init=False, default=0.0)


def resolve(name: str, options: Mapping[str, Any]) -> Loss:
    return {"plain": Plain, "wrapper": Wrapper}[name].from_options(options, resolve)


def test_text_is_read_as_the_type_of_the_field() -> None:
    options = {"beta": "2.5", "steps": "4", "clip": "1e-2", "swap": "true", "mode": "sum", "path": "7"}
    got = Plain.from_options(options)
    assert got == Plain(beta=2.5, steps=4, clip=0.01, swap=True, mode="sum", path="7")
    assert type(got.beta) is float
    assert Plain.from_options({"clip": "none"}).clip is None
    assert Plain.from_options({"beta": 3}).beta == 3.0


def test_an_unknown_option_is_answered_with_the_options_there_are_and_the_nearest() -> None:
    simpo = losses(plugin_manager())["simpo"]
    with pytest.raises(HarnessError) as caught:
        simpo.from_options({"betta": 2.0})
    assert str(caught.value) == "loss 'simpo' has no option 'betta'; its options are beta, gamma (did you mean 'beta'?)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"beta": "two"}, "loss 'plain': option 'beta' got 'two', expected float; write beta=VALUE of that kind"),
        ({"beta": True}, "option 'beta' got True, expected float"),
        ({"beta": "nan"}, "option 'beta' got 'nan', expected float"),
        ({"beta": "inf"}, "option 'beta' got 'inf', expected float"),
        ({"beta": None}, "option 'beta' got None, expected float"),
        ({"beta": [1.0]}, "option 'beta' got [1.0], expected float"),
        ({"steps": "2.5"}, "option 'steps' got '2.5', expected int"),
        ({"steps": True}, "option 'steps' got True, expected int"),
        ({"clip": "much"}, "option 'clip' got 'much', expected float | None"),
        ({"clip": False}, "option 'clip' got False, expected float | None"),
        ({"mode": "median"}, "option 'mode' got 'median', expected one of mean, sum; write mode=VALUE"),
        ({"swap": "perhaps"}, "option 'swap' got 'perhaps', expected bool"),
        ({"beta": -1.0}, "loss 'plain': beta got -1.0, expected a number above 0"),
        ({"beta.x": 1.0}, "loss 'plain' has no option 'beta.x'"),
    ],
)
def test_a_value_that_does_not_fit_is_answered_with_what_was_expected(options: dict[str, Any], message: str) -> None:
    with pytest.raises(HarnessError) as caught:
        Plain.from_options(options)
    assert message in str(caught.value)


def test_options_of_a_wrapped_loss_carry_the_name_of_its_field() -> None:
    assert Wrapper.from_options({}, resolve) == Wrapper(base=Plain())
    assert Wrapper.from_options({"base.beta": "5", "beta": "4"}, resolve) == Wrapper(beta=4.0, base=Plain(beta=5.0))
    deep = {"base": "wrapper", "base.base": "plain", "base.base.beta": 0.5}
    assert Wrapper.from_options(deep, resolve) == Wrapper(base=Wrapper(base=Plain(beta=0.5)))
    assert Wrapper.from_options({"base": Plain(beta=9.0)}) == Wrapper(base=Plain(beta=9.0))


def test_an_unknown_option_of_a_wrapped_loss_is_blamed_on_that_loss() -> None:
    with pytest.raises(HarnessError, match=r"loss 'plain' has no option 'betta'"):
        Wrapper.from_options({"base.betta": 1.0}, resolve)
    with pytest.raises(
        HarnessError, match=r"loss 'wrapper' has no option 'bass\.beta'; its options are .*base\.<option>"
    ):
        Wrapper.from_options({"bass.beta": 1.0}, resolve)


def test_a_base_that_is_no_name_or_cannot_be_looked_up_is_refused() -> None:
    with pytest.raises(HarnessError, match=r"option 'base' got 3, expected the name of a loss"):
        Wrapper.from_options({"base": 3}, resolve)
    with pytest.raises(HarnessError, match=r"nothing to look it up with"):
        Wrapper.from_options({"base": "plain"})


def test_an_option_without_a_default_must_be_given() -> None:
    with pytest.raises(HarnessError, match=r"loss 'holder' got no target, .*write target=VALUE"):
        Holder.from_options({})
    assert Holder.from_options({"target": "1.5"}) == Holder(target=1.5, held=Plain(beta=7.0))


def test_a_field_that_is_not_set_by_its_user_is_no_option() -> None:
    assert "derived" not in Holder(target=1.5).options()
    with pytest.raises(HarnessError, match=r"loss 'holder' has no option 'derived'"):
        Holder.from_options({"target": 1.5, "derived": 2.0})


def test_the_options_of_every_shipped_loss_come_back_through_json() -> None:
    manager = plugin_manager()
    lookup = resolver(manager)
    for name in ("simpo", "cpo", "ipo", "alphapo", "gapo", "gappo", "dpo"):
        loss = lookup(name, {})
        again = lookup(name, json.loads(json.dumps(loss.options())))
        assert again == loss
        assert type(again) is losses(manager)[name]


def test_every_option_of_every_shipped_loss_is_read_from_text() -> None:
    lookup = resolver(plugin_manager())
    for name in ("simpo", "cpo", "ipo", "alphapo", "gapo", "gappo", "dpo"):
        loss = lookup(name, {})
        assert lookup(name, {option: str(value) for option, value in loss.options().items()}) == loss


def test_the_tuning_space_of_a_wrapper_holds_that_of_its_base() -> None:
    space = Wrapper(base=Wrapper(base=Plain())).tuning_space()
    assert {option: spread.low for option, spread in space.items()} == {
        "beta": 3.0,
        "base.beta": 3.0,
        "base.base.beta": 0.1,
    }


def test_a_loss_is_the_sum_of_its_two_terms_in_the_dtype_of_the_log_probs() -> None:
    mask = torch.tensor([[True, True], [True, False]])
    side = Logps(token=torch.tensor([[-1.0, -2.0], [-3.0, 0.0]]), mask=mask)
    value = Plain()(PairLogps(chosen=side, rejected=side))
    assert value.tolist() == [1.5, 3.0]
    assert value.dtype == torch.float32
