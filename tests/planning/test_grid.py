"""Selections of losses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.api import HarnessError
from harness.manager import losses, plugin_manager, resolver
from harness.planning.grid import cells, select

MANAGER = plugin_manager()
KNOWN = ["simpo", "dpo", "cpo"]


def labels(text: str) -> list[str]:
    return [system.label for system in select(text, KNOWN, resolver(MANAGER))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", ["simpo", "dpo", "cpo"]),
        ("all,-cpo", ["simpo", "dpo"]),
        ("dpo, simpo", ["dpo", "simpo"]),
        ("core,-dpo", ["simpo", "cpo", "ipo", "alphapo", "gapo", "gappo"]),
        ("simpo:beta=2.5,gamma=1.0,dpo", ["simpo(beta=2.5,gamma=1.0)", "dpo"]),
        ("gappo:base=dpo,base.beta=0.2", ["gappo(base=dpo,base.beta=0.2)"]),
        ("simpo,simpo:beta=4", ["simpo", "simpo(beta=4)"]),
        (
            "simpo:beta=1|2|4,dpo:beta=0.01|0.1",
            ["simpo(beta=1)", "simpo(beta=2)", "simpo(beta=4)", "dpo(beta=0.01)", "dpo(beta=0.1)"],
        ),
        (
            "simpo:beta=1|2,gamma=0|0.5,dpo",
            [
                *("simpo(beta=1,gamma=0)", "simpo(beta=1,gamma=0.5)", "simpo(beta=2,gamma=0)"),
                *("simpo(beta=2,gamma=0.5)", "dpo"),
            ],
        ),
        ("gappo:base=simpo|dpo", ["gappo(base=simpo)", "gappo(base=dpo)"]),
    ],
)
def test_a_selection_names_its_systems(text: str, expected: list[str]) -> None:
    assert labels(text) == expected


def test_options_reach_the_loss() -> None:
    (system,) = select("gappo:base=dpo,base.beta=0.2", KNOWN, resolver(MANAGER))
    assert system.loss.options()["base.beta"] == 0.2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "selects no loss"),
        ("all,-simpo,-dpo,-cpo", "selects no loss"),
        ("smipo", r"got loss 'smipo', expected one of .*did you mean 'simpo'"),
        ("all,-smipo", "got '-smipo', expected one of"),
        ("beta=2", "expected NAME:option=value"),
        ("simpo:beta", "expected option=value"),
        ("simpo:", "loss 'simpo': got '', expected option=value; for example simpo:beta=2.5"),
        ("simpo,-dpo,beta=2", "got options of '-dpo', which leaves a loss out"),
        ("simpo:betta=2", "has no option 'betta'; its options are beta, gamma"),
        ("simpo:beta=two", "option 'beta' got 'two', expected float"),
        ("simpo,simpo:beta=2.0", "are the same"),
        ("simpo:beta=2|2.0", "are the same"),
        ("simpo:beta=1||2", r"loss 'simpo': got beta=1\|\|2, expected values .* not empty"),
        ("simpo:beta=1|1", "not alike"),
        ("simpo:beta=1|two", "option 'beta' got 'two', expected float"),
    ],
)
def test_a_selection_that_is_off_says_so_in_one_line(text: str, words: str) -> None:
    with pytest.raises(HarnessError, match=words) as error:
        labels(text)
    assert "\n" not in str(error.value)


def test_every_cell_has_a_key_of_its_own() -> None:
    systems = select("simpo,simpo:beta=4,dpo", KNOWN, resolver(MANAGER))
    grid = cells(["qwen", "org/qwen"], systems, [0, 1])
    assert len({cell.key for cell in grid}) == len(grid) == 12


def test_a_learning_rate_of_its_own_is_another_cell_and_none_leaves_the_key_as_it_is() -> None:
    (system,) = select("simpo", KNOWN, resolver(MANAGER))
    keys = [cells(["qwen"], [replace(system, learning_rate=rate)], [0])[0].key for rate in (None, 0.001, 0.002)]
    assert len(set(keys)) == 3
    # sha256 of '["qwen", "[\\"simpo\\", {\\"beta\\": 2.0, \\"gamma\\": 0.5}]"]' begins with 5ca962: as without tuning
    assert keys[0] == "qwen--simpo--5ca962--seed0"


def test_the_options_that_were_given_are_known() -> None:
    assert [each.given for each in select("simpo:gamma=1,beta=2.5,dpo", KNOWN, resolver(MANAGER))] == [
        ("beta", "gamma"),
        (),
    ]


def test_the_seven_shipped_losses_are_found() -> None:
    assert {"simpo", "cpo", "ipo", "alphapo", "gapo", "gappo", "dpo"} <= set(losses(MANAGER))
