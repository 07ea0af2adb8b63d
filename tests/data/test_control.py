"""The control: half of the labels swapped, so that nothing is left to learn."""

from __future__ import annotations

import numpy as np

from harness.api import LoadOptions
from harness.data.control import shuffled
from harness.data.simulator.synthetic import harness_datasets

PAIRS = harness_datasets()[0].load(LoadOptions()).train
VISITED = np.sort(np.random.default_rng(0).permutation(len(PAIRS))[:384])


def test_without_a_control_no_label_is_swapped() -> None:
    assert not shuffled(PAIRS, VISITED, "none", 0).any()


def test_shuffled_labels_swaps_exactly_half_of_the_pairs_that_are_visited_and_no_other() -> None:
    swapped = shuffled(PAIRS, VISITED, "shuffled-labels", 0)
    assert swapped[VISITED].sum() == len(VISITED) / 2
    assert swapped.sum() == swapped[VISITED].sum()


def test_shuffled_labels_leave_no_surplus_of_right_ones_at_any_gap() -> None:
    gaps = np.array([PAIRS[i].score_chosen - PAIRS[i].score_rejected for i in VISITED])
    for seed in range(20):
        signs = np.where(shuffled(PAIRS, VISITED, "shuffled-labels", seed)[VISITED], -1, 1)
        assert abs((signs * gaps).sum()) < 0.02 * gaps.sum()


def test_which_half_depends_on_the_seed() -> None:
    one, other = (shuffled(PAIRS, VISITED, "shuffled-labels", seed) for seed in (0, 1))
    assert (one != other).any()
