"""The conformance checks: the rules that every preference loss keeps, each a function of that name. Needs torch.

    from harness.api.checks import Kit, check_loss
    results = check_loss(MyLoss(), Kit(resolve=lambda name, options: None))

or, as tests of your own:

    @parametrize_with_checks([MyLoss()], Kit(resolve=lambda name, options: None))
    def test_my_loss(loss, check):
        check(loss)

Each check takes `(loss, kit)`; it raises `CheckError` if the loss breaks the rule and `NotApplicable` if the rule does
not apply to it. A check's docstring says what the rule is and which known mistake it guards against.

Numbers from other code are compared by `golden_values_hold`, with the records that `golden_records` reads from a file.
All that the tests of a loss need can be imported from here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING

from harness.api.checks.golden_file import golden_records
from harness.api.checks.kit import Golden, Kit, NotApplicable, Result
from harness.api.checks.rules_of_claims import golden_values_hold, is_documented, limits_hold, traits_are_well_formed
from harness.api.checks.rules_of_gradients import (
    an_empty_response_is_finite,
    finite_over_its_domain,
    gradient_is_that_of_the_value,
    larger_margin_never_raises_the_loss,
    misranked_pairs_get_a_gradient,
    small_and_equal_steps_are_finite,
)
from harness.api.checks.rules_of_inputs import (
    declared_inputs_are_read,
    inputs_are_left_alone,
    keeps_no_state,
    randomness_is_an_argument,
    undeclared_inputs_are_not_read,
)
from harness.api.checks.rules_of_options import (
    documented_bounds_hold,
    every_option_acts,
    numbers_that_are_not_finite_are_refused,
    options_come_back,
    tuning_ranges_are_usable,
    unknown_options_are_refused,
    wrong_values_are_refused,
)
from harness.api.checks.rules_of_values import (
    gives_one_value_per_pair,
    is_attached_to_the_graph,
    keeps_the_dtype,
    micro_batches_change_nothing,
    padding_changes_nothing,
    pair_order_changes_nothing,
    reference_and_reward_agree,
    reward_is_averaged_as_declared,
    reward_rises_with_the_log_prob,
    rewards_each_response,
)
from harness.api.errors import CheckError
from harness.api.loss import Loss

if TYPE_CHECKING:
    import pytest

__all__ = [
    "CHECKS",
    "Check",
    "CheckError",
    "Golden",
    "Kit",
    "NotApplicable",
    "Result",
    "check_loss",
    "golden_records",
    "golden_values_hold",
    "parametrize_with_checks",
    "rule",
]

Check = Callable[[Loss, Kit], None]

CHECKS: tuple[Check, ...] = (
    traits_are_well_formed,
    gives_one_value_per_pair,
    keeps_the_dtype,
    is_attached_to_the_graph,
    gradient_is_that_of_the_value,
    misranked_pairs_get_a_gradient,
    larger_margin_never_raises_the_loss,
    padding_changes_nothing,
    pair_order_changes_nothing,
    micro_batches_change_nothing,
    finite_over_its_domain,
    small_and_equal_steps_are_finite,
    an_empty_response_is_finite,
    undeclared_inputs_are_not_read,
    declared_inputs_are_read,
    keeps_no_state,
    randomness_is_an_argument,
    inputs_are_left_alone,
    rewards_each_response,
    reward_rises_with_the_log_prob,
    reward_is_averaged_as_declared,
    reference_and_reward_agree,
    every_option_acts,
    options_come_back,
    unknown_options_are_refused,
    wrong_values_are_refused,
    numbers_that_are_not_finite_are_refused,
    documented_bounds_hold,
    tuning_ranges_are_usable,
    limits_hold,
    golden_values_hold,
    is_documented,
)


def rule(check: Check) -> str:
    """Return the name of the rule."""
    return check.__name__


def check_loss(loss: Loss, kit: Kit) -> list[Result]:
    """Return the result of every check on `loss`; an error of any kind inside a check is a failure of that check."""
    results = []
    for check in CHECKS:
        try:
            check(loss, kit)
        except NotApplicable as reason:
            results.append(Result(name=rule(check), status="not applicable", message=str(reason)))
        except CheckError as failure:
            results.append(Result(name=rule(check), status="failed", message=str(failure)))
        except Exception as error:  # a broken loss may raise anything, and the other checks still run
            results.append(Result(name=rule(check), status="failed", message=f"{type(error).__name__}: {error}"))
        else:
            results.append(Result(name=rule(check), status="passed"))
    return results


def parametrize_with_checks(losses: Sequence[Loss], kit: Kit) -> pytest.MarkDecorator:
    """Return a decorator for a test with the arguments `loss` and `check`: it runs once for each loss and each check.

    The test calls `check(loss)`. Its id is `loss-check`; where the rule does not apply it is skipped with the reason.
    """
    import pytest

    cases = [
        pytest.param(loss, _as_test(check, kit), id=f"{_label(loss)}-{rule(check)}")
        for loss in losses
        for check in CHECKS
    ]
    return pytest.mark.parametrize(("loss", "check"), cases)


def _as_test(check: Check, kit: Kit) -> Callable[[Loss], None]:
    import pytest

    @wraps(check)
    def run(loss: Loss) -> None:
        try:
            check(loss, kit)
        except NotApplicable as reason:
            pytest.skip(f"{rule(check)} does not apply: {reason}")

    return run


def _label(loss: Loss) -> str:
    """Return the loss's name with those of its options that differ from their defaults."""
    import dataclasses

    changed = [
        f"{field.name}={getattr(loss, field.name)}"
        for field in dataclasses.fields(loss)
        if field.init and not isinstance(getattr(loss, field.name), Loss) and getattr(loss, field.name) != field.default
    ]
    nested = [
        f"{field.name}={_label(value)}"
        for field in dataclasses.fields(loss)
        if isinstance(value := getattr(loss, field.name), Loss) and value.name != field.metadata.get("loss")
    ]
    inside = ",".join([*nested, *changed])
    return f"{loss.name}({inside})" if inside else loss.name
