"""Every shipped loss against every conformance check, at its defaults and at each of its choices."""

import typing
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, Literal

from golden_records import GOLDEN

from harness.api import Loss
from harness.api.checks import Kit, parametrize_with_checks
from harness.manager import losses, plugin_manager, resolver

MANAGER = plugin_manager()
KNOWN = losses(MANAGER)
RESOLVE = resolver(MANAGER)
NOT_HERE: Mapping[str, tuple[Any, ...]] = {"gapo.similarity": ("bertscore_p", "bertscore_r", "bertscore_f1")}
"""Choices that download an encoder; test_gapo.py tests them with a small one."""


def installed(name: str, options: Mapping[str, Any]) -> Loss | None:
    return RESOLVE(name, options) if name in KNOWN else None


def shipped() -> Iterator[Loss]:
    for name, cls in KNOWN.items():
        if not cls.__module__.startswith("harness_plugins."):
            continue
        loss = RESOLVE(name, {})
        yield loss
        hints = typing.get_type_hints(cls)
        for field in fields(loss):
            choices = (False, True) if hints[field.name] is bool else ()
            if typing.get_origin(hints[field.name]) is Literal:
                choices = typing.get_args(hints[field.name])
            for choice in choices:
                if choice != getattr(loss, field.name) and choice not in NOT_HERE.get(f"{name}.{field.name}", ()):
                    yield RESOLVE(name, {field.name: choice})


KIT = Kit(resolve=installed, golden=GOLDEN)


@parametrize_with_checks(list(shipped()), KIT)
def test_a_shipped_loss_does_what_every_loss_must(loss: Loss, check: Any) -> None:
    check(loss)


def test_no_shipped_loss_is_left_out() -> None:
    assert {"simpo", "cpo", "ipo", "alphapo", "gapo", "gappo", "dpo"} <= {loss.name for loss in shipped()}


def test_every_golden_value_is_of_a_shipped_loss() -> None:
    assert {record.loss for record in GOLDEN} <= set(KNOWN)
