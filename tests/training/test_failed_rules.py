"""What a record says of the rules that its loss breaks: found once per version, nothing for shipped losses."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from harness_plugins.gappo import GapPO
from harness_plugins.simpo import SimPO

from harness.api import PairLogps, Terms
from harness.api import checks as rules
from harness.manager import Owner
from harness.training.failed_rules import failed_rules


@dataclass(frozen=True, kw_only=True)
class Overflowing(SimPO):
    """log(1 + e^-x) as it is written, which overflows."""

    name: ClassVar[str] = "overflowing"

    def terms(self, pairs: PairLogps) -> Terms:
        margin = self.beta * (pairs.chosen.mean() - pairs.rejected.mean()) - self.gamma
        return Terms.of((1 + (-margin).exp()).log())


def job(cache: Path, version: str = "1.0") -> Any:
    owner = Owner(distribution="mine", version=version, entry_point="mine")
    return SimpleNamespace(cache=cache, owners={"overflowing": owner, "gappo": owner})


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The losses that were checked, by name."""
    names: list[str] = []
    real = rules.check_loss
    monkeypatch.setattr(rules, "check_loss", lambda loss, kit: names.append(loss.name) or real(loss, kit))
    return names


def test_the_rules_that_a_loss_breaks_are_told_in_words(tmp_path: Path) -> None:
    failed = failed_rules(job(tmp_path), Overflowing(beta=10.0))
    assert "finite over its domain" in failed
    assert "pair order changes nothing" not in failed


def test_a_version_of_a_loss_is_checked_once_with_the_same_options(tmp_path: Path, checked: list[str]) -> None:
    first = failed_rules(job(tmp_path), Overflowing(beta=10.0))
    assert failed_rules(job(tmp_path), Overflowing(beta=10.0)) == first
    assert checked == ["overflowing"]
    failed_rules(job(tmp_path, version="1.1"), Overflowing(beta=10.0))
    failed_rules(job(tmp_path), Overflowing(beta=9.0))
    assert len(checked) == 3


def test_shipped_losses_are_held_by_the_tests_here_and_not_checked_again(tmp_path: Path, checked: list[str]) -> None:
    assert failed_rules(job(tmp_path), GapPO(base=SimPO())) == ()
    assert not checked
    assert failed_rules(job(tmp_path), GapPO(base=Overflowing(beta=10.0)))  # what is inside counts
    assert checked == ["gappo"]


def test_a_loss_whose_source_is_not_known_is_checked_every_time(tmp_path: Path, checked: list[str]) -> None:
    typed = dataclasses.make_dataclass("Typed", [], bases=(Overflowing,), frozen=True, kw_only=True)
    typed.__module__ = "nowhere"
    for _ in range(2):
        failed_rules(job(tmp_path), typed(beta=10.0))
    assert len(checked) == 2
    assert not list(tmp_path.iterdir())
