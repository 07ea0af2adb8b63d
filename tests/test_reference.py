"""Reference log-probs are computed once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.reference import BLOCK, reference_sums


class Counted:
    """Stands for the model: pair i has the sums -i and -2i."""

    def __init__(self) -> None:
        self.asked: list[int] = []

    def __call__(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        self.asked += list(indices)
        return -np.array(indices, dtype=float), -2.0 * np.array(indices)


def test_a_second_loss_computes_nothing(tmp_path: Path) -> None:
    wanted = np.array([0, 5, 40])
    first, second = Counted(), Counted()
    one = reference_sums(tmp_path, "key", 50, wanted, first)
    two = reference_sums(tmp_path, "key", 50, wanted, second)
    assert first.asked
    assert second.asked == []
    assert (one.cached, two.cached) == (False, True)
    np.testing.assert_array_equal(two.chosen[wanted], [0, -5, -40])
    np.testing.assert_array_equal(two.rejected[wanted], [0, -10, -80])


def test_a_larger_budget_computes_only_what_is_missing(tmp_path: Path) -> None:
    reference_sums(tmp_path, "key", 3 * BLOCK, np.arange(BLOCK), Counted())
    more = Counted()
    whole = reference_sums(tmp_path, "key", 3 * BLOCK, np.arange(3 * BLOCK), more)
    assert sorted(more.asked) == list(range(BLOCK, 3 * BLOCK))
    assert not np.isnan(whole.chosen).any()


def test_the_cost_is_charged_to_whoever_uses_it_also_from_the_cache(tmp_path: Path) -> None:
    wanted = np.arange(BLOCK)
    one = reference_sums(tmp_path, "key", BLOCK, wanted, Counted())
    two = reference_sums(tmp_path, "key", BLOCK, wanted, Counted())
    assert one.seconds == two.seconds > 0


def test_another_checkpoint_or_tokenisation_has_its_own(tmp_path: Path) -> None:
    reference_sums(tmp_path, "key", 4, np.arange(4), Counted())
    other = Counted()
    reference_sums(tmp_path, "other", 4, np.arange(4), other)
    assert other.asked == [0, 1, 2, 3]
