"""The conformance checks: each finds the mistake it is meant for, and sound losses pass all of them."""

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from harness_plugins.cpo import CPO
from harness_plugins.dpo import DPO
from harness_plugins.gappo import GapPO
from harness_plugins.simpo import SimPO
from planted_defects import DEFECTS

from harness.api import HarnessError, Limit, Loss, PairLogps, Terms
from harness.api.checks import (
    CHECKS,
    CheckError,
    Golden,
    Kit,
    NotApplicable,
    check_loss,
    parametrize_with_checks,
    rule,
)
from harness.api.checks.batches import logps

KNOWN: Mapping[str, type[Loss]] = {"simpo": SimPO, "dpo": DPO, "cpo": CPO}
BY_NAME = {rule(check): check for check in CHECKS}


def resolve(name: str, options: Mapping[str, Any]) -> Loss | None:
    return KNOWN[name].from_options(options, resolve) if name in KNOWN else None


# SimPO at beta 2 and gamma 0.5 on mean log-probs of -1 and -2: -log sigmoid(2 * 1 - 0.5) = log(1 + e^-1.5)
SIMPO_PAIR = PairLogps(chosen=logps([[-0.5, -1.5]]), rejected=logps([[-2.0]]))
TRUE = Golden(loss="simpo", pairs=SIMPO_PAIR, expected=[0.2014132779827524], source="by hand")
FALSE = Golden(loss="simpo", pairs=SIMPO_PAIR, expected=[0.2014132779], source="by hand, a digit off")
KIT = Kit(resolve=resolve)


@pytest.mark.parametrize(
    ("loss", "check"), [case[1:] for case in DEFECTS], ids=[f"{case[0]}-{case[2]}" for case in DEFECTS]
)
def test_the_check_that_is_meant_for_a_mistake_finds_it(loss: Loss, check: str) -> None:
    with pytest.raises(CheckError) as caught:
        BY_NAME[check](loss, KIT)
    assert "expected" in str(caught.value)


def test_a_golden_value_that_is_off_in_the_tenth_digit_is_found() -> None:
    BY_NAME["golden_values_hold"](SimPO(), Kit(resolve=resolve, golden=(TRUE,)))
    with pytest.raises(CheckError, match=r"expected \[0\.2014132779\] \(by hand, a digit off\)"):
        BY_NAME["golden_values_hold"](SimPO(), Kit(resolve=resolve, golden=(FALSE,)))


@pytest.mark.parametrize(
    ("what", "expected"),
    [("mean", [0.2014132779827524]), ("preference", [0.2014132779827524]), ("reward", [-2.0, -4.0])],
)
def test_a_golden_value_may_be_the_mean_the_preference_part_or_the_rewards(what: Any, expected: list[float]) -> None:
    golden = Golden(loss="simpo", pairs=SIMPO_PAIR, expected=expected, what=what)
    BY_NAME["golden_values_hold"](SimPO(beta=7.0), Kit(resolve=resolve, golden=(golden,)))


def test_every_check_has_a_planted_mistake() -> None:
    assert {rule(check) for check in CHECKS} == {case[2] for case in DEFECTS} | {"golden_values_hold"}


def test_every_check_says_what_the_rule_is_and_which_mistake_it_guards_against() -> None:
    for check in CHECKS:
        text = " ".join((check.__doc__ or "").split())
        assert "Guards against" in text, rule(check)


@pytest.mark.parametrize(
    "loss",
    [
        SimPO(),
        DPO(label_smoothing=0.1),
        CPO(nll_reduction="token"),
        GapPO(base=SimPO()),
        GapPO(base=DPO(), clip_max=1.5),
    ],
    ids=["simpo", "dpo", "cpo-token", "gappo-simpo", "gappo-dpo"],
)
def test_a_sound_loss_passes_every_check(loss: Loss) -> None:
    results = check_loss(loss, Kit(resolve=resolve, golden=(TRUE,)))
    assert [(result.name, result.message) for result in results if result.status == "failed"] == []
    assert [result.name for result in results] == [rule(check) for check in CHECKS]


def test_an_error_inside_a_check_is_a_failure_of_that_check_alone() -> None:
    class Raises(SimPO):
        def terms(self, pairs: PairLogps) -> Terms:
            raise ZeroDivisionError("by nothing")

    results = {result.name: result for result in check_loss(Raises(), KIT)}
    assert results["gives_one_value_per_pair"].message == "ZeroDivisionError: by nothing"
    assert results["reward_rises_with_the_log_prob"].status == "passed"


def test_a_rule_that_a_loss_declares_away_does_not_apply_with_the_reason() -> None:
    class Saturates(SimPO):
        saturates = True

    with pytest.raises(NotApplicable, match="saturates"):
        BY_NAME["misranked_pairs_get_a_gradient"](Saturates(), KIT)


def test_a_limit_to_a_loss_that_is_not_installed_does_not_apply() -> None:
    class Special(SimPO):
        limits = (Limit(options={}, equals="nobody"),)

    with pytest.raises(NotApplicable, match="nobody is not installed"):
        BY_NAME["limits_hold"](Special(), KIT)


def test_a_loss_around_one_that_is_not_installed_says_so() -> None:
    with pytest.raises(HarnessError, match="got loss 'simpo', which is not installed"):
        Kit(resolve=lambda name, options: None).rebuilt(GapPO(base=SimPO()), {})


def test_tests_are_called_by_the_loss_and_the_rule() -> None:
    mark = parametrize_with_checks([SimPO(), CPO(nll_reduction="token")], KIT).mark
    ids = [case.id for case in mark.args[1]]
    assert ids[0] == "simpo-traits_are_well_formed"
    assert "cpo(nll_reduction=token)-limits_hold" in ids
    assert len(ids) == 2 * len(CHECKS)


def test_a_failing_check_fails_its_test_and_one_that_does_not_apply_skips() -> None:
    class WrongSign(SimPO):
        def terms(self, pairs: PairLogps) -> Terms:
            return Terms.of(pairs.chosen.mean() - pairs.rejected.mean())

    run = {case.id: case.values[1] for case in parametrize_with_checks([WrongSign()], KIT).mark.args[1]}
    with pytest.raises(CheckError, match="correct the sign"):
        run["simpo-larger_margin_never_raises_the_loss"](WrongSign())
    with pytest.raises(pytest.skip.Exception, match="no special case"):
        run["simpo-limits_hold"](WrongSign())


def test_importing_the_api_loads_neither_torch_nor_the_checks() -> None:
    code = "import harness.api, sys; print([m for m in ('torch', 'harness.api.checks', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_global_generators_are_left_where_they_were() -> None:
    before = torch.get_rng_state()
    check_loss(SimPO(), KIT)
    assert torch.equal(before, torch.get_rng_state())
